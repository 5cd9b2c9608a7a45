"""The lines of the page about dmsgweb work when they are pasted."""

from pathlib import Path

import pytest

from tests.cli.running import network
from tests.examples.test_docs_commands import paste

pytestmark = pytest.mark.network


async def test_lines_about_the_web_work(tmp_path: Path) -> None:
    async with network() as up:
        done = await paste("docs/dmsgweb.md", tmp_path, up.ready.discovery)
    said = done.out.decode()
    assert done.code == 0, done.err
    assert said.count("hello from a key\n") == 5
    assert said.count("401 Unauthorized") == 1
    assert "function FindProxyForURL" in said
    assert "pac      http://127.0.0.1:4445/proxy.pac" in said
