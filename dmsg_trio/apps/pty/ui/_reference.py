"""The web protocol of the reference, for its page and whatever else was written for it.

Text messages both ways: keys, and what the terminal shows, with lines about the state in between. The
size is fixed. Unlike there no message holds half a character, which browsers answer by hanging up.
"""

from __future__ import annotations

import codecs
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qs

import trio

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import Errors, Output
from dmsg_trio.apps.pty.remote._remote import AttachedAgain, ConnectionLost, RemoteShell

from ._http import Request
from ._shell import LOSSES, OpenShell, why
from ._websocket import UNSUPPORTED, WebSocket, WebSocketClosedError

SIZE: Final = WindowSize(rows=30, columns=100)
KEEP_ALIVE: Final = "\0"
KEEP_ALIVE_EVERY: Final = 10  # seconds
MARK: Final = "export DMSGPTYTERM=1"  # by which start-up files know where they run


async def serve_reference(
    socket: WebSocket, request: Request, open_shell: OpenShell, label: str
) -> None:
    """Have a shell as long as the WebSocket; close that when the shell ends."""
    try:
        await socket.send(KEEP_ALIVE)
        async with open_service_nursery() as nursery:
            nursery.start_soon(_keep_alive, socket)
            await _have_shell(socket, request, open_shell, label)
        await socket.close(reason="closed")
    except* WebSocketClosedError:
        await socket.close()


async def _have_shell(
    socket: WebSocket, request: Request, open_shell: OpenShell, label: str
) -> None:
    reason = ""
    try:
        await socket.send("[dmsgpty-ui] Status: Dialing...\r")
        async with open_shell(SIZE) as remote:
            await socket.send("[dmsgpty-ui] Status: Opening pty...\r")
            url = request.headers.get("host", "") + request.path
            await socket.send(f"\n\rPTY-HOST : {label}\n\rUI-URL   : (HTTP/1.1) {url}\n\r")
            await remote.send_input(_first_line(request).encode())
            async with open_service_nursery() as nursery:
                nursery.start_soon(_carry_keys, socket, remote)
                await _carry_output(remote, socket)
    except* WebSocketClosedError:
        raise
    except* LOSSES as group:
        reason = why(group)
    if reason:
        await _complain(socket, reason)


def _first_line(request: Request) -> str:
    commands = parse_qs(request.query).get("commands", [""])[0]
    return " && ".join([MARK, *(each for each in commands.split(",") if each)]) + "\n"


async def _carry_keys(socket: WebSocket, remote: RemoteShell) -> None:
    # What comes behind the end of the command is for nobody; its output tells that it ended.
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            message = await socket.receive()
            if not isinstance(message, str):
                await socket.close(UNSUPPORTED, "keys are text")
                raise WebSocketClosedError(UNSUPPORTED)
            await remote.send_input(message.encode(errors="replace"))


async def _carry_output(remote: RemoteShell, socket: WebSocket) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    async for event in remote:
        match event:
            case Output(data) | Errors(data):
                if text := decoder.decode(data):
                    await socket.send(text)
            case ConnectionLost():
                await socket.send("[dmsgpty-ui] Status: Reconnecting...\r")
            case AttachedAgain():
                await socket.send("[dmsgpty-ui] Status: Connected.\r")
            case _:
                break
    if rest := decoder.decode(b"", final=True):
        await socket.send(rest)


async def _complain(socket: WebSocket, reason: str) -> None:
    """Say what went wrong, and stay, so that it can be read."""
    await socket.send(f"[dmsgpty-ui] Error: {reason}\n\r")
    await socket.send("[dmsgpty-ui] Status: Stopped!\r")
    while True:
        await socket.receive()


async def _keep_alive(socket: WebSocket) -> None:
    while True:
        await trio.sleep(KEEP_ALIVE_EVERY)
        await socket.send(KEEP_ALIVE)
