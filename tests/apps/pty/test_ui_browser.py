"""The web terminal as somebody has it who sits in front of a browser."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from dmsg_trio.apps.pty.ui._access import Access
from tests.apps.pty.ui_browser import CHROMIUM, Browser, Tab, running_browser
from tests.apps.pty.ui_parts import LABEL, LocalHost, ScriptedHost, running_proxy, running_ui
from tests.ports import free_port
from tests.waiting import PATIENCE

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]

CKSUM = 536141802  # of the paste
PROMPT = "^> "


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@pytest.fixture
def host(tmp_path: Path) -> LocalHost:
    return LocalHost(tmp_path)


@pytest.fixture
async def tab(host: LocalHost, browser: Browser) -> AsyncIterator[Tab]:
    """A tab with a shell in it that waits for its first command."""
    async with running_ui(host.open_shell) as ui:
        tab = await browser.new_tab(ui.url)
        await tab.see(PROMPT)
        yield tab


async def gone(pid: int) -> None:
    """Wait until a process is no more."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await trio.sleep(0.05)


async def size_of(tab: Tab) -> tuple[int, int]:
    """Ask the shell for the size of its terminal."""
    await tab.type("clear; stty size\n")
    found = re.search(
        r"^(\d+) (\d+)$", (await tab.see(r"^\d+ \d+\s*$")).replace("\t", ""), re.MULTILINE
    )
    assert found is not None
    return int(found[1]), int(found[2])


async def test_what_is_typed_runs_and_shows(tab: Tab) -> None:
    await tab.read("^$")
    await tab.type("echo sum $((40 + 2)) 'é日😀'\n")
    await tab.see("^sum 42 é日😀")
    assert LABEL in await tab.evaluate("document.title")


async def test_the_terminal_is_as_large_as_the_window(host: LocalHost, browser: Browser) -> None:
    async with running_ui(host.open_shell) as ui:
        tab = await browser.new_tab(ui.url, width=900, height=560)
        await tab.see(PROMPT)
        rows, columns = await size_of(tab)
        assert 20 < rows < 40
        assert 80 < columns < 130
        await tab.set_size(600, 300)
        await tab.type(
            "clear; until test $(tput cols) -lt 80; do sleep 0.05; done; echo small''er\n"
        )
        await tab.see("^smaller")
        after = await size_of(tab)
        assert after[0] < rows
        assert after[1] < columns


@pytest.mark.skipif(not shutil.which("vim"), reason="needs vim")
async def test_vim_has_the_whole_screen_and_gives_it_back(tab: Tab) -> None:
    await tab.type("echo be''fore; vim --clean poem.txt\n")
    await tab.see("^~ *$")
    await tab.type("iroses are red")
    await tab.see("^roses are red")
    assert "before" not in await tab.screen()
    await tab.press("Escape")
    await tab.type(":wq\n")
    await tab.see("^before")
    await tab.type("cat poem.txt\n")
    await tab.see("^roses are red")


@pytest.mark.skipif(not shutil.which("less"), reason="needs less")
async def test_less_scrolls(tab: Tab) -> None:
    await tab.type("seq 1000 | less\n")
    await tab.see("^1 *$")
    await tab.press("ArrowDown")
    await tab.see(r"\A2 *$")
    await tab.type("G")
    await tab.see("^1000 *$")
    await tab.type("q")
    await tab.see(PROMPT)


async def test_tabs_have_shells_of_their_own_that_end_with_them(
    host: LocalHost, browser: Browser
) -> None:
    async with running_ui(host.open_shell) as ui:
        one = await browser.new_tab(ui.url)
        await one.see(PROMPT)
        other = await browser.new_tab(ui.url)
        await other.see(PROMPT)
        for tab, word in ((one, "first"), (other, "second")):
            await tab.type(f"name={word}; echo I am $name\n")
            await tab.see(f"^I am {word}")
        await one.type("sleep 1000\n")
        await one.close()
        await gone(host.pids[0])
        await other.type("echo still $name\n")
        await other.see("^still second")


async def test_the_browser_asks_before_a_page_leaves_its_shell(tab: Tab, host: LocalHost) -> None:
    await tab.type("name=kept\n")
    await tab.reload_and_be_asked(leave=False)
    await tab.type("echo $name\n")
    await tab.see("^kept")
    await tab.reload_and_be_asked(leave=True)
    await gone(host.pids[0])
    await tab.see(PROMPT)
    await tab.type("echo new$name\n")
    await tab.see("^new *$")


