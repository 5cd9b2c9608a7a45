"""The listing in a real browser: what somebody sees and clicks there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dmsg_trio._asgi import serve_tcp
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import listen_tcp
from dmsg_trio.apps.files import FilesApp, UploadOptions
from tests.apps.files.test_listing import ODD, write_odd_files
from tests.apps.pty.ui_browser import CHROMIUM, Tab, running_browser
from tests.waiting import PATIENCE, answered

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

NAMES = '[...document.querySelectorAll("tbody td.name a")].map((a) => a.textContent).join("|")'
CHOOSE = """(() => {
  const files = new DataTransfer();
  files.items.add(new File(["for you"], "a present #1?.txt"));
  const input = document.querySelector("#upload input");
  input.files = files.files;
  input.dispatchEvent(new Event("change"));
})()"""


@asynccontextmanager
async def open_page(root: Path) -> AsyncIterator[Tab]:
    """Look at a folder that takes uploads."""
    app = FilesApp(str(root), uploads=UploadOptions(max_size=100))
    listeners = await listen_tcp("127.0.0.1:0")
    port = listeners[0].socket.getsockname()[1]
    async with open_service_nursery() as nursery, running_browser() as browser:
        await nursery.start(serve_tcp, app, listeners)
        yield await browser.new_tab(f"http://127.0.0.1:{port}/", width=400)


async def shows(tab: Tab, script: str, wanted: str) -> bool:
    async def look() -> bool:
        return await tab.evaluate(script) == wanted

    return await answered(look, within=PATIENCE)


async def test_a_listing_is_seen_sorted_and_walked_through(tmp_path: Path) -> None:
    (tmp_path / "my photos" / "2026").mkdir(parents=True)
    for name, size in (("b 10.txt", 5), ("b 9.txt", 70), ("A.txt", 9)):
        (tmp_path / name).write_bytes(b"x" * size)
    async with open_page(tmp_path) as tab:
        assert await shows(tab, NAMES, "my photos/|A.txt|b 9.txt|b 10.txt")
        await tab.evaluate('document.querySelector("th.size a").click()')
        assert await shows(tab, NAMES, "my photos/|b 9.txt|A.txt|b 10.txt")
        await tab.evaluate('document.querySelector("th.size a").click()')
        assert await shows(tab, NAMES, "my photos/|b 10.txt|A.txt|b 9.txt")
        await tab.evaluate('document.querySelector("tr.folder a").click()')
        assert await shows(tab, 'document.querySelector("h1").textContent', "home/my photos")
        assert await shows(tab, NAMES, "2026/")
        await tab.evaluate('document.querySelector("tr.up a").click()')
        assert await shows(tab, "location.pathname", "/")


async def test_odd_names_stay_on_a_narrow_page_and_do_nothing(tmp_path: Path) -> None:
    write_odd_files(tmp_path)
    async with open_page(tmp_path) as tab:
        assert await shows(tab, 'document.querySelectorAll("tr.file").length', str(len(ODD)))
        page = "document.documentElement"
        assert await tab.evaluate(f"{page}.scrollWidth == {page}.clientWidth") == "true"
        hosts = '[...new Set([...document.querySelectorAll("a")].map((a) => a.host))].join("|")'
        assert await tab.evaluate(hosts) == await tab.evaluate("location.host")


async def test_files_are_uploaded_from_the_page(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    async with open_page(tmp_path) as tab:
        assert await shows(tab, 'String(document.querySelector("#upload button")?.hidden)', "true")
        await tab.evaluate(CHOOSE)
        assert await shows(tab, NAMES, "sub/|a present #1?.txt")  # the page was loaded again
        assert (tmp_path / "a present #1?.txt").read_text() == "for you"
        await tab.evaluate(CHOOSE)
        said = 'document.querySelector("#upload li")?.textContent'
        fault = "Conflict: the name is taken, and files are not replaced here"
        assert await shows(tab, said, f"a present #1?.txt: {fault}")


async def test_files_are_uploaded_without_scripts(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    async with open_page(tmp_path) as tab:
        assert await shows(tab, NAMES, "sub/")
        await tab.evaluate(
            CHOOSE.replace('input.dispatchEvent(new Event("change"))', "input.form.submit()")
        )
        assert await shows(tab, NAMES, "sub/|a present #1?.txt")  # it led back to the folder
        assert (tmp_path / "a present #1?.txt").read_text() == "for you"
