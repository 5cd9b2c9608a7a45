"""The lines for a shell in README and docs work as they are when they are pasted."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

import pytest
import trio

from tests.cli.running import DMSG, Done, environment, network
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
PATIENCE = 90  # seconds for all lines of a page, on a machine that is busy: a dozen programs start
TABLE = re.compile(r"^\| `(dmsg[\w -]*)` \|.*\| `([^`|]+)` \|$", re.MULTILINE)
# What runs until Ctrl-C, each with what it says, or logs, when it is ready.
SERVICES = {
    "dmsghttp": "dmsgcurl",
    "dmsgweb": "proxy.pac",
    "dmsg-socks5": "at ",
    "dmsgpty-host": "sock",
    "dmsgpty-ui": "#token=",
    "dmsg-discovery": "listening",
}
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.network


async def paste(
    page: str,
    folder: Path,
    discovery: str = "",
    ports: Mapping[int, int] | None = None,
    **variables: str,
) -> Done:
    """Run all lines of a page in one shell, which stops at the first that fails.

    ``ports`` are used instead of those of the page, which may be taken, by another run for instance.
    """
    lines = "".join(SHELL.findall((ROOT / page).read_text()))
    assert lines
    for port, instead in (ports or {}).items():  # which are none of the page's: see `free_port`
        lines, count = re.subn(rf"\b{port}\b", str(instead), lines)
        assert count, port
    return await run_in(folder, lines, discovery, **variables)


async def run_in(folder: Path, lines: str, discovery: str = "", **variables: str) -> Done:
    """Run lines in one shell, in a home of their own; what they leave running is killed."""
    env = {
        "PATH": f"{Path(DMSG).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        **variables,
    }
    with TemporaryFile() as out, TemporaryFile() as err:  # no pipes, which what is left would hold
        process = await trio.lowlevel.open_process(
            ["sh", "-c", f'cd "$HOME" && set -eu\n{lines}'],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**environment(discovery), **env},
            start_new_session=True,
        )
        try:
            with trio.move_on_after(PATIENCE):
                await process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                code = await process.wait()
        out.seek(0)
        err.seek(0)
        return Done(code, out.read(), err.read().decode())


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md", "docs/index.md"])
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


async def test_lines_about_the_own_address_work(tmp_path: Path) -> None:
    async with network() as up:
        done = await paste("docs/dmsgip.md", tmp_path, up.ready.discovery)
    assert done.code == 0, done.err
    assert {"127.0.0.1 is not a public address"} == set(done.err.splitlines())
    assert done.lines.count("127.0.0.1") == 3
    assert "we are at 127.0.0.1" in done.lines


async def test_lines_about_servers_work(tmp_path: Path) -> None:
    async with network() as up:
        port = int(up.ready.discovery.rpartition(":")[2])
        ports = {9090: port, 8081: free_port(), 8082: free_port()}
        done = await paste("docs/server.md", tmp_path, ports=ports)
    assert done.code == 0, (done.err, [await log.read_text() for log in logs(tmp_path)])
    said = done.out.decode()
    assert "3 servers" in said
    assert "dmsg_server_sessions " in said
    assert "127.0.0.1" in done.lines  # as the server sees it
    assert "closed on this side" in done.lines[-1]  # and nothing broke


async def test_lines_about_the_discovery_work(tmp_path: Path) -> None:
    ports = {9090: free_port(), 8081: free_port()}
    done = await paste("docs/discovery.md", tmp_path, ports=ports)
    assert done.code == 0, (done.err, [await log.read_text() for log in logs(tmp_path)])
    said = done.out.decode()
    assert (
        said.count(f"127.0.0.1:{ports[8081]}") >= 3
    )  # in the status, the entry, and after the restart


def logs(folder: Path) -> list[trio.Path]:
    return [trio.Path(each) for each in folder.glob("*.log")]


async def test_the_line_of_each_program_works(tmp_path: Path) -> None:
    """Those of the table in README, in their order; services run until all others are done."""
    table = dict(TABLE.findall((ROOT / "README.md").read_text()))
    assert len(table) >= 15
    (tmp_path / "docs").mkdir()
    lines = "PIDS=; trap 'kill $PIDS; wait' EXIT\n"
    for program, line in table.items():
        if program in SERVICES:
            log = f"{program}.log"
            lines += f': > {log}; (exec {line}) > {log} 2>&1 & PIDS="$PIDS $!"\n'
            lines += f"until grep -q '{SERVICES[program]}' {log}; do kill -0 $!; sleep 0.1; done\n"
        else:
            lines += f"{line}\n"
    async with network() as up:
        done = await run_in(
            tmp_path,
            lines,
            up.ready.discovery,
            PK=up.ready.client,
            # Where nobody else on this machine is in the way.
            DMSG_WEB_SOCKS="0",
            DMSG_PTY_UI_ADDR="127.0.0.1:0",
            DMSG_PTY_HOST_CLIADDR=str(tmp_path / "pty.sock"),
            DMSG_PTY_CLI_SHELL_CLIADDR=str(tmp_path / "pty.sock"),
            DMSG_PTY_UI_CLIADDR=str(tmp_path / "pty.sock"),
        )
    assert done.code == 0, (done.err, [await log.read_text() for log in logs(tmp_path)])
    said = done.out.decode()
    assert "It works" in said
    assert "2 of 2 answered" in said
    assert "127.0.0.1\n" in said  # dmsgip
