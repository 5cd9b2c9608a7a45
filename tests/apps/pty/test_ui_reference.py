"""The reference's web protocol, as its own page speaks it."""

from __future__ import annotations

import pytest
import trio

from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import Output
from dmsg_trio.apps.pty.remote._remote import CommandEnded
from dmsg_trio.apps.pty.ui import _reference
from dmsg_trio.apps.pty.ui._access import Access
from dmsg_trio.apps.pty.ui._websocket import NORMAL, UNSUPPORTED, WebSocket, WebSocketClosedError
from tests.apps.pty.ui_parts import LABEL, ScriptedHost, connected, get, running_ui, upgrade

pytestmark = pytest.mark.network


async def see(socket: WebSocket, wanted: str) -> str:
    """Take what comes until this is in it."""
    text = ""
    with trio.fail_after(10):
        while wanted not in text:
            message = await socket.receive()
            assert isinstance(message, str)
            text += message
    return text


async def code_of_close(socket: WebSocket) -> int:
    with trio.fail_after(10), pytest.raises(WebSocketClosedError) as caught:
        while True:
            await socket.receive()
    return caught.value.code


async def test_it_says_what_it_does_and_starts_a_shell_of_the_usual_size() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, connected(ui.port, "/any/path") as socket:
        text = await see(socket, "UI-URL")
        assert text.index("\0") < text.index("[dmsgpty-ui] Status: Dialing...\r")
        assert "[dmsgpty-ui] Status: Opening pty...\r" in text
        assert f"PTY-HOST : {LABEL}\n\r" in text
        shell = await host.shell()
        assert shell.sizes == [WindowSize(rows=30, columns=100)]


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("", b"export DMSGPTYTERM=1\n"),
        ("?commands=a,b%20c", b"export DMSGPTYTERM=1 && a && b c\n"),
        ("?commands=", b"export DMSGPTYTERM=1\n"),
    ],
)
async def test_it_types_the_commands_of_the_query(query: str, line: bytes) -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, connected(ui.port, f"/{query}") as socket:
        shell = await host.shell()
        await socket.send("é\r")
        with trio.fail_after(5):
            await shell.has_input(line + "é\r".encode())


async def test_characters_come_whole_however_they_are_cut() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, connected(ui.port) as socket:
        shell = await host.shell()
        for byte in "é日😀".encode():
            await shell.tell.send(Output(bytes([byte])))
        await shell.tell.send(Output(b"\xff."))
        assert "é日😀\ufffd." in await see(socket, "\ufffd.")


async def test_the_websocket_ends_with_the_shell_and_the_shell_with_the_websocket() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui:
        async with connected(ui.port) as socket:
            shell = await host.shell()
            await shell.tell.send(Output(b"half \xc3"))
            await shell.tell.send(CommandEnded(0))
            await see(socket, "half \ufffd")
            assert await code_of_close(socket) == NORMAL
        async with connected(ui.port):
            shell = await host.shell(1)
        with trio.fail_after(5):
            await shell.is_over.wait()


async def test_a_refusal_is_said_and_stays_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reference, "KEEP_ALIVE_EVERY", 0.05)
    host = ScriptedHost()
    host.refusal = "nobody is at home"
    async with running_ui(host.open_shell) as ui, connected(ui.port) as socket:
        await see(socket, "[dmsgpty-ui] Error: nobody is at home\n\r")
        await see(socket, "[dmsgpty-ui] Status: Stopped!\r")
        for _ in range(3):
            await see(socket, "\0")


async def test_keys_are_text() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, connected(ui.port) as socket:
        shell = await host.shell()
        await socket.send(b"keys")
        assert await code_of_close(socket) == UNSUPPORTED
        with trio.fail_after(5):
            await shell.is_over.wait()


async def test_the_token_comes_in_the_query() -> None:
    host, access = ScriptedHost(), Access(own_token="correct horse battery")
    async with running_ui(host.open_shell, access) as ui:
        refused = await get(ui.port, "/?token=wrong", *upgrade())
        assert (refused.status, host.shells) == (403, [])
        assert (await get(ui.port, "/", *upgrade())).status == 403
        once = access.new_token()
        async with connected(ui.port, f"/?token={once}"):
            await host.shell(0)
        assert (await get(ui.port, f"/?token={once}", *upgrade())).status == 403
        async with connected(ui.port, "/?token=correct%20horse%20battery&commands=x"):
            await host.shell(1)
