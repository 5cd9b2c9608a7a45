"""The lines of the page about dmsgweb work when they are pasted."""

from pathlib import Path

import pytest

from tests.cli.running import network
from tests.examples.test_docs_commands import paste
from tests.ports import free_port

pytestmark = pytest.mark.network


async def test_lines_about_the_web_work(tmp_path: Path) -> None:
    ports = {4445: free_port(), 8080: free_port(), 8086: free_port()}
    own = {"PROXYPORT": str(ports[4445])}  # which no line says, since it is the default
    async with network() as up:
        done = await paste("docs/dmsgweb.md", tmp_path, up.ready.discovery, ports, **own)
    assert done.code == 0, done.err
    said = done.out.decode()
    assert said.count("hello from a key\n") == 5
    assert said.count("401 Unauthorized") == 1
    assert "function FindProxyForURL" in said
    assert f"pac      http://127.0.0.1:{ports[4445]}/proxy.pac" in said
