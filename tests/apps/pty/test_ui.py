"""The web terminal's protocol: shells that outlive their WebSocket, and end with their tab."""

from __future__ import annotations

import json
from typing import Final

import pytest
import trio

from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import Output
from dmsg_trio.apps.pty.remote._remote import AttachedAgain, CommandEnded, ConnectionLost, GivenUp
from dmsg_trio.apps.pty.ui import _tabs
from dmsg_trio.apps.pty.ui._access import Access
from dmsg_trio.apps.pty.ui._messages import (
    INPUT_WINDOW,
    NOT_ADMITTED,
    OUTPUT_WINDOW,
    TAKEN_OVER,
)
from dmsg_trio.apps.pty.ui._websocket import (
    MAX_MESSAGE,
    NORMAL,
    POLICY,
    PROTOCOL_ERROR,
    TOO_BIG,
    WebSocket,
    WebSocketClosedError,
)
from tests.apps.pty.ui_parts import LABEL, ScriptedHost, connected, opened_page, running_ui

OPEN: Final[dict[str, str | int]] = {"type": "open", "secret": "", "rows": 24, "columns": 80}

pytestmark = pytest.mark.network


async def code_of_close(socket: WebSocket) -> int:
    with trio.fail_after(10), pytest.raises(WebSocketClosedError) as caught:
        while True:
            await socket.receive()
    return caught.value.code


# ---- a shell ----


async def test_keys_and_output_pass_as_bytes() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        opened = await page.open(rows=30, columns=90)
        assert opened["label"] == LABEL
        shell = await host.shell()
        assert shell.sizes == [WindowSize(30, 90)]
        await page.socket.send(b"ls\xff\r")
        await page.hear("taken", count=4)
        assert shell.input == b"ls\xff\r"
        await shell.tell.send(Output(b"\xc3"))  # half a character is as good as a whole one
        await shell.tell.send(Output(b"\xa9 \xff"))
        await page.see(b"\xc3\xa9 \xff")


async def test_a_new_size_reaches_the_shell() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        shell = await host.shell()
        await page.say(type="resize", rows=50, columns=132)
        await page.socket.send(b"x")
        await page.hear("taken")
        assert shell.sizes[-1] == WindowSize(50, 132)


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (CommandEnded(0), "the shell ended"),
        (CommandEnded(3), "the shell ended with exit code 3"),
        (CommandEnded(None, "KILL"), "the shell was ended by SIGKILL"),
        (GivenUp("the host is gone"), "the host is gone"),
    ],
)
async def test_the_end_of_a_shell_is_told_behind_its_output(
    ending: CommandEnded | GivenUp, text: str
) -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        shell = await host.shell()
        await shell.tell.send(Output(b"last words"))
        await shell.tell.send(ending)
        assert await page.hear("status", state="ended") == {
            "type": "status",
            "state": "ended",
            "text": text,
        }
        assert page.output == b"last words"


async def test_a_refusal_is_told_with_its_reason() -> None:
    host = ScriptedHost()
    host.refusal = "this key is not on the allow list"
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        assert (await page.hear("status", state="failed"))["text"] == host.refusal


async def test_the_state_of_the_connection_to_the_host_is_told() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        await page.hear("status", state="connected")
        shell = await host.shell()
        await shell.tell.send(ConnectionLost("the server is gone"))
        assert "the server is gone" in str(
            (await page.hear("status", state="reconnecting"))["text"]
        )
        await shell.tell.send(AttachedAgain())
        await page.hear("status", state="connected")


# ---- how it outlives a WebSocket, and when it does not ----


async def test_what_was_not_seen_comes_on_the_next_websocket() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui:
        async with opened_page(ui.port) as page:
            opened = await page.open()
            shell = await host.shell()
            await page.socket.send(b"abc")
            await page.hear("taken", count=3)
            await shell.tell.send(Output(b"0123456789"))
            await page.see(b"0123456789")
            await page.say(type="received", count=4)
        await shell.tell.send(Output(b"ABC"))
        async with opened_page(ui.port) as page:
            again = await page.open(shell=opened["shell"], received=6)
            assert (again["input"], again["output"]) == (3, 6)
            await page.see(b"6789ABC")
            assert page.output == b"6789ABC"
            await page.socket.send(b"d")
            await page.hear("taken", count=4)
        assert shell.input == b"abcd"
        assert len(host.shells) == 1


