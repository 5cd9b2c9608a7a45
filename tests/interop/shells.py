"""Hosts of remote shells, ours and the reference's, and programs that are used from a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from dmsg_trio._errors import UnreachableError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio.apps.pty.process import Command, TerminalProcess, open_process_on_terminal
from dmsg_trio.discovery import HttpDiscovery
from tests.interop.programs import Program, Reference
from tests.waiting import PATIENCE, Log, answered

OUR_PROGRAMS: Final = Path(sys.executable).parent
OUR_CLI: Final = (str(OUR_PROGRAMS / "dmsgpty-cli"),)
USUAL_SIZE: Final = WindowSize(30, 100)
ENDS_WITHIN: Final = 30  # seconds


@dataclass(frozen=True, slots=True)
class Host:
    """A running host, which is ours or the reference's."""

    sk: SecretKey
    folder: Path  # its configuration's, and its socket's
    program: Program
    environment: Mapping[str, str]  # in which the tools of either find it

    @property
    def pk(self) -> PublicKey:
        return self.sk.pk

    @property
    def socket(self) -> Path:
        return self.folder / "dmsgpty.sock"


async def start_host(
    reference: Reference,
    folder: Path,
    discovery: str,
    *,
    ours: bool,
    allowed: Sequence[PublicKey] = (),
    sk: SecretKey | None = None,
) -> Host:
    """Start a host in ``folder``; it can be reached either way when this returns."""
    sk = sk or SecretKey.generate()
    _configure(folder, discovery, sk, allowed)
    # Theirs reads no file if an argument has a slash in it.
    path = OUR_PROGRAMS / "dmsgpty-host" if ours else reference.path("dmsgpty-host")
    script = f"cd {folder} && exec {path} -c host.json"
    program = await reference.start(Path("/bin/sh"), "-c", script)
    host = Host(sk, folder, program, {**os.environ, "TMPDIR": str(folder), "TERM": "xterm"})
    assert await answered(partial(_is_there, host, discovery), within=PATIENCE), program.log.text
    return host


def _configure(folder: Path, discovery: str, sk: SecretKey, allowed: Sequence[PublicKey]) -> None:
    folder.mkdir()
    config = {
        "dmsgdisc": discovery,
        "dmsgsessions": 1,
        "dmsgport": 22,
        "clinet": "unix",
        "cliaddr": str(folder / "dmsgpty.sock"),
        "sk": sk.reveal().hex(),
        "pk": str(sk.pk),
        "wl": [str(pk) for pk in allowed],
    }
    path = folder / "host.json"
    path.touch(0o600)
    path.write_text(json.dumps(config))


async def _is_there(host: Host, discovery: str) -> bool:
    async with HttpDiscovery(discovery) as directory:
        try:
            entry = await directory.entry(host.pk)
        except UnreachableError:
            return False
    return bool(entry.delegated_servers) and host.socket.exists()


# ---- who uses them ----


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program without a terminal went."""

    code: int
    output: bytes
    errors: str


async def run_our_cli(
    host: Host, *arguments: str, stdin: bytes = b"", key: SecretKey | None = None
) -> Ended:
    """Run our CLI with pipes, by ``host``'s socket or with a key of its own."""
    environment = dict(host.environment)
    if key is not None:
        environment["DMSG_SK"] = key.reveal().hex()
    with trio.fail_after(ENDS_WITHIN):
        done = await trio.run_process(
            [*OUR_CLI, *arguments],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environment,
            cwd=host.folder.parent,
        )
    return Ended(done.returncode, done.stdout, done.stderr.decode())


class Typist:
    """Sits at a terminal, on which a program runs."""

    def __init__(self, process: TerminalProcess, name: str) -> None:
        self.process = process
        self.log = Log(name)
        self.raw = bytearray()

    async def look_on(self) -> None:
        """Read all that appears."""
        while data := await self.process.read():
            self.raw += data
            self.log.add(data.decode(errors="replace"))

    async def type(self, text: str) -> None:
        await self.process.write(text.encode())

    async def ended(self) -> int | None:
        """Wait for the program's end; give its code."""
        with trio.fail_after(ENDS_WITHIN):
            return (await self.process.wait()).code


@asynccontextmanager
async def at_terminal(
    host: Host, *argv: str | Path, size: WindowSize = USUAL_SIZE
) -> AsyncIterator[Typist]:
    """Run a program on a terminal, in a folder where it finds ``host``."""
    command = Command(
        argv=tuple(map(str, argv)), environment=host.environment, directory=host.folder.parent
    )
    async with open_process_on_terminal(command, size) as process:
        typist = Typist(process, str(argv[0]))
        async with open_service_nursery() as nursery:
            nursery.start_soon(typist.look_on)
            yield typist


@asynccontextmanager
async def at_their_cli(
    reference: Reference, host: Host, *arguments: str, far: PublicKey | None = None
) -> AsyncIterator[Typist]:
    """Sit at their CLI, which uses the socket of ``host``."""
    # It wants a configuration, and where that names no socket takes the default.
    path = host.folder.parent / "cli.json"
    path.write_text(json.dumps({"cliaddr": str(host.socket), "clinet": "unix"}))
    address = ("--addr", f"{far}:22") if far else ()
    argv = (reference.path("dmsgpty-cli"), "-p", path, *address, *arguments)
    async with at_terminal(host, *argv) as typist:
        yield typist


async def whitelist(program: Sequence[str | Path], host: Host, *arguments: str) -> Ended:
    """Run a command for the allow list, of either."""
    with trio.fail_after(ENDS_WITHIN):
        done = await trio.run_process(
            [*program, *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=dict(host.environment),
            cwd=host.folder.parent,
        )
    return Ended(done.returncode, done.stdout, done.stderr.decode())
