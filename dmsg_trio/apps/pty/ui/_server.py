"""The server of the terminal: the page for whoever asks, a shell for whoever may have one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.borders import serve_each

from ._access import Access
from ._files import read_files
from ._http import HttpConnection, Request, Response, json_error, text_error, upgrade_fault
from ._messages import SUBPROTOCOL
from ._reference import serve_reference
from ._shell import OpenShell
from ._tabs import Tabs

REQUEST_WITHIN: Final = 10  # seconds for the head of a request
ANSWER_WITHIN: Final = 30  # seconds to read an answer, and to end the connection behind it
READ_SIZE: Final = 16 * 1024
MAX_IGNORED: Final = 1024 * 1024  # bytes behind the head of a request
MAX_CONNECTIONS: Final = 256  # at once; who comes then is sent away

logger = logging.getLogger("dmsg_trio.pty.ui")


async def serve_ui(
    listeners: Sequence[trio.SocketListener],
    access: Access,
    open_shell: OpenShell,
    *,
    label: str,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve terminals until cancelled, and end their shells then.

    ``open_shell`` gets a shell for a terminal of a size; ``label`` says whose shells these are.
    """
    async with trio.open_nursery() as nursery:
        tabs = Tabs(nursery, access, open_shell, label)
        server = _Server(access, open_shell, label, tabs)
        await nursery.start(serve_each, server.serve, listeners, logger)
        task_status.started()


class _Server:
    def __init__(self, access: Access, open_shell: OpenShell, label: str, tabs: Tabs) -> None:
        self._access = access
        self._open_shell = open_shell
        self._label = label
        self._tabs = tabs
        self._files = read_files()
        self._connections = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve a connection."""
        if self._connections >= MAX_CONNECTIONS:
            return
        self._connections += 1
        try:
            await self._serve_untrusted(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it is gone, and knows
        finally:
            self._connections -= 1

    async def _serve_untrusted(self, stream: trio.SocketStream) -> None:
        http = HttpConnection(stream)
        request: Request | None = None
        try:
            with trio.move_on_after(REQUEST_WITHIN):
                request = await http.receive_request_untrusted()
            if request is None:
                return
            response = self._answer(request)
        except RemoteProtocolError as error:
            response = text_error(400, str(error))
        if response is not None:
            with trio.move_on_after(ANSWER_WITHIN):
                await http.respond(response)
                await _read_to_the_end(stream)
        elif request is not None:
            await self._talk(http, request)

    def _answer(self, request: Request) -> Response | None:
        """Decide on the answer to a request; None is a WebSocket."""
        if fault := self._access.fault_untrusted(
            request.headers.get("host", ""), request.headers.get("origin")
        ):
            logger.warning("refused a request: %s", fault)
            return text_error(403, fault)
        if request.method != "GET":
            text = f"http method {request.method} is invalid for path {request.path}"
            return json_error(405, text)
        if not request.wants_websocket:
            return self._files.get(request.path) or self._files[""]
        if fault_found := upgrade_fault(request):
            return fault_found
        if SUBPROTOCOL not in request.subprotocols and not self._has_token(request):
            return text_error(403, "a WebSocket needs the token, as ?token=...")
        return None

    def _has_token(self, request: Request) -> bool:
        token = parse_qs(request.query).get("token", [""])[0]
        return self._access.redeem_untrusted(token) is not None

    async def _talk(self, http: HttpConnection, request: Request) -> None:
        if SUBPROTOCOL in request.subprotocols:
            await self._tabs.serve(await http.upgrade(request, SUBPROTOCOL))
        else:
            socket = await http.upgrade(request, None)
            await serve_reference(socket, request, self._open_shell, self._label)


async def _read_to_the_end(stream: trio.SocketStream) -> None:
    """Let the other side close: what is closed with something unread is reset, answer and all."""
    for _ in range(MAX_IGNORED // READ_SIZE):
        if not await stream.receive_some(READ_SIZE):
            return