async def test_an_end_that_was_not_seen_is_told_on_the_next_websocket() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui:
        async with opened_page(ui.port) as page:
            opened = await page.open()
        shell = await host.shell()
        await shell.tell.send(Output(b"bye"))
        await shell.tell.send(CommandEnded(7))
        await shell.is_over.wait()
        async with opened_page(ui.port) as page:
            await page.open(shell=opened["shell"])
            await page.hear("status", state="ended")
            assert page.output == b"bye"


@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_shell_ends_when_its_tab_is_closed(code: int) -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        shell = await host.shell()
        await page.socket.close(code)
        with trio.fail_after(5):
            await shell.is_over.wait()


async def test_a_shell_waits_for_a_tab_whose_network_is_gone_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_tabs, "GRACE", 0.5)
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui:
        async with opened_page(ui.port) as page:
            opened = await page.open()
            shell = await host.shell()
        with trio.move_on_after(0.2):
            await shell.is_over.wait()
        assert not shell.is_over.is_set()
        with trio.fail_after(5):
            await shell.is_over.wait()
        async with opened_page(ui.port) as page:
            await page.say(**OPEN, shell=opened["shell"])
            await page.hear("status", state="gone")


async def test_a_browser_that_falls_silent_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tabs, "GRACE", 0)
    monkeypatch.setattr(_tabs, "SILENCE", 0.2)
    monkeypatch.setattr(_tabs, "ALIVE_EVERY", 0.1)
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        with trio.fail_after(5):
            await (await host.shell()).is_over.wait()


async def test_a_browser_that_answers_pings_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tabs, "SILENCE", 1.0)
    monkeypatch.setattr(_tabs, "ALIVE_EVERY", 0.1)
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        for _ in range(20):
            await page.hear("alive")
        assert not (await host.shell()).is_over.is_set()


async def test_a_tab_that_comes_back_early_takes_its_seat() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as lost:
        opened = await lost.open()
        async with opened_page(ui.port) as page:
            await page.open(shell=opened["shell"])
            assert await code_of_close(lost.socket) == TAKEN_OVER
            await (await host.shell()).tell.send(Output(b"here"))
            await page.see(b"here")


async def test_several_tabs_have_a_shell_each() -> None:
    host = ScriptedHost()
    async with (
        running_ui(host.open_shell) as ui,
        opened_page(ui.port) as one,
        opened_page(ui.port) as other,
    ):
        await one.open()
        await (await host.shell(0)).tell.send(Output(b"first"))
        await other.open()
        await (await host.shell(1)).tell.send(Output(b"second"))
        await one.see(b"first")
        await other.see(b"second")


async def test_the_number_of_shells_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tabs, "MAX_SHELLS", 1)
    host = ScriptedHost()
    async with (
        running_ui(host.open_shell) as ui,
        opened_page(ui.port) as one,
        opened_page(ui.port) as other,
    ):
        await one.open()
        await other.say(**OPEN)
        assert "limit" in str((await other.hear("status", state="failed"))["text"])


async def test_the_server_takes_its_shells_along() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        shell = await host.shell()
    assert shell.is_over.is_set()


# ---- floods ----


async def test_a_flood_waits_at_the_host_until_the_page_has_shown_it() -> None:
    host = ScriptedHost()
    piece = bytes(32 * 1024)
    sent = 0
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        shell = await host.shell()
        with trio.move_on_after(1):
            while True:
                await shell.tell.send(Output(piece))
                sent += len(piece)
        assert OUTPUT_WINDOW <= sent <= OUTPUT_WINDOW + 2 * len(piece)
        await page.see(bytes(OUTPUT_WINDOW))
        await page.say(type="received", count=OUTPUT_WINDOW)
        with trio.fail_after(5):
            await shell.tell.send(Output(piece))


