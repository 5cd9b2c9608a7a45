"""Running the commands as a person or a script does: real processes, free ports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

DMSG = str(Path(sys.executable).with_name("dmsg"))
PATIENCE = 30  # seconds for a process to start, to answer or to end, on a machine that is busy
NOBODY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"  # 1·G


class Place(msgspec.Struct):
    """A server, as `dmsg up --json` tells of it."""

    pk: str
    address: str


class Ready(msgspec.Struct, forbid_unknown_fields=True):
    """What `dmsg up --json` prints; each member has to be there."""

    discovery: str
    servers: list[Place]
    client: str
    http: str
    echo: str


@dataclass(frozen=True)
class Network:
    """A `dmsg up` in a process of its own."""

    process: trio.Process
    ready: Ready


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()


def environment(discovery: str = "") -> dict[str, str]:
    """The environment of a command, without what the caller's may say to it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DMSG_")}
    return {**own, "COLUMNS": "80", **({"DMSG_DISCOVERY": discovery} if discovery else {})}


@asynccontextmanager
async def network(*options: str) -> AsyncIterator[Network]:
    """Run `dmsg up` for the block."""
    process = await trio.lowlevel.open_process(
        [DMSG, "up", "--port", "0", "--json", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(PATIENCE):
            line = await line_of(process.stdout)
        yield Network(process, msgspec.json.decode(line, type=Ready))
    finally:
        process.kill()
        await process.wait()
        await process.stdout.aclose()


async def dmsg(
    *arguments: str, discovery: str = "", stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> Done:
    """Run a command to its end."""
    return await command([DMSG, *arguments], discovery=discovery, stdin=stdin, env=env)


async def command(
    words: Sequence[str],
    *,
    discovery: str = "",
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
) -> Done:
    """Run any program to its end."""
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            list(words),
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**environment(discovery), **(env or {})},
        )
    return Done(done.returncode, done.stdout, done.stderr.decode())


@asynccontextmanager
async def running(
    *words: str, discovery: str = "", stdin: int = subprocess.DEVNULL
) -> AsyncIterator[trio.Process]:
    """Run a program with its output in pipes beside the block; what is left of it then is killed."""
    process = await trio.lowlevel.open_process(
        words,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(discovery),
    )
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        for stream in process.stdin, process.stdout, process.stderr:
            if stream is not None:
                await trio.aclose_forcefully(stream)


async def line_of(stream: trio.abc.ReceiveStream) -> bytes:
    """Read one line."""
    line = b""
    while not line.endswith(b"\n"):
        piece = await stream.receive_some(1)
        assert piece, f"ended after {line!r}"
        line += piece
    return line


def objects(done: Done) -> list[dict[str, object]]:
    """The JSON objects that a command printed, one a line."""
    return [json.loads(line) for line in done.lines]
