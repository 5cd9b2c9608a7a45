"""Uploads: whole under their name, or nothing at all."""

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from dmsg_trio.apps.files import FilesApp, UploadOptions
from dmsg_trio.apps.files._arriving import BATCH
from dmsg_trio.apps.files._uploading import MAX_UPLOADS
from tests.apps.files.asking import Reply, ask

DATA = os.urandom(2 * BATCH + 1234)
PIECES = [DATA[start : start + 65536] for start in range(0, len(DATA), 65536)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "old.txt").write_text("old")
    return root


def app_of(root: Path, *, overwrite: bool = False, max_size: int = 10**7) -> FilesApp:
    return FilesApp(str(root), uploads=UploadOptions(max_size=max_size, overwrite=overwrite))


async def put(app: FilesApp, path: str, *pieces: bytes, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await ask(app, path, method="PUT", body=pieces, headers=named)


def everything_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


async def test_a_file_is_taken_and_can_be_had(root: Path) -> None:
    app = app_of(root)
    reply = await put(app, "/sub/new%20file.bin", *PIECES, content_length=str(len(DATA)))
    assert (reply.status, reply.headers["location"]) == (201, "/sub/new%20file.bin")
    got = await ask(app, "/sub/new%20file.bin")
    assert (got.body, got.headers["etag"]) == (DATA, reply.headers["etag"])
    assert everything_in(root) == {"old.txt", "sub", "sub/new file.bin"}


async def test_a_new_file_has_the_rights_of_any_new_file(root: Path) -> None:
    before = os.umask(0o027)
    try:
        await put(app_of(root), "/new.txt", b"x")
    finally:
        os.umask(before)
    assert (root / "new.txt").stat().st_mode & 0o777 == 0o640


async def test_an_empty_file_is_a_file(root: Path) -> None:
    assert (await put(app_of(root), "/empty")).status == 201
    assert (root / "empty").read_bytes() == b""


async def test_files_are_not_replaced(root: Path) -> None:
    reply = await put(app_of(root), "/old.txt", b"new")
    assert reply.status == 409
    assert (root / "old.txt").read_text() == "old"
    assert everything_in(root) == {"old.txt", "sub"}


async def test_files_are_replaced_if_that_is_wanted(root: Path) -> None:
    app = app_of(root, overwrite=True)
    reply = await put(app, "/old.txt", b"new")
    assert (reply.status, reply.body) == (204, b"")
    assert (root / "old.txt").read_text() == "new"


async def test_a_client_can_say_which_file_it_means_to_replace(root: Path) -> None:
    app = app_of(root, overwrite=True)
    tag = (await ask(app, "/old.txt")).headers["etag"]
    for headers, status in (
        ({"if_none_match": "*"}, 412),
        ({"if_match": '"other"'}, 412),
        ({"if_match": tag}, 204),
        ({"if_match": tag}, 412),  # it is another one by now
    ):
        assert (await put(app, "/old.txt", b"new", **headers)).status == status
    assert (await put(app, "/new.txt", b"new", if_match="*")).status == 412
    assert (await put(app, "/new.txt", b"new", if_none_match="*")).status == 201


async def test_a_name_that_is_taken_meanwhile_is_not_taken_away(root: Path) -> None:
    app = app_of(root)
    upload = _Slow(app, "/new.txt")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload.run)
        await upload.send(b"mine")
        (root / "new.txt").write_text("theirs")
        await upload.send(b"")
    assert upload.status == 409
    assert (root / "new.txt").read_text() == "theirs"
    assert everything_in(root) == {"old.txt", "sub", "new.txt"}


@pytest.mark.parametrize("names", [errno.EPERM, errno.EOPNOTSUPP])
async def test_files_with_one_name_only_will_do(
    root: Path, names: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(names, os.strerror(names))

    monkeypatch.setattr(os, "link", link)
    assert (await put(app_of(root), "/new.txt", b"new")).status == 201
    assert (root / "new.txt").read_text() == "new"
    assert (await put(app_of(root), "/new.txt", b"newer")).status == 409
    assert everything_in(root) == {"old.txt", "sub", "new.txt"}


# ---- what is not taken ----


async def test_uploads_have_to_be_allowed(root: Path) -> None:
    assert (await put(FilesApp(str(root)), "/new.txt", b"x")).status == 405
    assert everything_in(root) == {"old.txt", "sub"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 409),
        ("/sub/", 409),
        ("/sub", 409),
        ("/nowhere/new.txt", 404),
        ("/old.txt/new.txt", 404),
        ("/.hidden", 403),
        ("/.dmsghttp-upload-1", 403),
        ("/a%2fb", 404),
        ("/a%00", 404),
        ("/%2e%2e%2fx", 404),
        ("/" + "x" * 300, 404),
        ("/out/new.txt", 404),
        ("/fifo", 409),
    ],
)
async def test_places_that_are_not_for_files(root: Path, path: str, status: int) -> None:
    (root / "out").symlink_to("..")
    os.mkfifo(root / "fifo")
    before = everything_in(root.parent)
    assert (await put(app_of(root, overwrite=True), path, b"x")).status == status
    assert everything_in(root.parent) == before


