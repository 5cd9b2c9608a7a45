"""What is measured of the remote shell, and how: a CLI on a real terminal, hosts, and many shells.

Where ``DMSG_REFERENCE_BIN`` names a folder with the reference's `dmsgpty-host` and `dmsgpty-cli`,
their terminal is measured beside ours, over the same server, run by run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Final

from bench.command import arguments_of, take_and_print
from bench.figures import (
    ALL_REFERENCE,
    BARE,
    OURS,
    Figure,
    Sample,
    Target,
    column,
    interleave,
)
from bench.processes import (
    Party,
    Stage,
    free_address,
    open_stage,
    resident_bytes,
    wait_until,
)
from bench.pty_parties import HOST, TYPIST
from bench.reference import VARIABLE
from dmsg_trio._keys import PublicKey, SecretKey

BIN: Final = Path(sys.executable).parent
READY_WITHIN: Final = 30  # seconds
GIVEN_UP_AFTER: Final = 300
MB: Final = 1_000_000
TEXT: Final = (b"a line of text, as long as such lines are in the output of programs" * 2)[:99]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything."""

    rounds: int = 3
    keys: int = 1000
    output: int = 100 * MB
    their_output: int = 100 * MB
    file: int = 1 << 30
    shells: int = 200
    cycles: int = 1000


QUICK: Final = Scale(
    rounds=1, keys=50, output=4 * MB, their_output=MB, file=16 << 20, shells=8, cycles=16
)


class Scene:
    """The processes of one run, each started when it is first needed."""

    def __init__(self, stage: Stage, scratch: Path, scale: Scale) -> None:
        self.stage, self.scratch, self.scale = stage, scratch, scale

    def party(self, role: str, *arguments: str) -> Party:
        return self.stage.start("bench.pty_parties", role, *arguments)

    @cached_property
    def discovery(self) -> str:
        address = free_address()
        self.party("relay", address, free_address())
        return address

    @cached_property
    def host(self) -> Party:
        return self.party("host", self.discovery, str(self.scratch / "host.sock"))

    def start_host(self) -> int:
        """Have the host run, and say which process it is."""
        return self.host.pid

    def start_user(self) -> int:
        """Have the user run, and say which process it is."""
        return self.user.pid

    @cached_property
    def user(self) -> Party:
        self.start_host()
        return self.party("user", self.discovery, str(self.scratch))

    @cached_property
    def theirs(self) -> tuple[Path, PublicKey] | None:
        """The configuration of their CLI and the far host of theirs, if there are any."""
        folder = os.environ.get(VARIABLE)
        if not folder or not Path(folder, "dmsgpty-host").exists():
            return None
        near, far = SecretKey.generate(), SecretKey.generate()
        for name, sk in (("near", near), ("far", far)):
            place = self.scratch / name
            place.mkdir()
            config = {
                "dmsgdisc": f"http://{self.discovery}",
                "dmsgsessions": 1,
                "dmsgport": 22,
                "clinet": "unix",
                "cliaddr": str(place / "pty.sock"),
                "sk": sk.reveal().hex(),
                "pk": str(sk.pk),
                "wl": [str(near.pk)],
            }
            (place / "host.json").write_text(json.dumps(config))
            program = Path(folder, "dmsgpty-host")
            # It reads no file if an argument has a slash in it.
            self.stage.program("/bin/sh", "-c", f"cd {place} && exec {program} -c host.json")
            wait_until((place / "pty.sock").exists)
        time.sleep(2)  # until the far one is registered
        return self.scratch / "near" / "host.json", far.pk

    def cli(self, subject: str, *command: str) -> tuple[list[str], dict[str, str]]:
        """Say how ``command`` is run on a terminal of the host of ``subject``."""
        environment = {**os.environ, "DMSG_SK": TYPIST.reveal().hex(), "TERM": "xterm"}
        if subject == OURS:
            self.start_host()
            way = ("--discovery", f"http://{self.discovery}", "-t", "-e", "none")
            return [str(BIN / "dmsgpty-cli"), *way, str(HOST.pk), "--", *command], environment
        assert self.theirs is not None
        config, far = self.theirs
        program = Path(os.environ[VARIABLE], "dmsgpty-cli")
        arguments = [word for each in command[1:] for word in ("-a", each)]
        their_way = ("-p", str(config), "--addr", f"{far}:22", "-c", command[0])
        return [str(program), *their_way, *arguments], environment

    @property
    def subjects(self) -> list[str]:
        return [OURS, *([ALL_REFERENCE] if self.theirs else [])]


# ---- a terminal with a CLI on it ----


class Terminal:
    """The near end of a CLI."""

    def __init__(self, file: int) -> None:
        os.set_blocking(file, False)
        self._file = file
        self._buffer = memoryview(bytearray(1 << 16))

    def type(self, data: bytes) -> None:
        os.write(self._file, data)

    def wait_for(self, mark: bytes) -> None:
        """Read until ``mark`` comes."""
        tail = b""
        while mark not in tail:
            tail = tail[-len(mark) :] + bytes(self._read())

    def take(self, size: int) -> None:
        """Read so many bytes."""
        while size > 0:
            size -= len(self._read())

    def _read(self) -> memoryview:
        while True:
            try:
                # At once, as a terminal in C would: to ask first takes a fifth of the time.
                count = os.readv(self._file, [self._buffer])
            except BlockingIOError:
                if not select.select([self._file], [], [], GIVEN_UP_AFTER)[0]:
                    raise RuntimeError("nothing comes any more") from None
            except OSError as error:
                if error.errno == errno.EIO:
                    raise RuntimeError("the CLI ended") from error
                raise
            else:
                return self._buffer[:count]


