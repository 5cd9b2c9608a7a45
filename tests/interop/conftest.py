"""Networks of our parts and the reference's, in every mixture.

The programs of the reference are looked for in the folder that ``DMSG_REFERENCE_BIN`` names; without
it these tests are skipped.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import listen_tcp
from dmsg_trio.discovery import HttpDiscovery
from dmsg_trio.discovery.serving import (
    DiscoveryService,
    Policy,
    make_app,
    open_store,
    serve_discovery,
)
from dmsg_trio.server import PeerOptions, Server, ServerOptions
from tests.interop.programs import OWN_RACE, Program, Reference

VARIABLE: Final = "DMSG_REFERENCE_BIN"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever lies in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.reference)


@dataclass(frozen=True, slots=True)
class Network:
    """One server and one discovery, each ours or the reference's; the programs are the latter's."""

    discovery: str
    server_pk: PublicKey
    server_program: Program | None = None
    discovery_program: Program | None = None

    @property
    def tries(self) -> int:
        """How often a tool of the reference may have to try here."""
        return OWN_RACE if self.server_program else 1


@dataclass(frozen=True, slots=True)
class Kinds:
    """Whose the parts of a network are."""

    our_server: bool
    our_discovery: bool

    def __str__(self) -> str:
        server = "our" if self.our_server else "their"
        discovery = "our" if self.our_discovery else "their"
        return f"{server}-server-{discovery}-discovery"


OURS: Final = Kinds(our_server=True, our_discovery=True)
THEIRS: Final = Kinds(our_server=False, our_discovery=False)
OUR_SERVER: Final = Kinds(our_server=True, our_discovery=False)
OUR_DISCOVERY: Final = Kinds(our_server=False, our_discovery=True)


@pytest.fixture
def folder_of_programs() -> Path:
    """Where the reference's programs are; without them the test is skipped."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"{VARIABLE} is not set: no programs of the reference to talk to")
    if not Path(folder).is_dir():
        pytest.skip(f"{VARIABLE} is no folder: {folder}")
    return Path(folder)


@pytest.fixture
async def reference(folder_of_programs: Path, tmp_path: Path) -> AsyncIterator[Reference]:
    """The reference's programs, ended with the test."""
    async with open_service_nursery() as nursery:
        programs = Reference(folder_of_programs, tmp_path, nursery)
        try:
            yield programs
        finally:
            with trio.CancelScope(shield=True):
                await programs.aclose()


@pytest.fixture(params=[OURS, OUR_SERVER, OUR_DISCOVERY, THEIRS], ids=str)
async def network(request: pytest.FixtureRequest, reference: Reference) -> AsyncIterator[Network]:
    """A running network; all four kinds in turn unless a test chooses by indirect parameters."""
    kinds: Kinds = request.param
    async with open_service_nursery() as nursery:
        discovery_program = None
        if kinds.our_discovery:
            url = await start_our_discovery(nursery)
        else:
            url, discovery_program = await reference.start_discovery()
        if kinds.our_server:
            async with open_our_server(url) as server:
                yield Network(url, server.pk, None, discovery_program)
        else:
            pk, server_program = await reference.start_server(url)
            yield Network(url, pk, server_program, discovery_program)
            # While there still is a discovery to take leave of.
            await server_program.aclose()


async def start_our_discovery(nursery: trio.Nursery) -> str:
    """Serve a discovery of ours in this process; give its URL."""
    listeners = await listen_tcp("127.0.0.1:0")

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        async with open_store("memory:", time.time_ns) as store:
            service = DiscoveryService(store, Policy(test_mode=True))
            await serve_discovery(service, make_app(service), listeners, task_status=task_status)

    await nursery.start(serve)
    return f"http://127.0.0.1:{_port_of(listeners)}"


@asynccontextmanager
async def open_our_server(
    discovery: str, peers: PeerOptions | None = None
) -> AsyncIterator[Server]:
    """Be a server of ours for the block."""
    listeners = await listen_tcp("127.0.0.1:0")
    address = f"127.0.0.1:{_port_of(listeners)}"
    options = ServerOptions(public_address=address, peers=peers or PeerOptions())
    async with HttpDiscovery(discovery) as http, open_service_nursery() as nursery:
        server = Server(SecretKey.generate(), discovery=http, options=options)
        await nursery.start(partial(server.serve, listeners))
        await server.registration.done.wait()
        yield server


def _port_of(listeners: list[trio.SocketListener]) -> int:
    port: int = listeners[0].socket.getsockname()[1]
    return port
