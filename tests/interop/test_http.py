"""Files over HTTP/1.1: from the reference's tools to us, from us to them, and between the two.

One request per stream, and a length on every body: their servers end a stream with each answer, and
their clients take no body that ends by the stream's end.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import h11
import pytest
import trio

from dmsg_trio._keys import PublicKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.client import Client, DmsgStream, open_client
from tests.interop.conftest import OUR_SERVER, OURS, THEIRS, Network
from tests.interop.programs import Reference

SIZES: Final = {"empty": 0, "one": 1, "large": 100_000_000}
BLOCK: Final = 1_000_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for each of `SIZES`."""
    folder = tmp_path_factory.mktemp("files")
    block = random.Random(0).randbytes(BLOCK)
    for name, size in SIZES.items():
        with (folder / name).open("wb") as file:
            for start in range(0, size, BLOCK):
                file.write(block[: size - start])
    return folder


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- our ends of HTTP ----


async def answer(folder: Path, stream: DmsgStream) -> None:
    """Answer one GET with a file."""
    http = h11.Connection(h11.SERVER)
    async with stream:
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some()))
        assert isinstance(event, h11.Request)
        path = folder / event.target.decode().removeprefix("/")
        size = path.stat().st_size
        head = h11.Response(status_code=200, headers=[("Content-Length", str(size))])
        await stream.send_all(http.send(head))
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                await stream.send_all(http.send(h11.Data(block)))
        http.send(h11.EndOfMessage())


async def get(client: Client, pk: PublicKey, target: str) -> tuple[int, str]:
    """Fetch ``target`` from port 80 of ``pk``; give the body's size and checksum."""
    http, size, digest = h11.Connection(h11.CLIENT), 0, hashlib.sha256()
    async with await client.open_stream(pk, 80) as stream:
        request = h11.Request(method="GET", target=target, headers=[("Host", str(pk))])
        await stream.send_all(http.send(request) + http.send(h11.EndOfMessage()))
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            match event:
                case h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some()))
                case h11.Response(status_code=status):
                    assert status == 200
                case h11.Data(data=data):
                    size += len(data)
                    digest.update(data)
    return size, digest.hexdigest()


@asynccontextmanager
async def our_files(network: Network, folder: Path) -> AsyncIterator[PublicKey]:
    """Be a file server for the block."""
    async with open_client(discovery=network.discovery) as client, serving(client, folder):
        yield client.pk


@asynccontextmanager
async def serving(client: Client, folder: Path) -> AsyncIterator[None]:
    """Serve the files of ``folder`` on port 80 for the block."""
    async with open_service_nursery() as nursery, client.listen(80) as listener:
        nursery.start_soon(partial(trio.serve_listeners, partial(answer, folder), [listener]))
        yield


# ---- who asks whom ----


async def test_their_curl_fetches_from_us(
    network: Network, reference: Reference, files: Path, tmp_path: Path
) -> None:
    async with our_files(network, files) as pk:
        for name in SIZES:
            target = tmp_path / name
            await reference.fetch(
                network.discovery, f"dmsg://{pk}:80/{name}", target, tries=network.tries
            )
            assert digest_of(target) == digest_of(files / name)


async def test_we_fetch_from_their_file_server(
    network: Network, reference: Reference, files: Path
) -> None:
    pk = await reference.serve_files(network.discovery, files)
    async with open_client(discovery=network.discovery) as client:
        for name, size in SIZES.items():
            assert await get(client, pk, f"/{name}") == (size, digest_of(files / name))


async def test_their_curl_fetches_from_their_file_server(
    network: Network, reference: Reference, files: Path, tmp_path: Path
) -> None:
    pk = await reference.serve_files(network.discovery, files)
    for name in SIZES:
        target = tmp_path / name
        await reference.fetch(
            network.discovery, f"dmsg://{pk}:80/{name}", target, tries=network.tries
        )
        assert digest_of(target) == digest_of(files / name)


# ---- a port of ours where nobody listens ----


@pytest.mark.parametrize("network", [OURS, OUR_SERVER], indirect=True, ids=str)
async def test_over_our_server_their_client_learns_at_once_that_nobody_listens(
    network: Network, reference: Reference, tmp_path: Path
) -> None:
    async with open_client(discovery=network.discovery) as client:
        url = f"dmsg://{client.pk}:81/"
        finished = await reference.curl(network.discovery, url, tmp_path / "nothing")
        assert "dmsg error 306" in finished.log
        assert finished.seconds < 5


@pytest.mark.parametrize("network", [THEIRS], indirect=True, ids=str)
async def test_over_their_server_their_client_waits_twenty_seconds(
    network: Network, reference: Reference, tmp_path: Path
) -> None:
    """What our server is better at: theirs swallows the refusal that we signed."""
    async with open_client(discovery=network.discovery) as client:
        url = f"dmsg://{client.pk}:81/"
        finished = await reference.curl(network.discovery, url, tmp_path / "nothing")
        if finished.seconds < 1:  # the tool lost its session to the server's race
            finished = await reference.curl(network.discovery, url, tmp_path / "nothing")
        assert "i/o deadline reached" in finished.log
        assert finished.seconds > 15
