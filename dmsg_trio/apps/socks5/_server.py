"""The server of SOCKS5 on a port of dmsg: who may use it, and how much at once.

The key of a stream is who the client is, so there is no other authentication.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from typing import Final

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.borders import serve_each
from dmsg_trio._net.telling import Sometimes
from dmsg_trio._wire.socks5 import Choice, Reply, ReplyCode, encode
from dmsg_trio.apps.access import Admission, admission
from dmsg_trio.client import Client, DmsgStream

from ._conversation import SOCKS_PORT
from ._exit import Exit, ExitOptions, counted

TURNED_AWAY: Final = 64  # who are told so at once; more are reset
LINGER: Final = 2  # seconds for a refusal to be read before the stream is gone

logger = logging.getLogger("dmsg_trio.socks5")


async def serve_socks5(
    client: Client,
    port: int = SOCKS_PORT,
    *,
    allow: Admission | Collection[PublicKey] | None,
    options: ExitOptions | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Connect to the internet for the keys in ``allow``, None is everybody; run until cancelled."""
    server = _Server(admission(allow), options or ExitOptions())
    async with client.listen(port) as listener:
        task_status.started()
        await serve_each(server.serve, [listener], logger)


class _Server:
    def __init__(self, allow: Admission, options: ExitOptions) -> None:
        self._allow = allow
        self._options = options
        self._exit = Exit(options)
        self._connections: Counter[PublicKey] = Counter()
        self._turned_away = 0
        self._refusals = Sometimes(logger, logging.WARNING)
        self._faults = Sometimes(logger, logging.INFO)

    async def serve(self, stream: DmsgStream) -> None:
        """Serve one connection; whatever its peer does ends here."""
        pk = stream.remote.pk
        try:
            async with stream:
                if pk not in self._allow:
                    self._refusals.say(f"{pk} is not on the allow list: refused")
                    await self._turn_away(stream, ReplyCode.NOT_ALLOWED)
                elif fault := self._fullness(pk):
                    self._refusals.say(f"{pk} is refused: {fault}")
                    await self._turn_away(stream, ReplyCode.GENERAL_FAILURE)
                else:
                    with counted(self._connections, pk), self._allow.while_allowed(pk) as allowed:
                        await self._exit.serve(stream)
                    if allowed.cancelled_caught:
                        logger.info("%s is not on the allow list any more: cut off", pk)
                        stream.reset()
        except (trio.BrokenResourceError, RemoteProtocolError, OSError) as error:
            self._faults.say(f"{pk}: {error}")

    def _fullness(self, pk: PublicKey) -> str:
        if self._connections[pk] >= self._options.max_per_key:
            return f"it has {self._options.max_per_key} connections"
        if self._connections.total() >= self._options.max_connections:
            return f"there are {self._options.max_connections} connections"
        return ""

    async def _turn_away(self, stream: DmsgStream, code: ReplyCode) -> None:
        """Answer the greeting and the request, whatever they are, before they are there."""
        if self._turned_away >= TURNED_AWAY:
            stream.reset()
            return
        self._turned_away += 1
        try:
            with trio.move_on_after(LINGER):
                await stream.send_all(encode(Choice()) + encode(Reply(code)))
                await stream.send_eof()
                while await stream.receive_some():
                    pass  # so that no reset overtakes the answer
        finally:
            self._turned_away -= 1
