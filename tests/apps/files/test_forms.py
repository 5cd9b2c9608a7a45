"""Forms as they come, in whatever pieces; and the files in them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio.apps.files import FilesApp, UploadOptions
from dmsg_trio.apps.files._forms import (
    MAX_HEAD,
    MAX_PARTS,
    Event,
    Form,
    FormError,
    PartBegun,
    PartData,
    PartEnded,
    boundary_untrusted,
)
from dmsg_trio.apps.files._uploading import harmless_name_untrusted
from tests.apps.files.asking import Reply, ask
from tests.apps.files.test_uploading import everything_in

B = b"bou"
TYPE = "multipart/form-data; boundary=bou"


def part(content: bytes, filename: str | None = None, name: str = "file") -> bytes:
    given = "" if filename is None else f'; filename="{filename}"'
    head = f'Content-Disposition: form-data; name="{name}"{given}\r\nContent-Type: a/b\r\n\r\n'
    return b"--bou\r\n" + head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--bou--\r\n"


def read(pieces: list[bytes]) -> list[tuple[bytes | None, bytes]]:
    """Read a form: the parts that are whole, and what they are called."""
    reader, events = Form(B), list[Event]()
    for piece in pieces:
        events += reader.receive_data_untrusted(piece)
    assert reader.is_whole
    found: list[tuple[bytes | None, bytes]] = []
    name: bytes | None = None
    data = b""
    for event in events:
        match event:
            case PartBegun(name):
                data = b""
            case PartData(more):
                data += more
            case PartEnded():
                found.append((name, data))
    return found


# ---- the format ----


@pytest.mark.parametrize(
    ("text", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data;charset=x; Boundary="a b"', b"a b"),
        ("multipart/form-data", None),
        ("multipart/mixed; boundary=abc", None),
        ("", None),
    ],
)
def test_the_header_says_what_stands_between_the_parts(text: str, boundary: bytes | None) -> None:
    assert boundary_untrusted(text) == boundary


CONTENTS = st.lists(st.sampled_from([b"\r", b"\n", b"--", b"bou", b"\r\n--bo", b"x"]), max_size=12)


@given(st.lists(CONTENTS.map(b"".join).filter(lambda text: b"\r\n--bou" not in b"\r\n" + text)))
def test_pieces_do_not_matter(contents: list[bytes]) -> None:
    data = b"before\r\n" * (len(contents) % 2) + form(*(part(each, "n") for each in contents))
    whole = read([data + b"after"])
    assert whole == [(b"n", each) for each in contents]
    assert read([data[at : at + 1] for at in range(len(data))]) == whole


@given(st.lists(st.sampled_from([b"--bou", b"\r\n", b"--", b"x", part(b"y", "n")])).map(b"".join))
def test_whatever_comes_is_a_form_or_an_error(data: bytes) -> None:
    reader = Form(B)
    with suppress(FormError):
        begun = ended = 0
        for event in reader.receive_data_untrusted(data):
            begun += isinstance(event, PartBegun)
            ended += isinstance(event, PartEnded)
            assert begun - ended in (0, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"--bou\r\n" + b"x" * (MAX_HEAD + 1),
        b"--bou\r\nContent-Type: a/b\r\n\r\n",
        b"--bou ...",
        part(b"") * (MAX_PARTS + 1),
    ],
)
def test_what_no_form_has_is_an_error(data: bytes) -> None:
    with pytest.raises(FormError):
        Form(B).receive_data_untrusted(data)


def test_of_a_large_part_no_more_is_kept_than_may_be_a_boundary() -> None:
    reader = Form(B)
    reader.receive_data_untrusted(b"--bou\r\nContent-Disposition: form-data\r\n\r\n")
    for _ in range(10):
        reader.receive_data_untrusted(b"\r\n--bo" * 1000)
        assert len(reader._incoming) < len(b"\r\n--bou")


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (b"a b.txt", b"a b.txt"),
        (b"../../etc/passwd", b"passwd"),
        (rb"C:\Users\me\a.txt", b"a.txt"),
        (b"a\r\nb\x00", b"ab"),
        (b"..", b""),
        (b"x/", b""),
        ("ä.txt".encode(), "ä.txt".encode()),
    ],
)
def test_a_name_leads_nowhere(chosen: bytes, name: bytes) -> None:
    assert harmless_name_untrusted(chosen) == name


# ---- the files ----


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "old.txt").write_text("old")
    return root


def app_of(root: Path, *, overwrite: bool = False) -> FilesApp:
    return FilesApp(str(root), uploads=UploadOptions(max_size=10**6, overwrite=overwrite))


async def post(app: FilesApp, path: str, *pieces: bytes, **headers: str) -> Reply:
    named = {"content-type": TYPE, "host": "me", **headers}
    return await ask(app, path, method="POST", body=pieces, headers=named)


async def test_the_files_of_a_form_are_taken(root: Path) -> None:
    data = form(part(b"one", "1.txt"), part(b"no file"), part(b"", ""), part(b"\0" * 99, "2 x"))
    reply = await post(app_of(root), "/sub/", data[:100], data[100:])
    assert (reply.status, reply.body) == (201, b"/sub/1.txt\n/sub/2%20x\n")
    assert everything_in(root) == {"old.txt", "sub", "sub/1.txt", "sub/2 x"}
    assert (root / "sub" / "2 x").read_bytes() == b"\0" * 99


async def test_a_browser_sees_the_folder_again(root: Path) -> None:
    data = form(part(b"one", "1.txt"))
    reply = await post(app_of(root), "/sub/", data, accept="text/html,*/*", origin="http://me")
    assert (reply.status, reply.headers["location"]) == (303, "/sub/")
    assert "sub/1.txt" in everything_in(root)


@pytest.mark.parametrize("origin", ["http://other", "null", "http://me:81"])
async def test_a_form_of_another_site_is_refused(root: Path, origin: str) -> None:
    reply = await post(app_of(root), "/", form(part(b"one", "1.txt")), origin=origin)
    assert reply.status == 403
    assert everything_in(root) == {"old.txt", "sub"}


async def test_what_is_there_stays_unless_it_may_be_replaced(root: Path) -> None:
    data = form(part(b"new", "old.txt"))
    assert (await post(app_of(root), "/", data)).status == 409
    assert (root / "old.txt").read_text() == "old"
    assert (await post(app_of(root, overwrite=True), "/", data)).status == 201
    assert (root / "old.txt").read_text() == "new"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (form(part(b"x" * (10**6 + 1), "large")), 413),
        (form(part(b"x", ".hidden")), 403),
        (
            part(b"x", "whole") + b'--bou\r\nContent-Disposition: form-data; filename="n"\r\n\r\nx',
            400,
        ),
        (b"--bou ", 400),
    ],
)
async def test_a_form_that_is_refused_leaves_no_piece_of_a_file(
    root: Path, data: bytes, status: int
) -> None:
    reply = await post(app_of(root), "/", data)
    assert reply.status == status
    assert everything_in(root) - {"whole"} == {"old.txt", "sub"}


async def test_only_forms_with_files_are_posted_and_only_to_folders(root: Path) -> None:
    app = app_of(root)
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert (await post(app, "/", b"a=1", **kind)).status == 415
    assert (await post(app, "/old.txt", form(part(b"x", "x")))).status == 404
    assert (await post(app, "/none/", form(part(b"x", "x")))).status == 404


async def test_who_goes_early_leaves_nothing(root: Path) -> None:
    data = form(part(os.urandom(5000), "new"))[:4000]
    app = app_of(root)
    headers = {"content-type": TYPE}
    await ask(app, "/", method="POST", body=[data], headers=headers, goes_early=True)
    assert everything_in(root) == {"old.txt", "sub"}