async def test_two_dots_lead_no_higher_than_the_root(root: Path) -> None:
    assert (await put(app_of(root), "/../../new.txt", b"x")).status == 201
    assert everything_in(root.parent) == {"root", "root/old.txt", "root/sub", "root/new.txt"}


async def test_a_link_is_replaced_and_not_what_it_leads_to(root: Path) -> None:
    (root.parent / "outside.txt").write_text("outside")
    (root / "link").symlink_to("../outside.txt")
    (root / "dangling").symlink_to("../nothing.txt")
    assert (await put(app_of(root), "/link", b"new")).status == 409
    assert (await put(app_of(root), "/dangling", b"new")).status == 409
    assert (await put(app_of(root, overwrite=True), "/link", b"new")).status == 204
    assert (root.parent / "outside.txt").read_text() == "outside"
    assert (root / "link").read_text() == "new"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_range": "bytes 0-1/5"}, 400),
        ({"content_encoding": "gzip"}, 415),
        ({"content_length": "101"}, 413),
        ({"content_length": "9" * 4000}, 413),
    ],
)
async def test_heads_that_are_refused(root: Path, headers: dict[str, str], status: int) -> None:
    reply = await put(app_of(root, max_size=100), "/new.txt", b"x", **headers)
    assert reply.status == status
    assert everything_in(root) == {"old.txt", "sub"}


async def test_what_becomes_too_large_is_refused_and_gone(root: Path) -> None:
    app = app_of(root, max_size=len(DATA) - 1)
    assert (await put(app, "/new.bin", *PIECES)).status == 413
    assert everything_in(root) == {"old.txt", "sub"}
    assert (await put(app_of(root, max_size=len(DATA)), "/new.bin", *PIECES)).status == 201


@pytest.mark.parametrize("length", [str(len(DATA)), ""])
async def test_half_an_upload_leaves_nothing(root: Path, length: str) -> None:
    reply = await ask(
        app_of(root),
        "/new.bin",
        method="PUT",
        body=PIECES[:20],
        headers={"Content-Length": length} if length else {},
        goes_early=True,
    )
    assert reply.status == 0
    assert everything_in(root) == {"old.txt", "sub"}


async def test_a_body_of_another_length_leaves_nothing(root: Path) -> None:
    assert (await put(app_of(root), "/new.bin", b"four", content_length="5")).status == 0
    assert everything_in(root) == {"old.txt", "sub"}


async def test_a_cancelled_upload_leaves_nothing(root: Path) -> None:
    upload = _Slow(app_of(root), "/new.txt")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload.run)
        await upload.send(DATA)
        assert len(everything_in(root)) == 3  # it is there, under a name that nobody gets
        nursery.cancel_scope.cancel()
    assert everything_in(root) == {"old.txt", "sub"}


async def test_an_upload_that_stalls_is_given_up(
    root: Path, autojump_clock: trio.testing.MockClock
) -> None:
    upload = _Slow(app_of(root), "/new.txt")
    await upload.run()
    assert upload.status == 408
    assert everything_in(root) == {"old.txt", "sub"}


async def test_uploads_at_once_are_bounded(root: Path) -> None:
    app = app_of(root)
    uploads = [_Slow(app, f"/{number}") for number in range(MAX_UPLOADS)]
    async with trio.open_nursery() as nursery:
        for upload in uploads:
            nursery.start_soon(upload.run)
            await upload.send(b"x")
        assert (await put(app, "/one-more", b"x")).status == 503
        for upload in uploads:
            await upload.send(b"")
    assert {upload.status for upload in uploads} == {201}
    assert (await put(app, "/one-more", b"x")).status == 201


async def test_a_full_disk_is_said_to_be_full(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dmsg_trio.apps.files._arriving.os.write", write)
    reply = await put(app_of(root), "/new.txt", b"x")
    monkeypatch.undo()
    assert reply.status == 507
    assert everything_in(root) == {"old.txt", "sub"}


async def test_pages_that_were_uploaded_run_in_a_sandbox(root: Path) -> None:
    app = app_of(root)
    await put(app, "/page.html", b"<script>fetch('/')</script>")
    assert "sandbox" in (await ask(app, "/page.html")).headers["content-security-policy"]
    assert "content-security-policy" not in (await ask(FilesApp(str(root)), "/page.html")).headers


class _Slow:
    """An upload piece by piece; an empty piece is its end."""

    def __init__(self, app: FilesApp, path: str) -> None:
        self._app = app
        self._path = path
        self._pieces, self._source = trio.open_memory_channel[bytes](0)
        self.status = 0

    async def send(self, piece: bytes) -> None:
        """Send a piece, and wait until all of it was taken in."""
        await self._pieces.send(piece)
        await trio.testing.wait_all_tasks_blocked(0.05)

    async def run(self) -> None:
        async def receive() -> dict[str, object]:
            piece = await self._source.receive()
            return {"type": "http.request", "body": piece, "more_body": bool(piece)}

        async def send(message: object) -> None:
            assert isinstance(message, dict)
            self.status = message.get("status", self.status)

        scope = {
            "type": "http", "method": "PUT", "path": "", "raw_path": self._path.encode(),
            "query_string": b"", "headers": [], "client": ("02", 1),
        }  # fmt: skip
        await self._app(scope, receive, send)