@contextmanager
def open_terminal(command: list[str], environment: dict[str, str]) -> Iterator[Terminal]:
    """Run a CLI on a terminal for the block."""
    near, far = os.openpty()
    tty.setraw(far)
    process = subprocess.Popen(
        command, stdin=far, stdout=far, stderr=far, env=environment, start_new_session=True
    )
    os.close(far)
    try:
        yield Terminal(near)
    finally:
        process.kill()
        process.wait()
        os.close(near)


def shell_on(
    scene: Scene, subject: str, script: str
) -> contextlib.AbstractContextManager[Terminal]:
    return open_terminal(*scene.cli(subject, "/bin/sh", "-c", script))


# ---- the measurements ----


def keys(scene: Scene) -> list[Figure]:
    """Type one key after the other, each when the last one has come back."""

    def run(subject: str) -> Sample:
        ping = scene.user.ask("pings", count=scene.scale.keys)["median"]
        with shell_on(scene, subject, "stty raw -echo; echo ready; exec cat") as terminal:
            terminal.wait_for(b"ready\n")
            times = []
            for _ in range(scene.scale.keys):
                began = time.perf_counter()
                terminal.type(b"k")
                terminal.take(1)
                times.append(time.perf_counter() - began)
        return {
            "echo": median(times) * 1000,
            "beyond": (median(times) - ping) * 1000,
            "ping": ping * 1000,
        }

    scene.start_user()
    samples = interleave(scene.subjects, scene.scale.rounds, run)
    return [
        Figure("echo of a key, p50", "ms", column(samples, "echo")),
        Figure("… beyond a round trip", "ms", column(samples, "beyond"), Target(2)),
        Figure("one byte on a stream", "ms", column(samples, "ping")),
    ]


def output(scene: Scene) -> list[Figure]:
    """Print a large file on a terminal."""
    sizes = {OURS: scene.scale.output, ALL_REFERENCE: scene.scale.their_output}
    paths = {subject: scene.scratch / f"output-{size}" for subject, size in sizes.items()}
    for subject, path in paths.items():
        path.write_bytes((TEXT + b"\n") * (sizes[subject] // 100))

    def run(subject: str) -> Sample:
        size = sizes[subject]
        script = f"stty raw -echo; echo ready; read x; exec cat {paths[subject]}"
        with shell_on(scene, subject, script) as terminal:
            terminal.wait_for(b"ready\n")
            began = time.perf_counter()
            terminal.type(b"\n")
            terminal.take(size)
            return {"rate": size / MB / (time.perf_counter() - began)}

    samples = interleave(scene.subjects, scene.scale.rounds, run)
    target = Target(10, at_least=True, of=ALL_REFERENCE)
    return [Figure("cat on a terminal", "MB/s", column(samples, "rate"), target)]


def copies(scene: Scene) -> list[Figure]:
    """Copy a file there and back, beside as many bytes on a stream."""
    source = scene.scratch / "source"
    block = os.urandom(1 << 20)
    with source.open("wb") as file:
        for _ in range(scene.scale.file >> 20):
            file.write(block)

    def run(subject: str) -> Sample:
        names = {OURS: ("put", "get"), BARE: ("bare", "bare")}[subject]
        size = {"size": scene.scale.file} if subject == BARE else {}
        there, back = (
            scene.scale.file / MB / scene.user.ask(name, **size)["seconds"] for name in names
        )
        return {"put": there, "get": back}

    samples = interleave([OURS, BARE], scene.scale.rounds, run)
    target = Target(0.7, at_least=True, of=BARE)
    return [
        Figure("cp to the host", "MB/s", column(samples, "put"), target),
        Figure("cp from the host", "MB/s", column(samples, "get"), target),
    ]


def shells(scene: Scene) -> list[Figure]:
    """Have many shells at once, and see what the host grew by."""
    count = scene.scale.shells
    scene.user.ask("shells", count=min(8, count))
    before = resident_bytes(scene.host.pid)
    scene.user.ask("shells", count=count)
    grown = (resident_bytes(scene.host.pid) - before) / count / (1 << 20)
    return [Figure(f"memory of the host, {count} shells", "MiB/shell", {OURS: [grown]}, Target(10))]


def cycles(scene: Scene) -> list[Figure]:
    """Begin and end shells in all ways, then look for what is left of them."""
    scene.start_user()
    scene.user.ask("cycles", count=8, host=scene.host.pid, seed=0)
    time.sleep(8)  # longer than the grace of a killed session
    before = scene.host.ask("held")
    began = time.perf_counter()
    ended = scene.user.ask("cycles", count=scene.scale.cycles, host=scene.host.pid, seed=1)
    print(f"    {time.perf_counter() - began:.0f} s, {ended}", file=sys.stderr)
    deadline = time.monotonic() + 30
    while (now := scene.host.ask("held")) != before and time.monotonic() < deadline:
        time.sleep(0.5)
    return [
        Figure(f"{name} left", "", {OURS: [now[name] - before[name]]}, Target(0)) for name in before
    ]


MEASUREMENTS: Final[dict[str, Callable[[Scene], list[Figure]]]] = {
    "keys": keys,
    "output": output,
    "copies": copies,
    "cycles": cycles,
    "shells": shells,
}


def main() -> int:
    """Run ``python bench/pty.py``."""
    arguments = arguments_of("bench/pty.py", "the remote shell", MEASUREMENTS)
    scale = QUICK if arguments.quick else Scale()
    with tempfile.TemporaryDirectory() as scratch, open_stage() as stage:

        def scene() -> Scene:
            return Scene(stage, Path(tempfile.mkdtemp(dir=scratch)), scale)

        take_and_print(arguments, MEASUREMENTS, scene)
    return 0
