"""What can be opened below a folder, and what cannot."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmsg_trio.apps.files._tree import UPLOAD_PREFIX, Opened, Tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / ".hidden" / "key").write_text("hidden")
    (root / "a.txt").write_text("a")
    (root / "sub" / "b.txt").write_text("b")
    return root


def read(root: Path, path: str, *, show_hidden: bool = False) -> str:
    opened = Tree(str(root), show_hidden=show_hidden).open_untrusted(path.encode().split(b"/"))
    try:
        assert not opened.is_folder
        return os.read(opened.number, 100).decode()
    finally:
        opened.close()


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
    yield
    if before:
        assert len(os.listdir("/proc/self/fd")) == len(before)


def test_files_are_found(root: Path) -> None:
    assert read(root, "a.txt") == "a"
    assert read(root, "sub/b.txt") == "b"


@pytest.mark.parametrize(
    ("place", "aim", "text"),
    [
        ("link", "a.txt", "a"),
        ("link", "sub/b.txt", "b"),
        ("link", "./sub/deep/../../a.txt", "a"),
        ("sub/link", "../a.txt", "a"),
        ("sub/deep/link", "../b.txt", "b"),
    ],
)
def test_links_that_stay_inside_are_followed(root: Path, place: str, aim: str, text: str) -> None:
    (root / place).symlink_to(aim)
    assert read(root, place) == text


def test_an_absolute_link_to_inside_is_followed(root: Path) -> None:
    (root / "link").symlink_to(root / "sub")
    assert read(root, "link/b.txt") == "b"


def test_a_link_to_the_root_itself_is_a_folder(root: Path) -> None:
    (root / "sub" / "up").symlink_to("..")
    assert read(root, "sub/up/a.txt") == "a"
    assert read(root, "sub/up/sub/up/sub/b.txt") == "b"


@pytest.mark.parametrize(
    ("aim", "path"),
    [
        ("../outside/secret.txt", "link"),
        ("../outside", "link/secret.txt"),
        ("sub/../../outside/secret.txt", "link"),
        ("../root/a.txt", "link"),  # it ends inside, but it leads outside
        ("/etc/passwd", "link"),
        ("/", "link/etc/passwd"),
        ("/proc/self/root", "link/etc/passwd"),
        ("link", "link"),
        (".hidden/key", "link"),
        (".hidden", "link/key"),
        ("nowhere", "link"),
    ],
)
def test_links_that_lead_elsewhere_are_not_there(root: Path, aim: str, path: str) -> None:
    (root / "link").symlink_to(aim)
    with pytest.raises(OSError, match=r"No such file|Too many levels"):
        read(root, path)


def test_a_link_to_a_folder_whose_name_begins_like_the_root_leads_outside(root: Path) -> None:
    beside = root.with_name("root-and-more")
    beside.mkdir()
    (beside / "x").write_text("x")
    (root / "link").symlink_to(beside / "x")
    with pytest.raises(FileNotFoundError):
        read(root, "link")


def test_chains_of_links_end(root: Path) -> None:
    (root / "link-0").symlink_to("a.txt")
    for number in range(60):
        (root / f"link-{number + 1}").symlink_to(f"link-{number}")
    assert read(root, "link-30") == "a"
    with pytest.raises(OSError, match="Too many levels"):
        read(root, "link-60")


def test_the_root_may_be_a_link_that_changes(root: Path, tmp_path: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to(root / "sub")
    assert read(current, "b.txt") == "b"
    current.unlink()
    current.symlink_to(root)
    assert read(current, "a.txt") == "a"


@pytest.mark.parametrize("path", [".hidden/key", ".hidden", "sub/.x"])
def test_names_with_a_dot_are_hidden_unless_they_are_wanted(root: Path, path: str) -> None:
    (root / "sub" / ".x").write_text("x")
    with pytest.raises(FileNotFoundError):
        read(root, path)


def test_hidden_names_can_be_wanted(root: Path) -> None:
    assert read(root, ".hidden/key", show_hidden=True) == "hidden"


def test_what_is_not_whole_is_never_there(root: Path) -> None:
    name = (UPLOAD_PREFIX + b"123").decode()
    (root / name).write_text("half")
    with pytest.raises(FileNotFoundError):
        read(root, name, show_hidden=True)
    assert name not in names_in(root, show_hidden=True)


def test_special_files_are_not_there_and_nobody_waits_for_them(root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "link").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.getcwd()
        os.chdir(root)  # names of sockets are short
        try:
            sock.bind("socket")
        finally:
            os.chdir(here)
        for path in ("fifo", "link", "socket", "fifo/x"):
            with pytest.raises(FileNotFoundError):
                read(root, path)
        assert names_in(root) == {"a.txt", "sub"}


def test_a_file_has_nothing_below_it(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(root, "a.txt/x")


def test_a_name_that_is_too_long_is_an_error(root: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        read(root, "x" * 256)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_said_to_be_so(root: Path) -> None:
    (root / "a.txt").chmod(0)
    with pytest.raises(PermissionError):
        read(root, "a.txt")


def names_in(root: Path, *way: bytes, show_hidden: bool = False) -> set[str]:
    tree = Tree(str(root), show_hidden=show_hidden)
    folder: Opened = tree.open_untrusted(way)
    try:
        return {os.fsdecode(entry.name) for entry in tree.list(folder, way, 1000)}
    finally:
        folder.close()


def test_a_folder_shows_what_can_be_had_of_it(root: Path) -> None:
    (root / "in").symlink_to("sub")
    (root / "out").symlink_to("../outside")
    (root / "loop").symlink_to("loop")
    assert names_in(root) == {"a.txt", "sub", "in"}
    assert names_in(root, show_hidden=True) == {"a.txt", "sub", "in", ".hidden"}
    assert names_in(root, b"sub") == {"b.txt", "deep"}


def test_a_listing_is_bounded(root: Path) -> None:
    for number in range(20):
        (root / "sub" / "deep" / str(number)).touch()
    tree = Tree(str(root))
    folder = tree.open_untrusted([b"sub", b"deep"])
    assert len(tree.list(folder, [b"sub", b"deep"], 7)) == 7
    folder.close()
