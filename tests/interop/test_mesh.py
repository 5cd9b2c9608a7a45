"""Two servers of ours with a link, one of the reference's, and clients of both at each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from dmsg_trio._keys import PublicKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.entries import Entry
from dmsg_trio.client import Client, open_client
from dmsg_trio.discovery import HttpDiscovery
from dmsg_trio.server import PeerOptions, Server
from tests.interop.conftest import open_our_server, start_our_discovery
from tests.interop.programs import OWN_RACE, Program, Reference
from tests.interop.test_http import get, serving
from tests.waiting import Log, hearing

CONTENT = b"the same, whoever asks whom"
LINKED_WITHIN = 30  # seconds
LOOKING_OFTEN = PeerOptions(look_interval=2)  # theirs is found soon though it comes last


class OneServer(HttpDiscovery):
    """A discovery that offers one server, and knows the rest all the same."""

    def __init__(self, url: str, pk: PublicKey) -> None:
        super().__init__(url)
        self._pk = pk

    async def available_servers(self) -> list[Entry]:
        return [entry for entry in await super().available_servers() if entry.pk == self._pk]


@dataclass(frozen=True, slots=True)
class Mixed:
    """The servers, and a file server of the reference's which is at the first of ours alone."""

    discovery: str
    ours: tuple[Server, Server]
    theirs: PublicKey
    program: Program
    files: PublicKey

    @property
    def servers(self) -> tuple[PublicKey, ...]:
        return self.ours[0].pk, self.ours[1].pk, self.theirs

    @asynccontextmanager
    async def client_at(self, server: PublicKey) -> AsyncIterator[Client]:
        """Be a client of ours with a session there and nowhere else."""
        async with (
            OneServer(self.discovery, server) as discovery,
            open_client(discovery=discovery) as client,
        ):
            yield client


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "served").mkdir()
    (folder / "page").write_bytes(CONTENT)
    return folder


@pytest.fixture
def log() -> Iterator[Log]:
    """What our servers say, from the beginning."""
    with hearing("dmsg_trio.server") as log:
        yield log


@pytest.fixture
async def mixed(reference: Reference, folder: Path) -> AsyncIterator[Mixed]:
    """Start the file server while there is only one server for it to find."""
    async with open_service_nursery() as nursery, AsyncExitStack() as stack:
        url = await start_our_discovery(nursery)
        first = await stack.enter_async_context(open_our_server(url, LOOKING_OFTEN))
        files = await reference.serve_files(url, folder)
        second = await stack.enter_async_context(open_our_server(url, LOOKING_OFTEN))
        theirs, program = await reference.start_server(url)
        with trio.fail_after(LINKED_WITHIN):
            for server in (first, second):
                while not list(server.peers):
                    await server.peers.links.changed.park()
        yield Mixed(url, (first, second), theirs, program, files)
        await program.aclose()


async def test_our_clients_anywhere_reach_a_client_of_theirs_at_our_server(mixed: Mixed) -> None:
    """At its own server, over the link between ours, and from their server by a new session."""
    home, pk = mixed.ours[0].pk, mixed.files
    for server, through in zip(mixed.servers, (home, mixed.ours[1].pk, home), strict=True):
        async with mixed.client_at(server) as client:
            size, _ = await get(client, pk, "/page")
            assert size == len(CONTENT)
            async with await client.open_stream(pk, 80) as stream:
                assert stream.server_pk == through


async def test_their_clients_reach_clients_of_ours_and_theirs_anywhere(
    mixed: Mixed, reference: Reference, folder: Path, tmp_path: Path
) -> None:
    async def fetch(pk: PublicKey) -> None:
        target = tmp_path / "fetched"
        url = f"dmsg://{pk}:80/page"
        await reference.fetch(mixed.discovery, url, target, tries=OWN_RACE)
        assert target.read_bytes() == CONTENT
        target.unlink()

    await fetch(mixed.files)
    for server in mixed.servers:
        async with mixed.client_at(server) as client, serving(client, folder):
            await fetch(client.pk)


async def test_our_clients_reach_each_other_over_the_link(mixed: Mixed, folder: Path) -> None:
    first, second = mixed.ours
    async with mixed.client_at(first.pk) as near, mixed.client_at(second.pk) as far:
        async with serving(far, folder):
            size, _ = await get(near, far.pk, "/page")
            assert size == len(CONTENT)
            assert set(near.sessions) == {first.pk}
            assert set(far.sessions) == {second.pk}


async def test_their_server_is_left_to_itself(log: Log, mixed: Mixed) -> None:
    first, second = mixed.ours
    given_up = f"server {mixed.theirs} (?:does not answer|took no announcement)"
    await log.said(f"(?s){given_up}.*{given_up}")
    assert {link.pk for link in first.peers} == {second.pk}
    assert {link.pk for link in second.peers} == {first.pk}
    assert "panic" not in mixed.program.log.text
