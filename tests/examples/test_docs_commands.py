"""The lines for a shell in README and docs work as they are when they are pasted."""

import os
import re
from pathlib import Path

import pytest

from tests.cli.running import DMSG, Done, command, network

ROOT = Path(__file__).parents[2]
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.network


async def paste(page: str, folder: Path, discovery: str = "") -> Done:
    """Run all lines of a page in one shell, which stops at the first that fails."""
    lines = "".join(SHELL.findall((ROOT / page).read_text()))
    assert lines
    env = {
        "PATH": f"{Path(DMSG).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    words = ["sh", "-c", f'cd "$HOME" && set -eu\n{lines}']
    return await command(words, discovery=discovery, env=env)


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md"])
async def test_lines_for_a_second_terminal_work(page: str, tmp_path: Path) -> None:
    async with network() as up:
        done = await paste(page, tmp_path, up.ready.discovery)
    assert (done.code, done.err) == (0, "")
    assert "2 servers, 1 client" in done.lines[0]
    assert "4 of 4 answered" in done.out.decode()
    assert "hello" in done.lines
    assert "It works" in done.lines[-1]


async def test_lines_about_keys_work(tmp_path: Path) -> None:
    done = await paste("docs/keys.md", tmp_path)
    assert done.code == 0, done.err
    (fault,) = done.err.splitlines()
    assert "others can read me.id" in fault
    assert (tmp_path / "server.id").stat().st_mode & 0o777 == 0o600
