"""The client: sessions with servers, an entry in the discovery, streams out and in."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import ErrorCode, LocalProtocolError, UnreachableError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.dialing import Connect
from dmsg_trio._net.nurseries import open_background
from dmsg_trio._net.opening import look_up_ip
from dmsg_trio._net.session import Session
from dmsg_trio._net.stream import DmsgStream
from dmsg_trio._net.tcp import connect_tcp
from dmsg_trio._wire.entries import ClientInfo, Entry
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio.discovery import Discovery, EntryCache, Registration, open_discovery

from ._dialing import Dialed, Dialer
from ._inbound import Inbound
from ._listener import DmsgListener
from ._ports import Ports
from ._sessions import SessionKeeper

UPDATE_INTERVAL: Final = 300  # seconds between two entries if nothing changes

_current: ContextVar[Client] = ContextVar("the client of the open_client block")


class Client:
    """A party of the network; made by `open_client`, and alive in its block."""

    def __init__(
        self,
        sk: SecretKey,
        discovery: Discovery,
        *,
        min_sessions: int = 1,
        post_quantum: PostQuantum = PostQuantum.OFFER,
        connect: Connect = connect_tcp,
        update_interval: float = UPDATE_INTERVAL,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._sk = sk
        self._has_left = False
        self._ports = Ports(sk.pk)
        self._registration = Registration(
            sk, discovery, draft=self._entry, interval=update_interval, wall_clock=wall_clock
        )
        self._keeper = SessionKeeper(
            sk,
            discovery,
            min_sessions=min_sessions,
            connect=connect,
            post_quantum=post_quantum,
            serve_stream=Inbound(sk, self._ports, post_quantum, wall_clock).serve_stream,
            on_change=self._registration.touch,
        )
        self._dialer = Dialer(
            sk,
            entries=EntryCache(discovery),
            keeper=self._keeper,
            ports=self._ports,
            post_quantum=post_quantum,
            wall_clock=wall_clock,
        )

    @property
    def pk(self) -> PublicKey:
        """The key by which others reach this client."""
        return self._sk.pk

    @property
    def sessions(self) -> dict[PublicKey, Session]:
        """The open sessions by the server's key, as they are now."""
        return dict(self._keeper.open)

    # ---- life ----

    async def run(self) -> None:
        """Keep sessions and the entry until cancelled; `open_client` does this."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keeper.run)
                nursery.start_soon(self._registration.run)
        finally:
            self._has_left = True

    async def wait_registered(self) -> None:
        """Wait until this client has a session and others can find it; there is no limit on time."""
        await self._registration.done.wait()

    def _entry(self) -> Entry | None:
        servers = tuple(
            pk for pk, session in self._keeper.open.items() if session.connection.is_open
        )
        if not servers:
            return None  # whoever asks is better served by what the discovery has
        return Entry(pk=self.pk, timestamp=0, client=ClientInfo(servers))

    # ---- streams ----

    def listen(self, port: int) -> DmsgListener:
        """Accept streams to ``port``, 1 to 65535, until the listener is closed.

        Raises `LocalProtocolError` if this client listens there already, `ValueError` for a number that
        is no port.
        """
        if self._has_left:
            raise LocalProtocolError(self._goodbye)
        return self._ports.listen(port)

    async def open_stream(self, pk: PublicKey | str, port: int) -> DmsgStream:
        """Open a stream to ``port`` of the client with ``pk``, a key or its hex text.

        Raises `UnreachableError`: `RefusedError` if the destination itself said no, both with all that
        was tried; `DiscoveryError` if the destination cannot be looked up; `ValueError` for what is no
        key or no port. It takes as long as it takes: put `trio.fail_after` around it, and it says
        shortly before the time is up what it tried.
        """
        return (await self.dial(pk, port)).stream

    async def dial(self, pk: PublicKey | str, port: int) -> Dialed:
        """Do as `open_stream`, and tell what was tried and how many seconds each attempt took."""
        self._check_here()
        return await self._dialer.dial(_address(pk, port))

    # ---- questions to servers ----

    async def look_up_ip(self, server_pk: PublicKey) -> bytes:
        """Ask a server which IP address it sees this client at: 4 or 16 bytes.

        Raises `UnreachableError` or `DiscoveryError` if there is no session with that server and none
        can be made.
        """
        self._check_here()
        session = await self._dialer.session_with(server_pk)
        local = self._ports.next_ephemeral()
        return await look_up_ip(session, self._sk, local, timestamp=self._dialer.timestamp())

    def _check_here(self) -> None:
        if self._has_left:
            raise UnreachableError(ErrorCode.ENTITY_CLOSED, self._goodbye)

    @property
    def _goodbye(self) -> str:
        return f"the client {self.pk.short} has left the network: its open_client block has ended"

    def __repr__(self) -> str:
        return f"<Client {self.pk.short} with {len(self._keeper.open)} sessions>"


@asynccontextmanager
async def open_client(
    keys: SecretKey | str | None = None,
    *,
    discovery: str | Discovery | Sequence[str | Discovery],
    min_sessions: int = 1,
    wait: bool = True,
    post_quantum: PostQuantum = PostQuantum.OFFER,
    connect: Connect = connect_tcp,
    wall_clock: Callable[[], int] = time.time_ns,
) -> AsyncIterator[Client]:
    """Be a client for the block, and leave the network at its end.

    ``keys`` is a `SecretKey`, its 64 hex digits, or None for a fresh one; ``discovery`` a URL or a
    `Discovery`, or several of them. ``min_sessions`` sessions are kept (0: with every server that has
    room). Unless ``wait`` is false the block begins when others can reach this client, however long
    that takes; `Client.wait_registered` in a `trio.fail_after` waits for a limited time.

    The sessions last as long as the block does: who is cancelled in it and says goodbye in a shielded
    scope still has them.

    Raises `ConfigError` for what is no discovery, `ValueError` for what is no secret key.
    """
    sk = SecretKey.parse(keys) if isinstance(keys, str) else keys or SecretKey.generate()
    async with open_discovery(discovery) as found:
        client = Client(
            sk,
            found,
            min_sessions=min_sessions,
            post_quantum=post_quantum,
            connect=connect,
            wall_clock=wall_clock,
        )
        async with open_background(client.run):
            if wait:
                await client.wait_registered()
            token = _current.set(client)
            try:
                yield client
            finally:
                _current.reset(token)


def _address(pk: PublicKey | str, port: int) -> Address:
    remote = Address(PublicKey.parse(pk) if isinstance(pk, str) else pk, port)
    if not port:
        raise LocalProtocolError(f"no port to dial in {remote}")
    return remote


async def open_stream(pk: PublicKey | str, port: int) -> DmsgStream:
    """Open a stream with the client whose `open_client` block this task is in.

    Raises what `Client.open_stream` raises, and `LocalProtocolError` outside of such a block.
    """
    try:
        client = _current.get()
    except LookupError:
        raise LocalProtocolError(
            "open_stream needs a client: write"
            " `async with dmsg_trio.open_client(discovery=...):` around it"
        ) from None
    return await client.open_stream(pk, port)
