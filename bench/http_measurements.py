"""What is measured of HTTP, and how: files and small requests, by programs as people run them.

Where ``DMSG_REFERENCE_BIN`` names a folder with the reference's `dmsg-server`, `dmsghttp` and
`dmsgcurl`, these are measured beside ours, run by run.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import httpx

from bench.command import arguments_of, take_and_print
from bench.figures import (
    ALL_REFERENCE,
    BARE,
    OURS,
    REFERENCE,
    Figure,
    Sample,
    Target,
    column,
    interleave,
)
from bench.measurements import fetch_large
from bench.processes import (
    Party,
    Stage,
    cpu_seconds,
    free_address,
    open_stage,
    wait_until,
)
from bench.reference import (
    VARIABLE,
    FileServer,
    ReferenceServer,
    fetch,
    start_file_server,
    start_server,
)
from dmsg_trio._keys import SecretKey

BIN: Final = Path(sys.executable).parent
GIB: Final = 1 << 30
MB: Final = 1_000_000
SMALL: Final = 1000  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything."""

    rounds: int = 3
    size: int = GIB
    their_size: int = 256 << 20
    long_size: int = GIB // 2
    their_long_size: int = 16 << 20
    one_way: float = 0.05  # seconds
    requests: int = 2000
    at_once: int = 8


QUICK: Final = Scale(
    rounds=1,
    size=16 << 20,
    their_size=4 << 20,
    long_size=4 << 20,
    their_long_size=1 << 20,
    requests=40,
)


@dataclass(frozen=True, slots=True)
class Network:
    """A discovery and a server of ours, with our file server on it."""

    discovery: str
    server: str
    server_pid: int
    files: FileServer

    def fetch(self, name: str, *to: str) -> Sample:
        """Fetch a file with our dmsgcurl; say how long it took, and what each process used."""
        url = f"dmsg://{self.files.pk}/{name}"
        command = [str(BIN / "dmsgcurl"), "-sSf", "-c", f"http://{self.discovery}", *to, url]
        before = cpu_seconds(self.server_pid), cpu_seconds(self.files.pid), _cpu_of_ended()
        began = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - began
        after = cpu_seconds(self.server_pid), cpu_seconds(self.files.pid), _cpu_of_ended()
        relay, sender, receiver = (new - old for new, old in zip(after, before, strict=True))
        return {"seconds": seconds, "relay": relay, "sender": sender, "receiver": receiver}


class Scene:
    """The processes of one run, each started when it is first needed."""

    def __init__(self, stage: Stage, scratch: Path, scale: Scale) -> None:
        self.stage, self.scratch, self.scale = stage, scratch, scale

    # ---- ours ----

    @cached_property
    def ours(self) -> Network:
        """Programs of ours, close to each other."""
        return self.start(server := free_address(), server, self.folder(self.scale.size))

    def start(self, server: str, public: str, folder: Path) -> Network:
        """Start a server, which clients find at ``public``, and a file server."""
        discovery = free_address()
        relay = self.party("network", discovery, server, public)
        return Network(discovery, server, relay.pid, self.start_files(discovery, folder))

    def start_files(self, discovery: str, folder: Path) -> FileServer:
        """Start our file server, and wait until it can be found."""
        sk = SecretKey.generate()
        pid = self.stage.program(
            *("/usr/bin/env", f"DMSGHTTP_SK={sk.reveal().hex()}", BIN / "dmsghttp"),
            *("--quiet", "--discovery", f"http://{discovery}", folder),
        )
        entry = f"http://{discovery}/dmsg-discovery/entry/{sk.pk}"
        wait_until(lambda: httpx.get(entry).status_code == 200)
        return FileServer(sk.pk, pid)

    @cached_property
    def sender(self) -> Party:
        """Who sends on a bare stream over the same server."""
        self.stage.party("receiver", self.ours.server)
        return self.stage.party("sender", self.ours.server)

    # ---- the reference's ----

    @cached_property
    def theirs(self) -> tuple[ReferenceServer, FileServer] | None:
        """The reference's programs, close to each other."""
        if server := start_server(self.stage, self.scratch):
            folder = self.folder(self.scale.their_size)
            return server, start_file_server(self.stage, server, folder)
        return None

    @cached_property
    def their_files(self) -> FileServer | None:
        """The reference's file server, on the network of ours."""
        if not self.theirs:
            return None
        on_ours = ReferenceServer(
            self.theirs[0].folder, f"http://{self.ours.discovery}", self.ours.server, 0
        )
        return start_file_server(self.stage, on_ours, self.folder(self.scale.size))

    # ---- what both need ----

    def party(self, role: str, *arguments: str) -> Party:
        """Start a party of this bench."""
        return self.stage.start("bench.http_parties", role, *arguments)

    def long_path(self, target: str) -> str:
        """Start a path that is long for who comes first, the file server; give its near end."""
        address = free_address()
        self.party("path", address, target, str(self.scale.one_way))
        return address

    def folder(self, size: int) -> Path:
        """Make a folder with an empty, a small and a large file."""
        folder = self.scratch / str(size)
        if not folder.exists():
            folder.mkdir()
            (folder / "empty").touch()
            (folder / "small").write_bytes(os.urandom(SMALL))
            write_zeros(folder / "large", size)
        return folder


