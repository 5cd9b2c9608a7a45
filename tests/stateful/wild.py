"""A peer with a key of its own that says whatever comes to its mind, in good frames and in bad ones."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Final

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import ErrorCode, RemoteProtocolError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.handshake import Established
from dmsg_trio._wire.frames import (
    PING_MARKER,
    PREFIX_SIZE,
    ObjectOpener,
    ObjectSealer,
    frame_object,
)
from dmsg_trio._wire.objects import (
    Object,
    PeerAnnounce,
    SignedObject,
    StreamRequest,
    StreamResponse,
)
from dmsg_trio._wire.yamux import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    HEADER_SIZE,
    INITIAL_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW,
)
from dmsg_trio.testing import Network

PAUSES: Final = (0, 0, 0, 0.001, 0.05, 0.5, 4, 25)  # seconds between two acts
PORTS: Final = (1, 7, 80, 65535)
FLAGS: Final = (0, 0, ACK, FIN, RST, ACK | FIN, SYN | RST)
NOBODY: Final = SecretKey(b"\x11" * 32)


class Wild:
    """One session of it; `live` is its life."""

    def __init__(
        self,
        established: Established,
        sk: SecretKey,
        chance: random.Random,
        network: Network,
        known: list[PublicKey],
    ) -> None:
        self._carrier = established.carrier
        self._sealer = ObjectSealer(established.keys.send)
        self._opener = ObjectOpener(established.keys.receive)
        self._incoming = bytearray(established.first_data)
        self._sk = sk
        self._chance = chance
        self._network = network
        self._known = known
        self._next_id = 1 if established.is_initiator else 2
        self._ours: list[int] = []  # ids of streams
        self._theirs: list[int] = []
        self._said = dict[int, bytearray]()  # by stream
        self._heard: list[tuple[int, SignedObject]] = []  # by which stream
        self._unsent, self._to_send = trio.open_memory_channel[bytes](1000)
        # How much it is like a good peer.
        self._pongs = chance.choice([0, 1, 1])
        self._echoes = chance.choice([0, 1])
        self._answers = chance.choice([0, 0.5, 1])

    async def live(self) -> None:
        """Act so many times, unless the other side ends it; then close without a word."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._read, nursery.cancel_scope)
                for _ in range(self._chance.randint(0, 30)):
                    await trio.sleep(self._chance.choice(PAUSES))
                    self._act()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._carrier.aclose()

    # ---- in ----

    async def _read(self, life: trio.CancelScope) -> None:
        try:
            while data := await self._carrier.receive():
                self._incoming += data
                while self._take_frame():
                    pass
        except trio.BrokenResourceError:
            pass
        life.cancel()

    def _take_frame(self) -> bool:
        if len(self._incoming) < HEADER_SIZE:
            return False
        _, kind, flags, stream_id, length = HEADER.unpack_from(self._incoming)
        end = HEADER_SIZE + (length if kind == DATA else 0)
        if len(self._incoming) < end:
            return False
        body = self._incoming[HEADER_SIZE:end]
        del self._incoming[:end]
        if flags & SYN and kind != PING:
            self._theirs.append(stream_id)
        if kind == PING and flags & SYN and self._is_up_to(self._pongs):
            self._frame(PING, ACK, 0, length)
        if body:
            self._said.setdefault(stream_id, bytearray()).extend(body)
            self._hear(stream_id)
        return True

    def _hear(self, stream_id: int) -> None:
        said = self._said[stream_id]
        size = int.from_bytes(said[:PREFIX_SIZE])
        if said[:PREFIX_SIZE] == PING_MARKER and self._is_up_to(self._echoes):
            self._data(stream_id, PING_MARKER)
        elif size and len(said) >= PREFIX_SIZE + size:
            body = bytes(said[PREFIX_SIZE : PREFIX_SIZE + size])
            said.clear()
            try:
                signed = SignedObject.parse_untrusted(self._opener.open_untrusted(body))
            except RemoteProtocolError:
                return  # they answer something that was not encrypted
            self._heard.append((stream_id, signed))
            if self._is_up_to(self._answers):
                self._answer(stream_id, signed)

    # ---- out ----

    async def _write(self) -> None:
        try:
            async for data in self._to_send:
                rest = memoryview(data)
                while rest:
                    rest = rest[await self._carrier.send_some([rest]) :]
        except trio.BrokenResourceError:
            pass  # `_read` learns it as well

    def _send(self, data: bytes) -> None:
        with suppress(trio.WouldBlock):  # they do not read: then there is nothing to say
            self._unsent.send_nowait(data)

    def _frame(self, kind: int, flags: int, stream_id: int, length: int, body: bytes = b"") -> None:
        self._send(HEADER.pack(0, kind, flags, stream_id, length) + body)

    def _data(self, stream_id: int, body: bytes, flags: int = 0) -> None:
        self._frame(DATA, flags, stream_id, len(body), body)

    def _sealed(self, signed: SignedObject) -> bytes:
        return frame_object(self._sealer.seal(signed.raw))

    def _signed(self, value: Object) -> SignedObject:
        return SignedObject.sign(self._chance.choice([self._sk] * 4 + [NOBODY]), value)

    def _opened(self) -> int:
        stream_id = self._next_id
        self._next_id += 2
        self._ours.append(stream_id)
        return stream_id

    # ---- what it may do ----

    def _act(self) -> None:
        ask = [self._ask] * 3
        on_streams = [self._flag_a_stream, self._say_a_little, self._say_much]
        with_objects = [self._answer_late, self._say_theirs, self._say_no_object]
        rest = [self._open_a_stream, self._ping, self._go_away, self._end_theirs, self._break]
        self._chance.choice([*ask, *on_streams, *with_objects, *rest])()

    def _open_a_stream(self) -> None:
        grant = self._chance.choice([0, 0, INITIAL_WINDOW, 2**31])
        self._frame(WINDOW, SYN, self._opened(), grant)

    def _ask(self) -> None:
        chance, pick = self._chance, self._chance.choice
        now = self._network.wall_clock() + pick([0] * 6 + [-(10**12), 10**12])
        source = Address(pick([self._sk.pk] * 3 + self._known), pick(PORTS))
        target = Address(pick(self._known), pick(PORTS))
        noise = pick([b"", chance.randbytes(49)])
        questions: list[Object] = [
            PeerAnnounce(now, self._sk.pk),
            StreamRequest(now, source, target, noise_message=noise),
            StreamRequest(now, source, target, ip_info=True),
        ]
        is_marker = chance.random() < 0.2
        body = PING_MARKER if is_marker else self._sealed(self._signed(pick(questions)))
        self._data(self._opened(), body, SYN)

    def _ping(self) -> None:
        flags = self._chance.choice([SYN, SYN, ACK, SYN | ACK])
        self._frame(PING, flags, self._chance.choice([0, 0, 0, 5]), self._chance.getrandbits(32))

    def _go_away(self) -> None:
        self._frame(GO_AWAY, 0, 0, self._chance.choice([0, 1, 2, 3, 77]))

    def _flag_a_stream(self) -> None:
        grant = self._chance.choice([0, 1, 100_000, 2**32 - 1])
        self._frame(WINDOW, self._chance.choice(FLAGS), self._any_id(), grant)

    def _say_a_little(self) -> None:
        words = self._chance.randbytes(self._chance.randint(0, 50))
        self._data(self._any_id(), words, self._chance.choice(FLAGS))

    def _say_much(self) -> None:
        size = self._chance.choice([1000, 70_000, INITIAL_WINDOW + 1])
        self._data(self._any_id(), bytes(size))

    def _answer_late(self) -> None:
        if self._heard:
            self._answer(*self._chance.choice(self._heard[-5:]))

    def _answer(self, stream_id: int, signed: SignedObject) -> None:
        chance, pick = self._chance, self._chance.choice
        response = StreamResponse(
            request_hash=pick([signed.hash] * 5 + [chance.randbytes(32)]),
            accepted=chance.random() < 0.7,
            error_code=pick([0, 0, 65535, *map(int, ErrorCode)]),
            ip=pick([b"", b"\1\2\3\4", bytes(16)]),
            noise_message=pick([b"", chance.randbytes(49), chance.randbytes(100)]),
        )
        self._data(stream_id, self._sealed(self._signed(response)), pick([0, ACK, ACK, ACK | FIN]))

    def _say_theirs(self) -> None:
        if self._heard:
            _, signed = self._chance.choice(self._heard[-5:])
            self._data(self._any_id(), self._sealed(signed))

    def _say_no_object(self) -> None:
        size = self._chance.choice([0, 1, 30, 65535])
        self._data(self._any_id(), size.to_bytes(PREFIX_SIZE) + self._chance.randbytes(30))

    def _end_theirs(self) -> None:
        if self._theirs:
            self._frame(WINDOW, self._chance.choice([ACK, FIN, RST]), self._theirs[-1], 0)

    def _break(self) -> None:
        if self._chance.random() < 0.15:
            self._send(self._chance.randbytes(self._chance.randint(1, 40)))
        elif self._chance.random() < 0.1:
            self._frame(self._chance.randint(4, 255), 0, 0, 0)

    def _any_id(self) -> int:
        known = (self._theirs[-3:] + self._ours[-3:]) * 3
        return self._chance.choice([*known, 0, 1, 2, 3, 99, 2**32 - 1])

    def _is_up_to(self, likelihood: float) -> bool:
        return self._chance.random() < likelihood
