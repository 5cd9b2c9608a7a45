"""Paths of requests, the honest and the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio.apps.files._target import (
    MAX_DEPTH,
    NoSuchNameError,
    NotAPathError,
    path_of,
    target_untrusted,
)

names = st.binary(min_size=1, max_size=20).filter(
    lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name
)


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("/", "/"),
        ("/a.txt", "/a.txt"),
        ("/sub/", "/sub/"),
        ("//a.txt", "/a.txt"),
        ("/sub//a.txt", "/sub/a.txt"),
        ("/sub//", "/sub/"),
        ("/sub/../a.txt", "/a.txt"),
        ("/sub/..", "/"),
        ("/sub/.", "/sub/"),
        ("/./a.txt", "/a.txt"),
        ("/../../a.txt", "/a.txt"),
        ("/%2e%2e/a.txt", "/a.txt"),
        ("/%2E./%2e%2E/a.txt", "/a.txt"),
        ("/a/%2e%2e/%2e%2e/%2e%2e/b", "/b"),
        ("/..%5coutside.txt", "/..%5Coutside.txt"),  # one name, with a backslash in it
        ("/...", "/..."),
        ("/%252e%252e/a.txt", "/%252e%252e/a.txt"),  # once is often enough
        ("/a%20b", "/a%20b"),
        ("/%zz", "/%25zz"),
        ("//host.example/x", "/host.example/x"),
        ("http://host/x/../y", "/y"),
        ("dmsg://key:80", "/"),
        ("HTTP://host//x", "/x"),
    ],
)
def test_a_path_is_cleaned_and_never_leads_above_the_root(path: str, clean: str) -> None:
    target = target_untrusted(path.encode())
    assert target.path == clean
    assert target_untrusted(clean.encode()).path == clean
    assert target_untrusted(clean.encode()).is_clean


@pytest.mark.parametrize("path", ["/a%2fb", "/a%2Fb/", "/..%2foutside", "/%2f", "/a%00", "/%00/x"])
def test_a_slash_or_nul_behind_a_percent_sign_is_in_no_name(path: str) -> None:
    with pytest.raises(NoSuchNameError):
        target_untrusted(path.encode())


@pytest.mark.parametrize("path", ["", "*", "a.txt", "host:80", "../x", "ftp://host/x", "\\x"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(NotAPathError):
        target_untrusted(path.encode())


def test_depth_is_bounded() -> None:
    assert len(target_untrusted(b"/a" * MAX_DEPTH).names) == MAX_DEPTH
    with pytest.raises(NoSuchNameError, match="101"):
        target_untrusted(b"/a" * (MAX_DEPTH + 1))


@given(st.lists(names, max_size=5), st.booleans())
def test_every_name_has_a_path(way: list[bytes], is_folder: bool) -> None:
    target = target_untrusted(path_of(way, is_folder=is_folder).encode())
    assert target.names == tuple(way)
    assert target.is_folder == (is_folder or not way)
    assert target.is_clean


@given(st.binary(max_size=60))
def test_whatever_comes_is_a_target_below_the_root_or_an_error(path: bytes) -> None:
    try:
        target = target_untrusted(b"/" + path)
    except NoSuchNameError:
        return
    assert not {b"", b".", b".."} & set(target.names)
    assert target.path.startswith("/")
    assert not target.path.startswith("//")
