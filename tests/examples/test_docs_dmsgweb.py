"""The lines of the page about dmsgweb work when they are pasted."""

import re
from pathlib import Path

import pytest

from tests.cli.running import network
from tests.examples.test_docs_commands import ROOT, SHELL, run_in
from tests.ports import free_port

pytestmark = pytest.mark.network


async def test_lines_about_the_web_work(tmp_path: Path) -> None:
    # Ports of its own for each run: those of the page may be taken, by another run for instance.
    ports = {each: str(free_port()) for each in ("4445", "8080", "8086")}
    lines = "".join(SHELL.findall((ROOT / "docs/dmsgweb.md").read_text()))
    lines = re.sub("|".join(ports), lambda found: ports[found[0]], lines)
    proxy = ports["4445"]
    async with network() as up:
        done = await run_in(tmp_path, lines, up.ready.discovery, PROXYPORT=proxy)
    assert done.code == 0, done.err
    said = done.out.decode()
    assert said.count("hello from a key\n") == 5
    assert said.count("401 Unauthorized") == 1
    assert "function FindProxyForURL" in said
    assert f"pac      http://127.0.0.1:{proxy}/proxy.pac" in said
