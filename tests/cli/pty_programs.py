"""A host of shells as a program of its own, and dmsgpty-cli against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from dmsg_trio._keys import PublicKey, SecretKey
from tests.cli.running import Done, command, environment, running
from tests.cli.terminals import Terminal, open_terminal
from tests.waiting import PATIENCE, answered

PROMPT = "there> "
NOWHERE = "http://127.0.0.1:1"  # a discovery that is not there

# What a host gives for a login shell here: without the profile of whoever runs the tests.
SHELL = f"""#!/bin/sh
unset ENV
PS1='{PROMPT}' exec sh -i
"""


def program(name: str) -> str:
    """The path of an installed program."""
    return str(Path(sys.executable).with_name(name))


@dataclass
class PtyHost:
    """A `dmsgpty-host` that runs."""

    process: subprocess.Popen[str]
    folder: Path
    pk: PublicKey

    @property
    def config(self) -> Path:
        return self.folder / "host.json"

    @property
    def local(self) -> tuple[str, ...]:
        """The options by which the CLI finds it on this machine."""
        return "-r", str(self.folder / "socket")

    def allow(self, *keys: PublicKey) -> None:
        """Write the list anew in one step."""
        settings = json.loads(self.config.read_text())
        write_private(self.folder / "new.json", {**settings, "wl": [str(pk) for pk in keys]})
        (self.folder / "new.json").rename(self.config)

    def audited(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / "audit").read_text().splitlines()]

    # ---- what is left of it ----

    def everybody(self) -> list[int]:
        """The processes that it started, and that have not been reaped."""
        task = Path(f"/proc/{self.process.pid}/task")
        pids = " ".join((each / "children").read_text() for each in task.iterdir())
        return [int(pid) for pid in pids.split()]

    def children(self) -> list[int]:
        """Those of them that it started for others."""
        return [pid for pid in self.everybody() if not is_guardian(pid)]

    def guardian(self) -> int:
        """The process that ends the others when this one cannot."""
        (pid,) = [pid for pid in self.everybody() if is_guardian(pid)]
        return pid

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def is_guardian(pid: int) -> bool:
    """Tell a guardian from what a host runs for others."""
    try:
        return b"/_guardian.py\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def write_private(path: Path, settings: dict[str, object]) -> None:
    path.touch(mode=0o600)
    path.write_text(json.dumps(settings))


@contextmanager
def pty_host(
    folder: Path, *allowed: PublicKey, discovery: str = NOWHERE, **settings: object
) -> Iterator[PtyHost]:
    """Run a host for the block, and end it in good order."""
    folder.mkdir(exist_ok=True)
    shell = folder / "shell"
    shell.write_text(SHELL)
    shell.chmod(0o755)
    key = SecretKey.generate()
    form = {
        "sk": key.reveal().hex(),
        "wl": [str(pk) for pk in allowed],
        "dmsgdisc": discovery,
        "cliaddr": str(folder / "socket"),
        "audit_log": str(folder / "audit"),
        "shell": str(shell),
        **settings,
    }
    write_private(folder / "host.json", form)
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [program("dmsgpty-host"), "-c", str(folder / "host.json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(),
            text=True,
            start_new_session=True,
        )
    host = PtyHost(process, folder, key.pk)
    assert process.stdout is not None
    try:
        while not process.stdout.readline().startswith("allowed"):
            assert process.poll() is None, (folder / "log").read_text()
        yield host
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


# ---- the CLI ----


async def cli(
    *arguments: str, stdin: bytes = b"", discovery: str = "", env: dict[str, str] | None = None
) -> Done:
    """Run the CLI on pipes, to its end."""
    return await command(
        [program("dmsgpty-cli"), *arguments], stdin=stdin, discovery=discovery, env=env
    )


@asynccontextmanager
async def cli_on_terminal(
    *arguments: str, discovery: str = "", rows: int = 24, columns: int = 80
) -> AsyncIterator[Terminal]:
    """Run the CLI in a window for the block."""
    async with open_terminal(
        [program("dmsgpty-cli"), *arguments], environment(discovery), rows=rows, columns=columns
    ) as terminal:
        yield terminal


def cli_running(
    *arguments: str, discovery: str = "", stdin: int = subprocess.DEVNULL
) -> AbstractAsyncContextManager[trio.Process]:
    """Run the CLI with its output in a pipe beside the block."""
    return running(program("dmsgpty-cli"), *arguments, discovery=discovery, stdin=stdin)


def lives(pid: int) -> bool:
    """Tell whether a process is there, and not just waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # before it was opened, or after that
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def is_gone(pid: int) -> bool:
    """Wait for the end of a process."""

    async def look() -> bool:
        await trio.lowlevel.checkpoint()
        return not lives(pid)

    return await answered(look, within=PATIENCE)
