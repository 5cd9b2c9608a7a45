"""What a request gets by its path, its method and the key behind it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from starlette.types import Message

from dmsg_trio._keys import SecretKey
from dmsg_trio.apps.access import AllowList
from dmsg_trio.apps.files import Answered, FilesApp, UploadOptions
from tests.apps.files.asking import CLIENT, ask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside.txt").write_text("outside")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "site").mkdir()
    (root / "site" / "index.html").write_text("<h1>home</h1>")
    (root / "a.txt").write_text("a")
    (root / ".secret").write_text("secret")
    (root / "out.txt").symlink_to("../outside.txt")
    return root


@pytest.fixture
def app(root: Path) -> Iterator[FilesApp]:
    before = os.listdir("/proc/self/fd")
    yield FilesApp(str(root))
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("//a.txt", "/a.txt"),
        ("/sub/../a.txt", "/a.txt"),
        ("/../outside.txt", "/outside.txt"),
        ("/%2e%2e/outside.txt", "/outside.txt"),
        ("/sub", "/sub/"),
        ("/sub?sort=size&x=%0d%0a", "/sub/?sort=size&x=%0d%0a"),
        ("//evil.example/%2e%2e", "/"),
        ("/sub/..//evil.example", "/evil.example"),
    ],
)
async def test_other_ways_to_write_a_path_lead_to_the_right_one(
    app: FilesApp, path: str, location: str
) -> None:
    reply = await ask(app, path)
    assert (reply.status, reply.headers["location"]) == (301, location)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/outside.txt",
        "/out.txt",
        "/.secret",
        "/a.txt/",
        "/a.txt/x",
        "/a%00.txt",
        "/a.txt%00",
        "/sub%2f..%2fa.txt",
        "/..%2foutside.txt",
        "/..%5c..%5coutside.txt",
        "/%c0%ae%c0%ae/outside.txt",
        "/" + "x" * 5000,
        "/x" * 5000,
        "/%ff%fe",
    ],
)
async def test_what_is_not_there_is_not_found(app: FilesApp, path: str) -> None:
    reply = await ask(app, path)
    assert (reply.status, reply.body) == (404, b"Not Found\n")


@pytest.mark.parametrize("path", ["*", "", "host:80", "a.txt", "../outside.txt"])
async def test_what_is_no_path_is_a_bad_request(app: FilesApp, path: str) -> None:
    # Test servers may leave the raw path away if it is empty.
    reply = await ask(app, path or "?")
    assert reply.status == 400


async def test_a_whole_url_is_a_path_of_this_host(app: FilesApp) -> None:
    assert (await ask(app, "http://elsewhere/a.txt")).body == b"a"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "CONNECT", "TRACE", "PROPFIND", "get"])
async def test_other_methods_are_refused(app: FilesApp, method: str) -> None:
    reply = await ask(app, "/a.txt", method=method)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_methods_can_be_asked_for(app: FilesApp, root: Path) -> None:
    reply = await ask(app, "*", method="OPTIONS")
    assert (reply.status, reply.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    uploads = FilesApp(str(root), uploads=UploadOptions(max_size=10))
    assert (await ask(uploads, "/", method="OPTIONS")).headers["allow"] == (
        "GET, HEAD, OPTIONS, POST, PUT"
    )


async def test_an_index_stands_for_its_folder(app: FilesApp) -> None:
    reply = await ask(app, "/site/", headers={"Accept": "application/json"})
    assert (reply.body, reply.headers["content-type"]) == (
        b"<h1>home</h1>",
        "text/html; charset=utf-8",
    )


async def test_an_index_that_cannot_be_had_is_not_replaced_by_a_listing(
    app: FilesApp, root: Path
) -> None:
    (root / "site" / "index.html").unlink()
    (root / "site" / "index.html").mkdir()
    assert b"index.html/" in (await ask(app, "/site/")).body


async def test_a_listing_shows_files_that_can_be_had(app: FilesApp) -> None:
    body = (await ask(app, "/")).body
    assert b"a.txt" in body
    assert b"secret" not in body
    assert b"out.txt" not in body


async def test_hidden_files_are_served_if_that_is_wanted(root: Path) -> None:
    app = FilesApp(str(root), show_hidden=True)
    assert (await ask(app, "/.secret")).body == b"secret"


# ---- who may come ----


async def test_only_keys_on_the_list_may_come(root: Path) -> None:
    told: list[Answered] = []
    app = FilesApp(str(root), allowed={CLIENT}, on_answered=told.append)
    assert (await ask(app, "/a.txt")).body == b"a"
    stranger = str(SecretKey.generate().pk)
    for path, method in (("/a.txt", "GET"), ("/nothing", "GET"), ("/", "HEAD"), ("*", "OPTIONS")):
        reply = await ask(app, path, method=method, client=stranger)
        assert reply.status == 403
        said = f"Forbidden: {stranger} is not on the list\n".encode()
        assert reply.body == (b"" if method == "HEAD" else said)
    assert [each.client for each in told[1:]] == [stranger] * 4


async def test_an_empty_list_is_nobody(root: Path) -> None:
    assert (await ask(FilesApp(str(root), allowed=()), "/a.txt")).status == 403


async def test_who_has_no_key_is_not_on_a_list(root: Path) -> None:
    app = FilesApp(str(root), allowed={CLIENT})
    assert (await ask(app, "/a.txt", client="127.0.0.1")).status == 403
    assert (await ask(FilesApp(str(root)), "/a.txt", client="127.0.0.1")).status == 200


async def test_a_download_ends_when_its_key_may_not_come_any_more(root: Path) -> None:
    (root / "large.bin").write_bytes(bytes(3_000_000))
    allow = AllowList(given=[CLIENT])
    told: list[Answered] = []
    app = FilesApp(str(root), allowed=allow, on_answered=told.append)

    async def take_back(_number: int) -> None:
        allow.take_back([CLIENT])
        await trio.lowlevel.checkpoint()

    reply = await ask(app, "/large.bin", after_piece=take_back)
    assert (reply.status, reply.is_whole) == (200, False)
    assert 0 < len(reply.body) < 3_000_000
    assert [each.is_whole for each in told] == [False]
    assert (await ask(app, "/large.bin")).status == 403


async def test_an_upload_ends_when_its_key_may_not_come_any_more(root: Path) -> None:
    allow = AllowList(given=[CLIENT])
    app = FilesApp(str(root), allowed=allow, uploads=UploadOptions(max_size=100))
    before = os.listdir(root)

    async def take_back() -> None:
        allow.take_back([CLIENT])

    reply = await ask(app, "/new.bin", method="PUT", body=[bytes(9)], before_body=take_back)
    assert (reply.status, reply.is_whole) == (403, True)
    assert os.listdir(root) == before


# ---- what goes wrong ----


async def test_a_folder_that_has_gone_is_not_found_until_it_is_back(root: Path) -> None:
    app = FilesApp(str(root))
    os.rename(root, root.with_name("moved"))
    assert (await ask(app, "/a.txt")).status == 404
    os.rename(root.with_name("moved"), root)
    assert (await ask(app, "/a.txt")).status == 200


async def test_what_the_system_refuses_has_a_status_of_its_own(
    app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, status in ((13, 403), (1, 403), (24, 503), (5, 500)):

        def fail(*_: object, number: int = number, **__: object) -> int:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            reply = await ask(app, "/a.txt")
        assert reply.status == status


async def test_websockets_are_turned_away(app: FilesApp) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/"}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
