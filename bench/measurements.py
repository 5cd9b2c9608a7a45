"""What is measured, and how."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from bench.figures import (
    ALL_REFERENCE,
    OURS,
    PLAIN,
    REFERENCE,
    Figure,
    Sample,
    Target,
    column,
    interleave,
)
from bench.processes import (
    Party,
    Stage,
    accepts,
    cpu_seconds,
    free_address,
    resident_bytes,
    wait_until,
)
from bench.reference import FileServer, ReferenceServer, fetch, start_file_server, start_server

GIB: Final = 1 << 30
MB: Final = 1_000_000
AT_ONCE: Final = 8
WARM_SESSIONS: Final = 96  # before memory is looked at for the first time


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything."""

    rounds: int = 3
    size: int = GIB
    round_trips: int = 5000
    dials: int = 1600
    sessions: int = 1008  # rounds and AT_ONCE divide it
    long_size: int = GIB // 2
    narrow_size: int = 16 << 20  # over the long path, for who takes 2.4 MB/s there
    one_way: float = 0.05  # seconds


QUICK: Final = Scale(
    rounds=1,
    size=8 << 20,
    round_trips=100,
    dials=48,
    sessions=48,
    long_size=2 << 20,
    narrow_size=1 << 20,
)


@dataclass(frozen=True, slots=True)
class Relay:
    """A running dmsg server."""

    pid: int
    address: str


@dataclass(frozen=True, slots=True)
class Route:
    """A relay with a sender and a receiver at its ends."""

    relay_pid: int
    sender: Party
    receiver: Party


# ---- the ways from one end to the other ----


class Scene:
    """The processes of one run of the bench; each is started when it is first needed."""

    def __init__(self, stage: Stage, scratch: Path, scale: Scale) -> None:
        self.stage = stage
        self.scratch = scratch
        self.scale = scale

    @cached_property
    def theirs(self) -> ReferenceServer | None:
        """The reference's server, if there is one."""
        return start_server(self.stage, self.scratch)

    @cached_property
    def routes(self) -> dict[str, Route]:
        """One route for each subject; those that nobody uses just now cost nothing."""
        found = {OURS: self.dmsg_route(self.start_ours()), PLAIN: self.plain_route()}
        if self.theirs:
            found[REFERENCE] = self.dmsg_route(Relay(self.theirs.pid, self.theirs.address))
        return found

    def fresh_servers(self) -> dict[str, Relay]:
        """Servers that have not done anything yet."""
        found = {OURS: self.start_ours()}
        if theirs := start_server(self.stage, self.scratch):
            found[REFERENCE] = Relay(theirs.pid, theirs.address)
        return found

    def start_ours(self) -> Relay:
        """Start a server of ours."""
        address = free_address()
        return Relay(self.stage.party("server", address).pid, address)

    def dmsg_route(self, relay: Relay, *, near: str = "") -> Route:
        """Start our ends at a server; the sender goes to ``near`` if the way there has one."""
        receiver = self.stage.party("receiver", relay.address)
        sender = self.stage.party("sender", near or relay.address)
        return Route(relay.pid, sender, receiver)

    def plain_route(self) -> Route:
        """Start ends without dmsg, with socat in between or what stands in for it."""
        target = free_address()
        receiver = self.stage.party("plain-receiver", target)
        address = free_address()
        if socat := shutil.which("socat"):
            host, _, port = address.rpartition(":")
            near = f"TCP-LISTEN:{port},bind={host},fork,reuseaddr,nodelay,backlog=256"
            pid = self.stage.program(socat, "-b", "262144", near, f"TCP:{target},nodelay")
            wait_until(lambda: accepts(address))
        else:
            pid = self.stage.party("relay", address, target).pid
        return Route(pid, self.stage.party("plain-sender", address), receiver)


# ---- throughput and what it costs ----


def throughput(scene: Scene) -> list[Figure]:
    """Send a lot in one stream, and as much in eight."""
    ways, scale = scene.routes, scene.scale

    def one(subject: str) -> Sample:
        return send(ways[subject], scale.size, 1)

    def eight(subject: str) -> Sample:
        return send(ways[subject], scale.size, 8)

    single = interleave(ways, scale.rounds, one)
    several = interleave(ways, scale.rounds, eight)
    return [
        Figure("one stream", "MB/s", column(single, "rate"), Target(400, at_least=True)),
        Figure("eight streams", "MB/s", column(several, "rate")),
        Figure("CPU of the relay", "s/GiB", column(single, "relay"), Target(1.0)),
        Figure("CPU of the relay, eight streams", "s/GiB", column(several, "relay")),
        Figure("CPU of the sender", "s/GiB", column(single, "sender")),
        Figure("CPU of the receiver", "s/GiB", column(single, "receiver")),
    ]


def send(way: Route, size: int, streams: int) -> Sample:
    """Send ``size`` bytes, and see what each process used for it."""
    pids = {"relay": way.relay_pid, "sender": way.sender.pid, "receiver": way.receiver.pid}
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    seconds = way.sender.ask("throughput", size=size, streams=streams)["seconds"]
    costs = {name: (cpu_seconds(pid) - before[name]) * GIB / size for name, pid in pids.items()}
    return {"rate": size / seconds / MB} | costs


