"""Files as answers: whole, in parts, compressed, unchanged, and not if they change on the way."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import lockstep_stream_pair, wait_all_tasks_blocked

from dmsg_trio._asgi.files import PIECE
from dmsg_trio.apps.files import Answered, FilesApp
from dmsg_trio.apps.files._types import content_type_of
from tests.apps.files.asking import CLIENT, ask
from tests.asgi.test_files import asked, receive_exactly

TEXT = "".join(f"line {number}\n" for number in range(1000)).encode()
LARGE = os.urandom(6 * PIECE + 12345)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "small.txt").write_bytes(b"Hello, world!")
    (tmp_path / "text.txt").write_bytes(TEXT)
    (tmp_path / "large.bin").write_bytes(LARGE)
    (tmp_path / "empty.bin").touch()
    return tmp_path


@pytest.fixture
def app(root: Path) -> FilesApp:
    return FilesApp(str(root))


# ---- whole ----


async def test_a_file_comes_with_what_is_known_of_it(app: FilesApp, root: Path) -> None:
    os.utime(root / "small.txt", (1_700_000_000, 1_700_000_000))
    reply = await ask(app, "/small.txt")
    assert (reply.status, reply.body) == (200, b"Hello, world!")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["content-length"] == "13"
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["etag"].startswith('"')


@pytest.mark.parametrize("name", ["large.bin", "empty.bin"])
async def test_all_of_a_file_comes(app: FilesApp, root: Path, name: str) -> None:
    reply = await ask(app, f"/{name}")
    assert reply.is_whole
    assert reply.body == (root / name).read_bytes()


async def test_a_head_is_the_same_without_the_body(app: FilesApp) -> None:
    get, head = await ask(app, "/large.bin"), await ask(app, "/large.bin", method="HEAD")
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")
    assert head.is_whole


async def test_reading_works_where_the_system_cannot_tell_what_is_in_memory(
    app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    assert (await ask(app, "/large.bin")).body == LARGE


async def test_a_huge_file_with_holes_is_no_trouble(app: FilesApp, root: Path) -> None:
    with (root / "huge.bin").open("wb") as file:
        file.truncate(2**42)
        file.seek(2**42 - 3)
        file.write(b"end")
    head = await ask(app, "/huge.bin", method="HEAD")
    assert head.headers["content-length"] == str(2**42)
    reply = await ask(app, "/huge.bin", headers={"Range": "bytes=-5"})
    assert reply.body == b"\0\0end"
    assert reply.headers["content-range"] == f"bytes {2**42 - 5}-{2**42 - 1}/{2**42}"


# ---- parts ----


async def test_a_part(app: FilesApp) -> None:
    reply = await ask(app, "/large.bin", headers={"Range": f"bytes=7-{PIECE + 9}"})
    assert (reply.status, reply.body) == (206, LARGE[7 : PIECE + 10])
    assert reply.headers["content-range"] == f"bytes 7-{PIECE + 9}/{len(LARGE)}"


async def test_several_parts_are_parts_of_a_message(app: FilesApp) -> None:
    reply = await ask(app, "/large.bin", headers={"Range": "bytes=-4, 0-3, 2-9, 600000-1200000"})
    assert reply.status == 206
    boundary = reply.headers["content-type"].removeprefix("multipart/byteranges; boundary=")
    before, *parts, end = (b"\r\n" + reply.body).split(f"\r\n--{boundary}".encode())
    assert (before, end) == (b"", b"--\r\n")
    size = len(LARGE)
    kind = b"\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes "
    assert parts == [
        kind + f"0-9/{size}\r\n\r\n".encode() + LARGE[:10],
        kind + f"600000-1200000/{size}\r\n\r\n".encode() + LARGE[600000:1200001],
        kind + f"{size - 4}-{size - 1}/{size}\r\n\r\n".encode() + LARGE[-4:],
    ]


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("bytes=13-", "invalid range: failed to overlap\n"),
        ("bytes=-0", "invalid range: failed to overlap\n"),
        ("bytes=x", "invalid range\n"),
    ],
)
async def test_what_is_not_there_is_refused_as_the_reference_does(
    app: FilesApp, wanted: str, text: str
) -> None:
    reply = await ask(app, "/small.txt", headers={"Range": wanted})
    assert (reply.status, reply.body.decode()) == (416, text)
    assert reply.headers["content-range"] == "bytes */13"


async def test_many_tiny_ranges_cost_one_file_at_most(app: FilesApp) -> None:
    wanted = "bytes=" + ",".join(["0-"] * 4000)
    assert (await ask(app, "/large.bin", headers={"Range": wanted})).body == LARGE


# ---- conditions ----


async def validators(app: FilesApp) -> dict[str, str]:
    return (await ask(app, "/text.txt")).headers


async def test_who_has_a_file_already_gets_nothing(app: FilesApp) -> None:
    known = await validators(app)
    for headers in (
        {"If-None-Match": known["etag"]},
        {"If-None-Match": f'"other", W/{known["etag"]}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": known["last-modified"]},
        {"If-None-Match": known["etag"], "Range": "bytes=0-1"},
        # The tag counts, and not the date.
        {"If-None-Match": known["etag"], "If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
    ):
        reply = await ask(app, "/text.txt", headers=headers)
        assert (reply.status, reply.body) == (304, b"")
        assert reply.headers["etag"] == known["etag"]
        assert "content-length" not in reply.headers


async def test_who_has_another_file_gets_this_one(app: FilesApp) -> None:
    for headers in (
        {"If-None-Match": '"other"'},
        {"If-None-Match": '"other"', "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If-Modified-Since": "some day"},
        {"If-Modified-Since": "Thu, 99 Jan 99999999999999999999 00:00:00 GMT"},
    ):
        assert (await ask(app, "/text.txt", headers=headers)).status == 200


async def test_who_wants_this_very_file_gets_no_other(app: FilesApp) -> None:
    known = await validators(app)
    for name, value, status in (
        ("If-Match", known["etag"], 200),
        ("If-Match", f'"x", {known["etag"]}', 200),
        ("If-Match", "*", 200),
        ("If-Match", '"x"', 412),
        ("If-Match", f"W/{known['etag']}", 412),
        ("If-Unmodified-Since", known["last-modified"], 200),
        ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT", 412),
    ):
        assert (await ask(app, "/text.txt", headers={name: value})).status == status, value


async def test_a_part_of_another_file_is_never_sent(app: FilesApp, root: Path) -> None:
    known = await validators(app)
    part = {"Range": "bytes=5-"}
    for value in (known["etag"], known["last-modified"]):
        assert (await ask(app, "/text.txt", headers={**part, "If-Range": value})).status == 206
    (root / "text.txt").write_bytes(TEXT.upper())
    os.utime(root / "text.txt", (5, 5))
    for value in (known["etag"], known["last-modified"], f"W/{known['etag']}", '"', ""):
        reply = await ask(app, "/text.txt", headers={**part, "If-Range": value})
        assert (reply.status, reply.body) == (200, TEXT.upper())


async def test_a_file_that_takes_the_name_has_another_tag(app: FilesApp, root: Path) -> None:
    known = await validators(app)
    status = (root / "text.txt").stat()
    (root / "new").write_bytes(TEXT.upper())
    os.utime(root / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (root / "new").rename(root / "text.txt")
    assert (await validators(app))["etag"] != known["etag"]


# ---- compressed ----

GZIP = {"Accept-Encoding": "br, gzip;q=0.8"}


async def test_text_is_compressed_for_who_can_read_it(app: FilesApp) -> None:
    plain = await ask(app, "/text.txt")
    reply = await ask(app, "/text.txt", headers=GZIP)
    assert gzip.decompress(reply.body) == TEXT
    assert len(reply.body) < len(TEXT) / 3
    assert reply.headers["content-encoding"] == "gzip"
    assert reply.headers["etag"] == "W/" + plain.headers["etag"]
    assert reply.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert not {"content-length", "accept-ranges"} & set(reply.headers)


@pytest.mark.parametrize(
    "value", ["", "identity", "gzip;q=0", "br", "gzip;q=x", "*;q=0", "gzip;q=0, *"]
)
async def test_who_cannot_read_it_gets_it_as_it_is(app: FilesApp, value: str) -> None:
    reply = await ask(app, "/text.txt", headers={"Accept-Encoding": value})
    assert "content-encoding" not in reply.headers
    assert reply.body == TEXT


@pytest.mark.parametrize("name", ["large.bin", "small.txt", "empty.bin"])
async def test_what_would_not_shrink_is_sent_as_it_is(app: FilesApp, name: str) -> None:
    assert "content-encoding" not in (await ask(app, f"/{name}", headers=GZIP)).headers


async def test_parts_are_parts_of_the_file_as_it_is(app: FilesApp) -> None:
    reply = await ask(app, "/text.txt", headers={**GZIP, "Range": "bytes=3-5"})
    assert (reply.status, reply.body) == (206, TEXT[3:6])


async def test_a_compressed_copy_is_recognised_and_never_continued(app: FilesApp) -> None:
    weak = (await ask(app, "/text.txt", headers=GZIP)).headers["etag"]
    assert (await ask(app, "/text.txt", headers={**GZIP, "If-None-Match": weak})).status == 304
    reply = await ask(app, "/text.txt", headers={"Range": "bytes=3-", "If-Range": weak})
    assert reply.status == 200


async def test_no_more_answers_are_compressed_at_once_than_there_is_time_for(
    app: FilesApp,
) -> None:
    encodings: list[str] = []
    coming, everybody_is_there = 10, trio.Event()

    async def wait(piece: int) -> None:
        nonlocal coming
        coming -= piece == 1
        if not coming:
            everybody_is_there.set()
        await everybody_is_there.wait()

    async def one() -> None:
        reply = await ask(app, "/text.txt", headers=GZIP, after_piece=wait)
        encodings.append(reply.headers.get("content-encoding", ""))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert sorted(encodings) == [""] * 6 + ["gzip"] * 4
    assert "content-encoding" in (await ask(app, "/text.txt", headers=GZIP)).headers


# ---- changes on the way ----


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.truncate(path, 10),
        lambda path: path.write_bytes(os.urandom(len(LARGE))),
        lambda path: path.write_bytes(LARGE + b"more"),
        lambda path: append(path, b"more"),
        os.utime,
    ],
    ids=["shorter", "rewritten", "longer", "appended", "touched"],
)
async def test_a_file_that_changes_breaks_the_answer(
    app: FilesApp, root: Path, change: Callable[[Path], object]
) -> None:
    async def meddle(piece: int) -> None:
        if piece == 1:
            change(root / "large.bin")

    reply = await ask(app, "/large.bin", after_piece=meddle)
    assert reply.status == 200
    assert not reply.is_whole
    assert len(reply.body) < len(LARGE)


async def test_a_text_that_changes_breaks_the_compressed_answer(app: FilesApp, root: Path) -> None:
    (root / "long.txt").write_bytes(os.urandom(PIECE).hex().encode())

    async def meddle(piece: int) -> None:
        if piece == 1:
            os.truncate(root / "long.txt", 10)

    reply = await ask(app, "/long.txt", headers=GZIP, after_piece=meddle)
    assert reply.headers["content-encoding"] == "gzip"
    assert not reply.is_whole


async def test_another_file_of_the_name_does_not_matter(app: FilesApp, root: Path) -> None:
    async def replace(piece: int) -> None:
        if piece == 1:
            (root / "new").write_bytes(b"new")
            (root / "new").rename(root / "large.bin")

    assert (await ask(app, "/large.bin", after_piece=replace)).body == LARGE
    assert (await ask(app, "/large.bin")).body == b"new"


async def test_nothing_is_read_for_a_client_that_is_gone(root: Path) -> None:
    told: list[Answered] = []
    app = FilesApp(str(root), on_answered=told.append)

    async def stall(_piece: int) -> None:
        await trio.sleep_forever()

    with trio.fail_after(5):
        reply = await ask(app, "/large.bin", goes_early=True, after_piece=stall)
    assert not reply.is_whole
    assert not told[0].is_whole
    assert told[0].size <= PIECE


async def test_a_send_that_fails_ends_the_answer(root: Path) -> None:
    told: list[Answered] = []

    async def fail(_piece: int) -> None:
        raise BrokenPipeError("gone")

    reply = await ask(FilesApp(str(root), on_answered=told.append), "/large.bin", after_piece=fail)
    assert len(reply.pieces) == 1
    assert (told[0].status, told[0].is_whole) == (200, False)


async def test_each_request_is_told_of(root: Path) -> None:
    told: list[Answered] = []
    app = FilesApp(str(root), on_answered=told.append)
    await ask(app, "/small.txt?x=1")
    await ask(app, "/nothing", method="HEAD")
    await ask(app, "/small.txt", method="DELETE")
    assert [(each.method, each.path, each.status, each.size, each.is_whole) for each in told] == [
        ("GET", "/small.txt?x=1", 200, 13, True),
        ("HEAD", "/nothing", 404, 0, True),
        ("DELETE", "/small.txt", 405, 19, True),
    ]
    assert told[0].client == str(CLIENT)
    assert 0 <= told[0].seconds < 5


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("A.TXT", "text/plain; charset=utf-8"),
        ("README", "text/plain; charset=utf-8"),
        ("main.rs", "text/plain; charset=utf-8"),
        ("a.md", "text/markdown; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.mp4", "video/mp4"),
        ("a.tar.gz", "application/gzip"),
        ("a.pdf", "application/pdf"),
        ("unknown", "application/octet-stream"),
        ("a.exotic", "application/octet-stream"),
    ],
)
def test_types_go_by_the_name(name: str, content_type: str) -> None:
    assert content_type_of(name.encode()) == content_type


async def test_the_log_has_what_went_out_of_an_answer_that_broke_off(root: Path) -> None:
    answered: list[Answered] = []
    app = FilesApp(str(root), on_answered=answered.append)
    request = b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n"
    async with asked(app, request, pair=lockstep_stream_pair()) as stream:
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        await receive_exactly(stream, 2 * PIECE + 1)
        await trio.aclose_forcefully(stream)
        await wait_all_tasks_blocked()
        assert [(each.size, each.is_whole) for each in answered] == [(2 * PIECE, False)]
