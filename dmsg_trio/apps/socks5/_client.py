"""SOCKS5 on loopback for the programs of this machine: all of it goes out at a key somewhere else.

What a program asks for is read here, so that a remote key which cannot be reached is told to it as
SOCKS5 tells such things; then it is asked of the server there, and its answer passed on. Nothing is
looked up here, and nothing is connected to.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import (
    DmsgError,
    ErrorCode,
    RefusedError,
    RemoteProtocolError,
    UnreachableError,
)
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.borders import serve_each
from dmsg_trio._net.carrying import carry_both_ways, reset_when_closed
from dmsg_trio._net.telling import Sometimes
from dmsg_trio._wire.socks5 import (
    AddressTypeError,
    Choice,
    Command,
    Greeting,
    Method,
    Reply,
    ReplyCode,
    Request,
    SocksReader,
    encode,
)
from dmsg_trio.client import Client, DmsgStream

from ._conversation import NEGOTIATION_TIME, receive_message
from ._local_datagrams import open_local_association
from ._targets import TargetError, is_dmsg_name

MAX_LOCAL: Final = 2048  # connections of programs at once; more are reset
DIAL_TIME: Final = 30  # seconds for the remote key
ANSWER_TIME: Final = 60  # seconds for its server to connect, which has a limit of its own

NO_HTTP: Final = (
    b"HTTP/1.0 501 Not an HTTP proxy\r\nContent-Type: text/plain\r\n\r\nThis is a SOCKS5 proxy.\n"
)

_REFUSALS: Final[dict[int, str]] = {
    ReplyCode.GENERAL_FAILURE: "it failed there",
    ReplyCode.NOT_ALLOWED: "not allowed, as that is a private address, or we are not on its list",
    ReplyCode.NETWORK_UNREACHABLE: "no network there leads to it",
    ReplyCode.HOST_UNREACHABLE: "it is not known there, or does not answer",
    ReplyCode.REFUSED: "connection refused",
    ReplyCode.TTL_EXPIRED: "it did not answer in time",
    ReplyCode.COMMAND_NOT_SUPPORTED: "only connections and UDP go out there",
    ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED: "no addresses of this kind",
}

logger = logging.getLogger("dmsg_trio.socks5")


async def serve_local_socks5(
    client: Client,
    pk: PublicKey,
    dport: int,
    listeners: Sequence[trio.SocketListener],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Carry connections of local programs to the server of SOCKS5 at a key; run until cancelled."""
    proxy = _LocalProxy(client, Address(pk, dport))
    task_status.started()
    await serve_each(proxy.serve, listeners, logger)


async def fault_of_server(client: Client, remote: Address) -> str:
    """Ask whether there is a server that would serve us, and say what is wrong; empty: nothing."""
    try:
        async with await _dial(client, remote) as far:
            answers = SocksReader()
            with _told_as_failure(remote), trio.fail_after(ANSWER_TIME):
                await _greet(far, remote, answers)
            if answers.rest():  # it refuses before it has been asked
                return f"{remote} does not let {client.pk} go out there"
            await far.send_eof()
    except TargetError as error:
        return str(error)
    return ""