async def test_sizes_and_receipts_pass_keys_that_wait() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        shell = await host.shell()
        shell.reads_input = trio.Event()
        await page.socket.send(bytes(INPUT_WINDOW))
        await page.say(type="resize", rows=7, columns=7)
        await shell.tell.send(Output(b"x"))
        await page.see(b"x")
        with trio.fail_after(5):
            await shell.has_size(WindowSize(7, 7))


# ---- pages that misbehave ----


@pytest.mark.parametrize(
    "messages",
    [
        [b"keys before anything is open"],
        ["no JSON"],
        ['{"type":"open"}'],
        ['{"type":"open","secret":"","rows":0,"columns":80}'],
        ['{"type":"resize","rows":1,"columns":1}'],
        ["x" * 5000],
    ],
)
async def test_nonsense_at_the_beginning_is_refused(messages: list[str | bytes]) -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        for message in messages:
            await page.socket.send(message)
        assert await code_of_close(page.socket) == POLICY
        assert not host.shells


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"received","count":1}',
        '{"type":"received","count":-1}',
        '{"type":"open","secret":"","rows":24,"columns":80}',
        '{"type":"something"}',
        bytes(INPUT_WINDOW + 1),
    ],
)
async def test_nonsense_later_ends_the_shell(message: str | bytes) -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        shell = await host.shell()
        shell.reads_input = trio.Event()
        await page.socket.send(message)
        assert await code_of_close(page.socket) == POLICY
        with trio.fail_after(5):
            await shell.is_over.wait()


async def test_messages_have_a_limit() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        await page.socket.send(bytes(MAX_MESSAGE + 1))
        assert await code_of_close(page.socket) == TOO_BIG


async def test_what_is_no_frame_is_refused() -> None:
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        await page.open()
        await page.socket._stream.send_all(b"\xff" * 64)
        assert await code_of_close(page.socket) == PROTOCOL_ERROR


async def test_silence_at_the_beginning_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tabs, "OPEN_WITHIN", 0.1)
    host = ScriptedHost()
    async with running_ui(host.open_shell) as ui, opened_page(ui.port) as page:
        assert await code_of_close(page.socket) == POLICY


# ---- who may ----


async def test_a_token_is_traded_once_for_a_key_that_stays() -> None:
    host, access = ScriptedHost(), Access()
    token = access.new_token()
    async with running_ui(host.open_shell, access) as ui:
        async with opened_page(ui.port) as page:
            key = (await page.open(secret=token))["key"]
            assert key != token
        async with opened_page(ui.port) as page:
            await page.say(**{**OPEN, "secret": token})
            assert await code_of_close(page.socket) == NOT_ADMITTED
        async with opened_page(ui.port) as page:
            assert (await page.open(secret=key))["key"] == key


@pytest.mark.parametrize("secret", ["", "guessed", "\ud800", "x" * 4000])
async def test_nobody_gets_a_shell_without_a_token(secret: str) -> None:
    host, access = ScriptedHost(), Access()
    access.new_token()
    async with running_ui(host.open_shell, access) as ui, opened_page(ui.port) as page:
        await page.socket.send(json.dumps({**OPEN, "secret": secret}))
        assert await code_of_close(page.socket) in (NOT_ADMITTED, POLICY)
        assert not host.shells


async def test_a_token_of_ones_own_counts_as_often_as_it_is_used() -> None:
    host, access = ScriptedHost(), Access(own_token="correct horse battery")
    async with running_ui(host.open_shell, access) as ui:
        for _ in range(2):
            async with opened_page(ui.port) as page:
                await page.open(secret="correct horse battery")


async def test_compression_is_not_agreed_on() -> None:
    host = ScriptedHost()
    async with (
        running_ui(host.open_shell) as ui,
        connected(ui.port, "/", "Sec-WebSocket-Extensions: permessage-deflate") as socket,
    ):
        # A client that was answered with an extension it does not know would fail at once.
        assert isinstance(await socket.receive(), str)
        await socket.close(NORMAL)