async def test_a_link_lets_one_browser_in_and_its_other_tabs(
    host: LocalHost, browser: Browser
) -> None:
    access = Access()
    async with running_ui(host.open_shell, access) as ui:
        stranger = await browser.new_tab(ui.url)
        assert "does not know this browser" in await stranger.read("link")
        link = ui.link
        tab = await browser.new_tab(link)
        await tab.see(PROMPT)
        assert await tab.evaluate("location.href") == ui.url
        neighbour = await browser.new_tab(ui.url)
        await neighbour.see(PROMPT)
        again = await browser.new_tab(link)  # it is used up, and the browser is known
        await again.see(PROMPT)
        assert len(host.pids) == 3


async def test_a_refusal_is_on_the_screen_and_enter_tries_again(browser: Browser) -> None:
    host = ScriptedHost()
    host.refusal = "the host refused: this key is not on the allow list"
    async with running_ui(host.open_shell) as ui:
        tab = await browser.new_tab(ui.url)
        assert "Enter: try again" in await tab.read("this key is not on the allow list")
        host.refusal = ""
        await tab.press("Enter")
        await host.shell()
        await tab.read("^$")


async def test_the_end_of_a_shell_is_said_and_enter_begins_anew(tab: Tab) -> None:
    await tab.type("clear; echo be''fore; exit 3\n")
    await tab.read("ended with exit code 3")
    await tab.press("Enter")
    await tab.see(r"^before\s+exit\s+>")
    await tab.read("^$")
    await tab.type("echo a''gain\n")
    await tab.see("^again")


async def test_a_shell_goes_on_when_its_websocket_breaks(browser: Browser, host: LocalHost) -> None:
    async with running_ui(host.open_shell) as ui, running_proxy(ui.port) as proxy:
        tab = await browser.new_tab(f"http://127.0.0.1:{proxy.port}/")
        await tab.see(PROMPT)
        await tab.type("for i in $(seq 300); do echo line $i; sleep 0.005; done; echo d''one\n")
        await tab.see("^line 20")
        proxy.cut()
        await tab.type("echo ty''ped\n")
        await tab.see("^typed")
        await tab.read("^$")
        assert len(host.pids) == 1
        await tab.type("seq 1 3 | tac\n")
        await tab.see("^3\n2\n1")


async def test_a_restart_of_the_server_is_said_and_enter_begins_anew(
    host: LocalHost, browser: Browser
) -> None:
    port = free_port()
    async with running_ui(host.open_shell, port=port) as ui:
        tab = await browser.new_tab(ui.url)
        await tab.see(PROMPT)
    await tab.read("does not answer")
    await gone(host.pids[0])
    async with running_ui(host.open_shell, port=port):
        await tab.read("its shell is gone")
        await tab.press("Enter")
        await tab.read("^$")
        await tab.type("echo a''gain\n")
        await tab.see("^again")


async def test_a_paste_of_a_megabyte_arrives_whole(tab: Tab) -> None:
    await tab.type("stty -echo; echo rea''dy; head -c 1020000 | cksum; stty echo\n")
    await tab.see("^ready")
    await tab.evaluate(
        "(() => { const data = new DataTransfer();"
        " data.setData('text/plain', '0123456789abcdef\\n'.repeat(60000));"
        " document.querySelector('.xterm-helper-textarea').dispatchEvent("
        "new ClipboardEvent('paste', {clipboardData: data, bubbles: true})); })()"
    )
    await tab.see(f"^{CKSUM} 1020000")


async def test_a_flood_can_be_stopped(tab: Tab) -> None:
    await tab.type("yes 'a line of some length that is not very long'\n")
    await tab.see("^a line")
    await tab.press("c", control=True)
    await tab.type("echo st''opped\n")
    await tab.see("^stopped")


async def test_a_flood_does_not_fill_the_tab(tab: Tab) -> None:
    await tab.type("head -c 20000000 /dev/zero | base64 -w 70; echo d''one\n")
    await tab.see("^done")
    assert float(await tab.evaluate("performance.memory.usedJSHeapSize")) < 200e6


async def test_what_is_selected_is_copied_and_else_the_key_is_the_shells(
    host: LocalHost, browser: Browser
) -> None:
    async with running_ui(host.open_shell) as ui:
        tab = await browser.new_tab(ui.url)
        await browser.call(
            "Browser.grantPermissions",
            permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
        )
        await tab.see(PROMPT)
        await tab.type("clear; echo pre''cious; sleep 1000\n")
        await tab.see("^precious")
        await tab.double_click(40, 18)
        await tab.press("c", control=True)
        await tab.copied("^precious$")
        await tab.press("c", control=True)
        await tab.type("echo in''terrupted\n")
        await tab.see("^interrupted")
