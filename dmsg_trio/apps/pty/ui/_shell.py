"""The shell of one tab: it outlives the WebSockets over which the tab sees it, for a while.

What it says is kept until the page has shown it, and no more is read from the host while that is
much: so nothing is lost when a WebSocket breaks, and a flood waits at its source and not in a tab.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, TypeAlias

import trio

from dmsg_trio._errors import DmsgError, RemoteProtocolError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.wakeup import Wakeup
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import Detached, Errors, Output, TakenOver
from dmsg_trio.apps.pty.remote._remote import (
    AttachedAgain,
    CommandEnded,
    ConnectionLost,
    Ending,
    GivenUp,
    RemoteShell,
)

from ._messages import INPUT_WINDOW, OUTPUT_PIECE, OUTPUT_WINDOW, Status

OpenShell: TypeAlias = Callable[[WindowSize], AbstractAsyncContextManager[RemoteShell]]

LOSSES: Final = (DmsgError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class TabShell:
    """A remote shell, with what a tab has to catch up on."""

    def __init__(self, name: str, size: WindowSize) -> None:
        self.name = name
        self.status = Status(state="connecting")
        self.input_count = 0  # bytes that came from the page
        self.taken = 0  # bytes of those that are on their way
        self.changed = Wakeup()  # something is there to be told
        self._size = size
        self._output = bytearray()  # not yet shown
        self._shown = 0  # bytes of output in front of those
        self._input = bytearray()
        self._room = Wakeup()
        self._typed = Wakeup()
        self._resized = Wakeup()
        self._scope = trio.CancelScope()

    # ---- the page's side ----

    def put_input_untrusted(self, data: bytes) -> None:
        """Take input; `RemoteProtocolError` if the page sends more than it may."""
        self.input_count += len(data)
        self._input += data
        if len(self._input) > INPUT_WINDOW:
            raise RemoteProtocolError(
                f"{len(self._input)} bytes of input wait, the limit is {INPUT_WINDOW}"
            )
        self._typed.wake()

    def resize(self, size: WindowSize) -> None:
        """Give the terminal another size, as soon as that is possible."""
        self._size = size
        self._resized.wake()

    def output_from(self, count: int) -> bytes:
        """Get a piece of the output behind so many bytes; nothing if there is none yet."""
        start = count - self._shown
        return bytes(self._output[start : start + OUTPUT_PIECE])

    @property
    def output_range(self) -> tuple[int, int]:
        """From where to where the output is at hand."""
        return self._shown, self._shown + len(self._output)

    def confirm_untrusted(self, count: int) -> None:
        """Forget output that the page has shown; `RemoteProtocolError` if it cannot have."""
        first, last = self.output_range
        if not first <= count <= last:
            raise RemoteProtocolError(f"{count} bytes shown, which is not {first} to {last}")
        del self._output[: count - first]
        self._shown = count
        self._room.wake()

    def keep(self, seconds: float = math.inf) -> None:
        """Live on for so long, unless this is called again."""
        self._scope.deadline = trio.current_time() + seconds

    def hang_up(self) -> None:
        """End the shell now."""
        self._scope.cancel()

    # ---- the host's side ----

    async def run(self, open_shell: OpenShell) -> None:
        """Have a shell at the host; be there, also when it has ended, until it is hung up."""
        with self._scope:
            try:
                ending = await self._have_shell(open_shell)
                self._tell(Status(state="ended", text=_describe(ending)))
            except* LOSSES as group:
                self._tell(Status(state="failed", text=why(group)))
            await trio.sleep_forever()  # the page has to hear of it

    async def _have_shell(self, open_shell: OpenShell) -> Ending:
        async with open_shell(self._size) as remote, open_service_nursery() as nursery:
            self._tell(Status(state="connected"))
            nursery.start_soon(self._carry_input, remote)
            nursery.start_soon(self._carry_sizes, remote, self._size)
            return await self._carry_output(remote)

    async def _carry_output(self, remote: RemoteShell) -> Ending:
        async for event in remote:
            match event:
                case Output(data) | Errors(data):
                    while len(self._output) + len(data) > OUTPUT_WINDOW:
                        await self._room.wait()
                    self._output += data
                    self.changed.wake()
                case ConnectionLost(reason):
                    text = f"the connection to the host is lost: {reason}"
                    self._tell(Status(state="reconnecting", text=text))
                case AttachedAgain():
                    self._tell(Status(state="connected"))
                case _:
                    return event
        return GivenUp("the host said nothing more")

    async def _carry_input(self, remote: RemoteShell) -> None:
        # When the shell takes no more, what it says last tells why.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                while not self._input:
                    await self._typed.wait()
                data = bytes(self._input)
                await remote.send_input(data)
                del self._input[: len(data)]
                self.taken += len(data)
                self.changed.wake()

    async def _carry_sizes(self, remote: RemoteShell, size: WindowSize) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                while size == self._size:
                    await self._resized.wait()
                size = self._size
                await remote.resize(size)

    def _tell(self, status: Status) -> None:
        self.status = status
        self.changed.wake()


def _describe(ending: Ending) -> str:
    match ending:
        case CommandEnded(code=None, signal=None) | CommandEnded(code=0):
            return "the shell ended"
        case CommandEnded(code=code, signal=None):
            return f"the shell ended with exit code {code}"
        case CommandEnded(signal=signal):
            return f"the shell was ended by SIG{signal}"
        case TakenOver():
            return "another client took the shell over"
        case Detached():
            return "the shell goes on without this tab"
        case GivenUp(reason):
            return reason


def why(group: BaseExceptionGroup[BaseException]) -> str:
    """Say the first of the reasons in a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