class _LocalProxy:
    def __init__(self, client: Client, remote: Address) -> None:
        self._client = client
        self._remote = remote
        self._connections = 0
        self._faults = Sometimes(logger, logging.WARNING)

    async def serve(self, near: trio.SocketStream) -> None:
        """Serve one connection of a program; whatever goes wrong ends here."""
        async with near:
            if self._connections >= MAX_LOCAL:
                self._faults.say(f"{MAX_LOCAL} connections: one more is refused")
                reset_when_closed(near)
                return
            self._connections += 1
            try:
                await self._serve(near)
            except (trio.BrokenResourceError, OSError) as error:
                reset_when_closed(near)
                logger.debug("a connection broke: %s", error)
            except BaseException:
                reset_when_closed(near)  # or what it has so far might look whole
                raise
            finally:
                self._connections -= 1

    async def _serve(self, near: trio.SocketStream) -> None:
        reader = SocksReader()
        request = None
        with trio.move_on_after(NEGOTIATION_TIME):
            request = await self._receive_request(near, reader)
        if request is None:
            return
        try:
            await self._go_out(near, request, reader)
        except TargetError as error:
            self._faults.say(f"{request.target}: {error}")
            await near.send_all(encode(Reply(error.code)))

    # ---- what a program wants ----

    async def _receive_request(
        self, near: trio.SocketStream, reader: SocksReader
    ) -> Request | None:
        """Agree on the method and wait for the request; None if there can be none."""
        try:
            greeting = await receive_message(near, reader, reader.next_greeting_untrusted)
        except RemoteProtocolError as error:
            await self._say_what_this_is(near, reader.rest(), error)
            return None
        if Method.NO_AUTH not in greeting.methods:
            self._faults.say("a program wants to give a password: there is none here")
            await near.send_all(encode(Choice(Method.NONE_ACCEPTABLE)))
            return None
        await near.send_all(encode(Choice()))
        try:
            return await receive_message(near, reader, reader.next_request_untrusted)
        except AddressTypeError:
            await near.send_all(encode(Reply(ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED)))
        except RemoteProtocolError as error:
            logger.debug("a program: %s", error)
        return None

    async def _say_what_this_is(
        self, near: trio.SocketStream, data: bytes, error: RemoteProtocolError
    ) -> None:
        if data[:1].isalpha():
            self._faults.say("a program speaks HTTP here: set this as its SOCKS5 proxy")
            await near.send_all(NO_HTTP)
        elif data[:1] == b"\x04":
            self._faults.say("a program speaks SOCKS4 here: set SOCKS5, with names looked up there")
        else:
            logger.debug("a program: %s", error)

    # ---- what the other side does about it ----

    async def _go_out(self, near: trio.SocketStream, request: Request, reader: SocksReader) -> None:
        if isinstance(request.target.host, str) and is_dmsg_name(request.target.host):
            raise TargetError(ReplyCode.HOST_UNREACHABLE, "names of dmsg are for dmsgweb")
        async with await _dial(self._client, self._remote) as far:
            answers = SocksReader()
            reply = await self._ask(far, request, answers)
            if reply.code:
                # A program shows its user the number at most.
                why = _REFUSALS.get(reply.code, f"code {reply.code}")
                self._faults.say(f"{request.target}: the exit {self._remote} says: {why}")
                await near.send_all(encode(reply))
            elif request.command == Command.UDP_ASSOCIATE:
                async with open_local_association(near, request) as association:
                    await association.carry(far, answers)
            else:
                await near.send_all(encode(reply) + answers.rest())
                await far.send_all(reader.rest())
                await carry_both_ways(near, far)

    async def _ask(self, far: DmsgStream, request: Request, answers: SocksReader) -> Reply:
        """Pass a request on, together with the greeting: the method is no question between us."""
        with _told_as_failure(self._remote), trio.fail_after(ANSWER_TIME):
            await _greet(far, self._remote, answers, encode(request))
            return await receive_message(far, answers, answers.next_reply_untrusted)


async def _dial(client: Client, remote: Address) -> DmsgStream:
    """Open a stream to the server; `TargetError` says what a program should hear instead."""
    unreachable = ReplyCode.HOST_UNREACHABLE
    try:
        with trio.fail_after(DIAL_TIME):
            return await client.open_stream(remote.pk, remote.port)
    except trio.TooSlowError:
        reason = f"{remote.pk} did not answer within {DIAL_TIME} s"
        raise TargetError(unreachable, reason) from None
    except RefusedError as error:
        who = f"nobody serves SOCKS5 on port {remote.port} of {remote.pk}"
        reason = who if error.code == ErrorCode.NO_LISTENER else f"{remote.pk}: {error.reason}"
        raise TargetError(unreachable, reason) from error
    except UnreachableError as error:
        nobody = "no client of this key is registered at the discovery"
        reason = nobody if error.code == ErrorCode.ENTRY_NOT_FOUND else error.reason
        where = "" if str(remote.pk) in reason else f"{remote.pk}: "
        raise TargetError(unreachable, f"{where}{reason}") from error
    except DmsgError as error:
        raise TargetError(ReplyCode.GENERAL_FAILURE, str(error)) from error


async def _greet(
    far: DmsgStream, remote: Address, answers: SocksReader, behind: bytes = b""
) -> None:
    await far.send_all(encode(Greeting()) + behind)
    choice = await receive_message(far, answers, answers.next_choice_untrusted)
    if choice.method != Method.NO_AUTH:
        raise TargetError(ReplyCode.GENERAL_FAILURE, f"{remote} wants a password")


@contextmanager
def _told_as_failure(remote: Address) -> Iterator[None]:
    """Let what goes wrong with the server be what a program hears."""
    failure = ReplyCode.GENERAL_FAILURE
    try:
        yield
    except trio.TooSlowError:
        raise TargetError(failure, f"{remote}: no answer within {ANSWER_TIME} s") from None
    except RemoteProtocolError as error:
        raise TargetError(failure, f"{remote} is no SOCKS5 server: {error}") from error
    except trio.BrokenResourceError as error:
        raise TargetError(failure, f"{remote}: {error}") from error
