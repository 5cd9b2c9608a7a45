"""What is measured with two servers of ours, which have a link with each other."""

from __future__ import annotations

from bench.figures import ONE_SERVER, OURS, Figure, Sample, Target, column, interleave
from bench.measurements import AT_ONCE, Relay, Route, Scene, send
from bench.processes import free_address


def across(scene: Scene) -> list[Figure]:
    """Send, and open streams, from one server to the other; beside the same over one server."""
    scale = scene.scale
    ways = {OURS: two_servers(scene), ONE_SERVER: scene.routes[OURS]}

    def run(subject: str) -> Sample:
        way = ways[subject]
        sample = send(way, scale.size, 1)
        for name, at_once in (("alone", 1), ("together", AT_ONCE)):
            taken = way.sender.ask("dials", count=scale.dials, at_once=at_once)["seconds"]
            sample[name] = taken / scale.dials * 1e6
        sample["round trip"] = way.sender.ask("round_trips", count=scale.round_trips)["p50"] * 1e6
        return sample

    samples = interleave(ways, scale.rounds, run)
    faster, longer = Target(0.7, at_least=True, of=ONE_SERVER), Target(1.5, of=ONE_SERVER)
    return [
        Figure("over two servers: one stream", "MB/s", column(samples, "rate"), faster),
        Figure("over two servers: a dial, in a row", "µs", column(samples, "alone"), longer),
        Figure("over two servers: a dial, of eight at once", "µs", column(samples, "together")),
        Figure("over two servers: round trip, median", "µs", column(samples, "round trip")),
    ]


def fail_over(scene: Scene) -> list[Figure]:
    """Kill the server that dials go through; both ends have a session with another one, too."""

    def run(_: str) -> Sample:
        first, second = start_pair(scene)
        addresses = first.address, second.address
        scene.stage.party("receiver-at-both", *addresses)
        sender = scene.stage.party("sender-anyway", *addresses)
        return sender.ask("fail_over", first=first.pid, second=second.pid)

    samples = interleave([OURS], scene.scale.rounds, run)
    name = "until dials find another server"
    return [Figure(name, "s", column(samples, "seconds"), Target(1))]


def two_servers(scene: Scene) -> Route:
    """A sender at one server, and a receiver at the other."""
    first, second = start_pair(scene)
    addresses = first.address, second.address
    receiver = scene.stage.party("second-receiver", *addresses)
    return Route(first.pid, scene.stage.party("sender-across", *addresses), receiver)


def start_pair(scene: Scene) -> tuple[Relay, Relay]:
    """Start two servers that find each other."""
    first, second = addresses = free_address(), free_address()
    return (
        Relay(scene.stage.party("first-server", *addresses).pid, first),
        Relay(scene.stage.party("second-server", *addresses).pid, second),
    )
