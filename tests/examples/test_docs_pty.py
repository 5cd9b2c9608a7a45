"""The lines of the pages about shells work when they are pasted."""

import re
import shutil
from pathlib import Path

import pytest

from tests.cli.running import network
from tests.examples.test_docs_commands import paste
from tests.ports import free_port

LINK = re.compile(r"http://127\.0\.0\.1:(\d+)/#token=([\w-]+)$", re.MULTILINE)

pytestmark = pytest.mark.network


async def test_lines_about_shells_work(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    ports = {8017: free_port(), 8080: free_port()}
    async with network() as up:
        done = await paste("docs/pty.md", tmp_path, up.ready.discovery, ports)
    assert done.code == 0, done.err
    assert "FROM HERE, AND BACK" in done.lines
    assert "it ended with 3" in done.lines
    assert done.lines.count("a photo") == 2  # from the copy that came back, and by the port
    assert "a friend was here" in done.lines
    assert "and again" not in done.lines
    assert done.lines[-1] == "not any more"
    assert not (tmp_path / "pty.sock").exists()


async def test_lines_about_the_terminal_in_the_browser_work(tmp_path: Path) -> None:
    port = free_port()
    async with network() as up:
        done = await paste("docs/pty-ui.md", tmp_path, up.ready.discovery, {8090: port})
    assert done.code == 0, done.err
    links = LINK.findall(done.out.decode())
    assert len(links) == len(set(links)) == 5
    assert links[0][0] == links[1][0]  # the same program, and another token
    assert links[-1] == (str(port), (tmp_path / "token").read_text().strip())
    assert not (tmp_path / "pty.sock").exists()
