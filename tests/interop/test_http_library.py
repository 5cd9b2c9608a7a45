"""HTTP as a library against the reference's tools: httpx and its file server, its client and an app."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from dmsg_trio._errors import UnreachableError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.client import open_client
from dmsg_trio.http import DmsgTransport, serve_asgi
from tests.interop.conftest import OUR_SERVER, OURS, THEIRS, Network
from tests.interop.programs import Reference

TEXT: Final = b"a file of theirs\n"
LARGE: Final = bytes(range(256)) * 100_000  # 25.6 MB
BOTH: Final = pytest.mark.parametrize("network", [OURS, THEIRS], indirect=True, ids=str)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the reference's file server serves."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "text.txt").write_bytes(TEXT)
    (folder / "large").write_bytes(LARGE)
    return folder


@BOTH
async def test_httpx_asks_their_file_server_for_all_that_it_has(
    network: Network, reference: Reference, folder: Path
) -> None:
    pk = await reference.serve_files(network.discovery, folder)
    async with (
        open_client(discovery=network.discovery) as client,
        httpx.AsyncClient(transport=DmsgTransport(client), timeout=30) as http,
    ):
        for url in (
            f"dmsg://{pk}/text.txt",
            f"dmsg://{pk}:80/text.txt",
            f"http://{pk}.dmsg/text.txt",
        ):
            answer = await http.get(url)
            assert (answer.status_code, answer.content) == (200, TEXT)
        assert (await http.get(f"dmsg://{pk}/large")).content == LARGE
        part = await http.get(f"dmsg://{pk}/text.txt", headers={"Range": "bytes=2-5"})
        assert (part.status_code, part.content) == (206, TEXT[2:6])
        head = await http.head(f"dmsg://{pk}/text.txt")
        assert (head.headers["content-length"], head.content) == (str(len(TEXT)), b"")
        assert (await http.get(f"dmsg://{pk}/nothing")).status_code == 404
        moved = await http.get(f"dmsg://{pk}//text.txt", follow_redirects=True)
        assert (len(moved.history), moved.content) == (1, TEXT)


@BOTH
async def test_their_client_asks_an_app_of_ours(
    network: Network, reference: Reference, tmp_path: Path
) -> None:
    seen: list[tuple[str, str, bytes]] = []

    async def page(request: Request) -> Response:
        assert request.client is not None
        body = await request.body()
        seen.append((request.headers["host"], request.client.host, body))
        return Response(LARGE if request.url.path == "/large" else TEXT)

    async def pieces(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for start in range(0, len(LARGE), 1_000_000):
                yield LARGE[start : start + 1_000_000]

        return StreamingResponse(parts())

    paths = {"/text": page, "/large": page, "/pieces": pieces}
    app = Starlette(routes=[Route(path, answer) for path, answer in paths.items()])
    async with (
        open_client(discovery=network.discovery) as client,
        open_service_nursery() as nursery,
    ):
        await nursery.start(serve_asgi, app, client, 80)
        for path, content in {"text": TEXT, "large": LARGE, "pieces": LARGE}.items():
            target = tmp_path / path
            url = f"dmsg://{client.pk}:80/{path}"
            await reference.fetch(network.discovery, url, target, tries=network.tries)
            assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(content).digest()
    assert {host for host, _, _ in seen} == {f"{client.pk}:80"}
    assert all(len(key) == 66 for _, key, _ in seen)


@pytest.mark.parametrize("network", [OURS], indirect=True, ids=str)
async def test_their_client_is_told_that_it_may_not_ask(
    network: Network, reference: Reference, tmp_path: Path
) -> None:
    async def page(request: Request) -> Response:
        return PlainTextResponse("secret")

    app = Starlette(routes=[Route("/", page)])
    async with (
        open_client(discovery=network.discovery) as client,
        open_service_nursery() as nursery,
    ):
        await nursery.start(partial(serve_asgi, app, client, 80, allow=set()))
        target = tmp_path / "answer"
        await reference.fetch(network.discovery, f"dmsg://{client.pk}:80/", target)
    assert b"is not on this server's list" in target.read_bytes()


@pytest.mark.parametrize("network", [OURS, OUR_SERVER], indirect=True, ids=str)
async def test_a_port_where_their_file_server_is_not_is_a_connect_error(
    network: Network, reference: Reference, folder: Path
) -> None:
    pk = await reference.serve_files(network.discovery, folder)
    async with (
        open_client(discovery=network.discovery) as client,
        httpx.AsyncClient(transport=DmsgTransport(client), timeout=30) as http,
    ):
        with pytest.raises(httpx.ConnectError, match=f"{pk}:81 was not reached") as caught:
            await http.get(f"dmsg://{pk}:81/")
        assert isinstance(caught.value.__cause__, UnreachableError)
