"""The lines for a shell in docs/socks5.md work as they are when they are pasted."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.cli.running import DMSG, command, network
from tests.examples.test_docs_commands import ROOT, SHELL

PORTS = (1081, 8017)  # that the page uses
ENDING = "PIDS=; trap 'kill $PIDS 2> /dev/null || :' EXIT"  # also if a line of it fails

pytestmark = pytest.mark.network


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return sock.connect_ex(("127.0.0.1", port)) != 0


async def test_lines_about_socks_work(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    if not all(map(is_free, PORTS)):
        pytest.skip(f"one of the ports {PORTS} is taken")
    lines = "".join(SHELL.findall((ROOT / "docs" / "socks5.md").read_text()))
    async with network() as up:
        done = await command(
            ["sh", "-c", f'cd "$HOME" && set -eu\n{ENDING}\n{lines}'],
            discovery=up.ready.discovery,
            env={
                "PATH": f"{Path(DMSG).parent}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                "XDG_CONFIG_HOME": str(tmp_path),
            },
        )
    assert done.code == 0, done.err
    said = done.out.decode()
    assert said.count("seen from the exit\n") == 2
    assert "not on the list of targets" in said
    assert "closed" in done.lines[-1], said