def write_zeros(path: Path, size: int) -> None:
    """Make a file of so many bytes, all of them written."""
    with path.open("wb") as file:
        for start in range(0, size, MB):
            file.write(bytes(min(MB, size - start)))


def _cpu_of_ended() -> float:
    """What the children of this process that have ended used; while one is fetched, only it ends."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# ---- files ----


def large_file(network: Network, size: int, *to: str) -> Sample:
    """Fetch the large file; what the empty one takes is not counted."""
    idle = network.fetch("empty")
    whole = network.fetch("large", *to)
    used = {name: max(whole[name] - idle[name], 0.001) for name in whole}
    costs = {name: used[name] * GIB / size for name in ("relay", "sender", "receiver")}
    return {"rate": size / used["seconds"] / MB} | costs


def bare(scene: Scene) -> Sample:
    """Send as much on a bare stream."""
    seconds = scene.sender.ask("throughput", size=scene.scale.size, streams=1)["seconds"]
    return {"rate": scene.scale.size / seconds / MB}


def downloads(scene: Scene) -> list[Figure]:
    """Fetch a large file, to nowhere and to a file."""
    scale, theirs = scene.scale, scene.theirs

    def run(subject: str) -> Sample:
        if subject == BARE:
            return bare(scene)
        if subject == ALL_REFERENCE and theirs:
            return fetch_large(*theirs, scale.their_size)
        return large_file(scene.ours, scale.size)

    def to_file(subject: str) -> Sample:
        if subject == BARE:
            return bare(scene)
        copy = scene.scratch / "copy"
        # A guest of a host that takes back what is free pays for each fresh page, more than for all
        # else together. A file that was just deleted leaves some that it has got.
        write_zeros(copy, scale.size)
        copy.unlink()
        return large_file(scene.ours, scale.size, "-o", str(copy))

    subjects = [OURS, BARE, *([ALL_REFERENCE] if theirs else [])]
    samples = interleave(subjects, scale.rounds, run)
    written = interleave([OURS, BARE], scale.rounds, to_file)
    beside = Target(0.7, at_least=True, of=BARE)
    rates = column(samples, "rate")
    theirs_too = {name: rates[name] for name in rates if name != BARE}
    return [
        Figure("a large file", "MB/s", {n: rates[n] for n in (OURS, BARE)}, beside),
        Figure("a large file", "MB/s", theirs_too, Target(4, at_least=True, of=ALL_REFERENCE)),
        Figure("… to a file", "MB/s", column(written, "rate"), beside),
        *(
            Figure(f"CPU of {who}", "s/GiB", column(samples, name))
            for who, name in (("dmsgcurl", "receiver"), ("dmsghttp", "sender"), ("the relay", "relay"))
        ),
    ]  # fmt: skip


def long_path(scene: Scene) -> list[Figure]:
    """Fetch a large file where the way of the file server to the relay is long."""
    scale = scene.scale
    target = free_address()
    near = scene.start(target, scene.long_path(target), scene.folder(scale.long_size))
    address = free_address()
    theirs = start_server(
        scene.stage, scene.scratch, address=address, public=scene.long_path(address)
    )
    folder = scene.folder(scale.their_long_size)
    files = start_file_server(scene.stage, theirs, folder) if theirs else None

    def run(subject: str) -> Sample:
        if subject == ALL_REFERENCE and theirs and files:
            return fetch_large(theirs, files, scale.their_long_size)
        return large_file(near, scale.long_size)

    subjects = [OURS, *([ALL_REFERENCE] if theirs else [])]
    samples = interleave(subjects, scale.rounds, run)
    name = f"a large file at {2000 * scale.one_way:.0f} ms"
    target_ratio = Target(20, at_least=True, of=ALL_REFERENCE)
    return [Figure(name, "MB/s", column(samples, "rate"), target_ratio)]


def programs(scene: Scene) -> list[Figure]:
    """Fetch nothing: the whole life of a program."""
    theirs = scene.theirs

    def run(subject: str) -> Sample:
        if subject == ALL_REFERENCE and theirs:
            return {"seconds": fetch(*theirs, "empty").seconds * 1000}
        return {"seconds": scene.ours.fetch("empty")["seconds"] * 1000}

    subjects = [OURS, *([ALL_REFERENCE] if theirs else [])]
    samples = interleave(subjects, scene.scale.rounds, run)
    return [Figure("an empty file, dmsgcurl from begin to end", "ms", column(samples, "seconds"))]


# ---- small requests ----


def requests(scene: Scene) -> list[Figure]:
    """Ask file servers for a small file, always with the same client of ours."""
    scale, theirs = scene.scale, scene.their_files
    servers = {OURS: scene.ours.files} | ({REFERENCE: theirs} if theirs else {})
    asker = scene.party("asker", scene.ours.discovery, *(str(each.pk) for each in servers.values()))

    def run(subject: str) -> Sample:
        sample: Sample = {}
        for name, keeps, at_once in (
            ("kept", 1, 1), ("closed", 0, 1), ("kept, many", 1, scale.at_once),
            ("closed, many", 0, scale.at_once),
        ):  # fmt: skip
            pid = servers[subject].pid
            before = cpu_seconds(pid)
            host = list(servers).index(subject)
            count = scale.requests
            answer = asker.ask("get", host=host, keeps=keeps, count=count, at_once=at_once)
            sample[name] = count / answer["seconds"]
            sample[f"CPU, {name}"] = (cpu_seconds(pid) - before) / count * 1e6
        return sample

    samples = interleave(servers, scale.rounds, run)
    often = Target(3, at_least=True, of=REFERENCE)
    many = f"{scale.at_once} at once"
    return [
        Figure("small requests", "/s", column(samples, "kept"), often),
        Figure(f"small requests, {many}", "/s", column(samples, "kept, many"), often),
        Figure("… a stream for each", "/s", column(samples, "closed")),
        Figure(f"… a stream for each, {many}", "/s", column(samples, "closed, many")),
        Figure("CPU of dmsghttp", "µs/request", column(samples, "CPU, kept")),
        Figure("… a stream for each", "µs/request", column(samples, "CPU, closed")),
    ]


MEASUREMENTS: Final[dict[str, Callable[[Scene], list[Figure]]]] = {
    "downloads": downloads,
    "long-path": long_path,
    "programs": programs,
    "requests": requests,
}


def main() -> int:
    """Run ``python bench/http.py``."""
    arguments = arguments_of("bench/http.py", "HTTP over dmsg", MEASUREMENTS)
    with tempfile.TemporaryDirectory() as scratch, open_stage() as stage:
        scene = Scene(stage, Path(scratch), QUICK if arguments.quick else Scale())
        take_and_print(arguments, MEASUREMENTS, lambda: scene)
    if not os.environ.get(VARIABLE):
        print(f"{VARIABLE} is not set: nothing of the reference was measured", file=sys.stderr)
    return 0
