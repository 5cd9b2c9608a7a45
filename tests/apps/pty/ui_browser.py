"""A real browser for tests: Chromium without a window, driven over its debugging protocol."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Final

import msgspec
import trio

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.apps.pty.ui._websocket import WebSocketClosedError
from tests.apps.pty.ui_parts import connected
from tests.waiting import PATIENCE

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
PAUSE: Final = 0.05  # seconds between two looks at the page

_KEYS: Final = {  # name: (key code, text)
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "ArrowDown": (40, ""),
}


Look = Callable[[], Awaitable[str]]


class Browser:
    """The connection to a browser, which answers calls and tells of events."""

    def __init__(self, send_channel: trio.MemorySendChannel[str]) -> None:
        self._outgoing = send_channel
        self._waiting: dict[int, tuple[trio.Event, list[msgspec.Raw]]] = {}
        self._count = 0
        self._asked = trio.Event()

    async def asked(self) -> None:
        """Wait until a page has the browser ask something."""
        with trio.fail_after(PATIENCE):
            await self._asked.wait()
        self._asked = trio.Event()

    async def call(self, method: str, session: str = "", **params: object) -> msgspec.Raw:
        """Call a method and wait for its result."""
        self._count += 1
        number, answered, results = self._count, trio.Event(), list[msgspec.Raw]()
        self._waiting[number] = (answered, results)
        call = {"id": number, "method": method, "params": params}
        await self._outgoing.send(
            msgspec.json.encode(call | ({"sessionId": session} if session else {})).decode()
        )
        with trio.fail_after(PATIENCE):
            await answered.wait()
        return results[0]

    def take(self, text: str) -> None:
        """Take in what the browser says."""
        message = msgspec.json.decode(text, type=_Message)
        if message.id in self._waiting:
            answered, results = self._waiting.pop(message.id)
            assert message.error is None, bytes(message.error)
            results.append(message.result)
            answered.set()
        if message.method == "Page.javascriptDialogOpening":
            self._asked.set()

    async def new_tab(self, url: str, *, width: int = 900, height: int = 560) -> Tab:
        """Open a page in a tab of its own."""
        target = msgspec.json.decode(
            await self.call("Target.createTarget", url="about:blank"), type=_Target
        ).target
        session = msgspec.json.decode(
            await self.call("Target.attachToTarget", targetId=target, flatten=True), type=_Session
        ).session
        tab = Tab(self, target, session)
        await tab.set_size(width, height)
        await tab.call("Page.enable")
        await tab.call("Page.navigate", url=url)
        return tab


class _Message(msgspec.Struct):
    id: int = 0
    method: str = ""
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw | None = None


class _Target(msgspec.Struct):
    target: str = msgspec.field(name="targetId")


class _Session(msgspec.Struct):
    session: str = msgspec.field(name="sessionId")


class _Value(msgspec.Struct):
    value: str = ""


class _Evaluated(msgspec.Struct):
    result: _Value


class _Screenshot(msgspec.Struct):
    data: str


class Tab:
    """A page in the browser, as somebody who sits in front of it has it."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session

    async def call(self, method: str, **params: object) -> msgspec.Raw:
        return await self._browser.call(method, self._session, **params)

    async def evaluate(self, script: str) -> str:
        """Run a script in the page, for a text."""
        result = await self.call(
            "Runtime.evaluate",
            expression=f"(async () => String({script}))()",
            awaitPromise=True,
        )
        return msgspec.json.decode(result, type=_Evaluated).result.value

    # ---- eyes ----

    async def screen(self) -> str:
        """What stands in the terminal."""
        text = await self.evaluate(
            '[...document.querySelectorAll(".xterm-rows > div")].map((row) => row.textContent).join("\\n")'
        )
        return text.replace("\xa0", " ")

    async def status(self) -> str:
        """What the page says about it, if anything."""
        return await self.evaluate(
            '(() => { const bar = document.getElementById("status");'
            ' return !bar || bar.hidden ? "" : bar.innerText; })()'
        )

    async def see(self, pattern: str) -> str:
        """Wait until the terminal shows it."""
        return await self._wait_for(self.screen, pattern)

    async def read(self, pattern: str) -> str:
        """Wait until the page says it; '^$' is nothing."""
        return await self._wait_for(self.status, pattern)

    async def copied(self, pattern: str) -> str:
        """Wait until the clipboard has it."""
        return await self._wait_for(
            lambda: self.evaluate("await navigator.clipboard.readText()"), pattern
        )

    async def _wait_for(self, look: Look, pattern: str) -> str:
        text = ""
        with trio.move_on_after(PATIENCE):
            while True:
                if re.search(pattern, text := await look(), re.MULTILINE):
                    return text
                await trio.sleep(PAUSE)
        raise AssertionError(f"{pattern!r} did not come; there is:\n{text}")

    async def take_picture(self, path: Path) -> None:
        shot = msgspec.json.decode(await self.call("Page.captureScreenshot"), type=_Screenshot)
        await trio.Path(path).write_bytes(base64.b64decode(shot.data))

    # ---- hands ----

    async def type(self, text: str) -> None:
        """Type characters; a line feed is Enter."""
        await self.call("Page.bringToFront")
        for piece in re.split("(\n)", text):
            if piece == "\n":
                await self.press("Enter")
            elif piece:
                await self.call("Input.insertText", text=piece)

    async def press(self, key: str, *, control: bool = False, shift: bool = False) -> None:
        """Press a key, and let it go."""
        code, text = _KEYS[key] if key in _KEYS else (ord(key.upper()), key)
        event = {
            "key": key,
            "windowsVirtualKeyCode": code,
            "code": key if key in _KEYS else f"Key{key.upper()}",
            "modifiers": 2 * control + 8 * shift,
        }
        text = "" if control else text
        await self.call(
            "Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **event
        )
        await self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    async def double_click(self, x: int, y: int) -> None:
        """Select the word at this place."""
        for count in (1, 2):
            for kind in ("mousePressed", "mouseReleased"):
                await self.call(
                    "Input.dispatchMouseEvent",
                    type=kind,
                    x=x,
                    y=y,
                    button="left",
                    clickCount=count,
                )

    async def reload_and_be_asked(self, *, leave: bool) -> None:
        """Reload the page, and answer what the browser asks before it does."""
        await self._wait_for(
            lambda: self.evaluate("navigator.userActivation.hasBeenActive"), "true"
        )
        await self.evaluate("setTimeout(() => location.reload())")
        await self._browser.asked()
        await self.call("Page.handleJavaScriptDialog", accept=leave)

    async def set_size(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def close(self) -> None:
        await self._browser.call("Target.closeTarget", targetId=self._target)


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Have a browser for the block, which ends with it and all its processes."""
    assert CHROMIUM is not None
    profile = tempfile.mkdtemp(prefix="dmsgpty-ui-")
    try:
        async with open_service_nursery() as nursery:
            command = [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",  # which needs more rights than tests should have
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
                "--password-store=basic",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "about:blank",
            ]
            process = await trio.lowlevel.open_process(command, stderr=PIPE, start_new_session=True)
            assert process.stderr is not None
            try:
                port, path = await _debugging_address(process.stderr)
                nursery.start_soon(_drain, process.stderr)
                async with connected(port, path) as socket:
                    outgoing, calls = trio.open_memory_channel[str](0)
                    browser = Browser(outgoing)

                    async def hear() -> None:
                        with suppress(WebSocketClosedError):
                            while True:
                                text = await socket.receive()
                                assert isinstance(text, str)
                                browser.take(text)

                    async def speak() -> None:
                        async for call in calls:
                            await socket.send(call)

                    nursery.start_soon(hear)
                    nursery.start_soon(speak)
                    yield browser
            finally:
                process.terminate()
                with trio.move_on_after(PATIENCE, shield=True):
                    await process.wait()  # it ends and reaps its own processes
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with trio.CancelScope(shield=True):
                    await process.wait()
                    await process.stderr.aclose()
    finally:
        shutil.rmtree(profile, ignore_errors=True)


async def _debugging_address(log: trio.abc.ReceiveStream) -> tuple[int, str]:
    text = ""
    with trio.fail_after(PATIENCE):
        async for piece in log:
            text += piece.decode(errors="replace")
            if found := re.search(r"DevTools listening on ws://127\.0\.0\.1:(\d+)(/\S+)\s", text):
                return int(found[1]), found[2]
    raise AssertionError(f"the browser does not start:\n{text}")


async def _drain(log: trio.abc.ReceiveStream) -> None:
    with suppress(trio.ClosedResourceError):  # the browser is over
        async for _ in log:
            pass