def end_to_end(scene: Scene) -> list[Figure]:
    """Send a file with the reference's programs at both ends, beside our ends and server."""
    scale, theirs = scene.scale, scene.theirs
    subjects = [OURS]
    files: FileServer | None = None
    if theirs:
        subjects.append(ALL_REFERENCE)
        folder = scene.scratch / "files"
        folder.mkdir()
        (folder / "empty").touch()
        with (folder / "large").open("wb") as file:
            for start in range(0, scale.size, MB):
                file.write(bytes(min(MB, scale.size - start)))
        files = start_file_server(scene.stage, theirs, folder)

    def run(subject: str) -> Sample:
        if subject == ALL_REFERENCE and theirs and files:
            return fetch_large(theirs, files, scale.size)
        return send(scene.routes[OURS], scale.size, 1)

    samples = interleave(subjects, scale.rounds, run)
    return [
        Figure("end to end, one stream", "MB/s", column(samples, "rate")),
        Figure("end to end, CPU of all three", "s/GiB", total(samples)),
    ]


def fetch_large(server: ReferenceServer, files: FileServer, size: int) -> Sample:
    """Fetch the large file; what the empty one takes is not counted."""
    idle = fetch(server, files, "empty")
    whole = fetch(server, files, "large")
    seconds = max(whole.seconds - idle.seconds, 0.001)
    per_gib = GIB / size
    return {
        "rate": size / seconds / MB,
        "relay": (whole.server - idle.server) * per_gib,
        "sender": (whole.sender - idle.sender) * per_gib,
        "receiver": (whole.receiver - idle.receiver) * per_gib,
    }


def total(samples: dict[str, list[Sample]]) -> dict[str, list[float]]:
    """What all three processes of a route used."""
    return {
        subject: [sample["relay"] + sample["sender"] + sample["receiver"] for sample in taken]
        for subject, taken in samples.items()
    }


def long_path(scene: Scene) -> list[Figure]:
    """Send in one stream where the sender's way to the relay is long."""
    scale = scene.scale
    ways = {
        name: scene.dmsg_route(relay, near=scene.stage.delay(relay.address, scale.one_way))
        for name, relay in scene.fresh_servers().items()
    }
    sizes = {OURS: scale.long_size, REFERENCE: scale.narrow_size}

    def run(subject: str) -> Sample:
        return send(ways[subject], sizes[subject], 1)

    samples = interleave(ways, scale.rounds, run)
    name = f"one stream at {2000 * scale.one_way:.0f} ms"
    return [Figure(name, "MB/s", column(samples, "rate"), Target(60, at_least=True))]


# ---- round trips, dials, sessions ----


def round_trips(scene: Scene) -> list[Figure]:
    """Send 64 bytes there and back."""
    ways, scale = scene.routes, scene.scale

    def run(subject: str) -> Sample:
        answer = ways[subject].sender.ask("round_trips", count=scale.round_trips)
        return {name: seconds * 1e6 for name, seconds in answer.items()}

    samples = interleave(ways, scale.rounds, run)
    return [
        Figure("round trip, median", "µs", column(samples, "p50"), Target(1.0, of=REFERENCE)),
        Figure("round trip, 99 of 100", "µs", column(samples, "p99")),
    ]


def dials(scene: Scene) -> list[Figure]:
    """Open and close streams, one after the other and eight at once."""
    ways, scale = scene.routes, scene.scale

    def run(subject: str) -> Sample:
        way, count = ways[subject], scale.dials
        before = cpu_seconds(way.relay_pid)
        alone = way.sender.ask("dials", count=count, at_once=1)
        used = cpu_seconds(way.relay_pid) - before
        together = way.sender.ask("dials", count=count, at_once=AT_ONCE)
        return {
            "alone": count / alone["seconds"],
            "together": count / together["seconds"],
            "relay": used / count * 1e6,
        }

    samples = interleave(ways, scale.rounds, run)
    return [
        Figure("dials in a row", "/s", column(samples, "alone"), Target(600, at_least=True)),
        Figure("dials, eight at once", "/s", column(samples, "together")),
        Figure("CPU of the relay", "µs/dial", column(samples, "relay")),
    ]


def sessions(scene: Scene) -> list[Figure]:
    """Open sessions, eight at once, and keep them; then see what they weigh."""
    scale, relays = scene.scale, scene.fresh_servers()
    parties = {name: scene.stage.party("idle", relay.address) for name, relay in relays.items()}
    count = scale.sessions // scale.rounds

    def run(subject: str) -> Sample:
        taken = parties[subject].ask("sessions", count=count, at_once=AT_ONCE)
        return {"rate": count / taken["seconds"]}

    for party in parties.values():
        party.ask("sessions", count=WARM_SESSIONS, at_once=AT_ONCE)
    before = {name: resident_bytes(relay.pid) for name, relay in relays.items()}
    samples = interleave(relays, scale.rounds, run)
    weight = {
        name: [(resident_bytes(relay.pid) - before[name]) / (count * scale.rounds) / 1024]
        for name, relay in relays.items()
    }
    return [
        Figure("sessions, eight at once", "/s", column(samples, "rate")),
        Figure("memory of the server", "KiB/session", weight, Target(25)),
    ]


Measurement = Callable[[Scene], list[Figure]]

MEASUREMENTS: Final[dict[str, Measurement]] = {
    "throughput": throughput,
    "end-to-end": end_to_end,
    "long-path": long_path,
    "round-trips": round_trips,
    "dials": dials,
    "sessions": sessions,
}
