"""Simulate a large network in one process, by a clock that jumps: ``python bench/mesh.py``.

Handshakes, signatures, relaying and the discovery's rules are the real ones; what computing takes
does not count in the simulated time. README.md here says how to read the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from unittest.mock import patch

import trio
import trio.testing

if __name__ == "__main__":
    # As for `python bench`, the path knows this folder only.
    sys.path[0] = str(Path(__file__).parents[1])

from bench.simulation import Dial, Findings, Phase, Plan, Simulation
from dmsg_trio.server import _admission

PERCENTILES: Final = (50, 90, 99, 99.9, 100)
TIERS: Final = (1, 2, 3)
SHOWN: Final = 10  # failures

Row = tuple[str, float]


def main() -> int:
    """Run ``python bench/mesh.py``."""
    parser = argparse.ArgumentParser(prog="mesh", description=__doc__.partition("\n")[0])
    add, usual = parser.add_argument, Plan()
    add("--servers", type=int, default=usual.servers)
    add("--clients", type=int, default=usual.clients)
    add("--sessions", type=int, default=usual.sessions, help="that each client keeps")
    add("--minutes", type=float, default=usual.minutes, help="with dials and churn")
    add("--quiet-minutes", type=float, default=usual.quiet_minutes, help="without either")
    add("--churn", type=float, default=usual.churn, help="per cent of the servers, in a minute")
    add("--dials", type=float, default=usual.dials, help="per second")
    add("--latency", type=float, default=usual.latency, help="seconds, one way")
    add("--seed", type=int, default=usual.seed)
    add("--post-quantum", action="store_true", help="offer it: larger and slower handshakes")
    add("--on-demand", action="store_true", help="links only while requests need them")
    add("--json", action="store_true")
    arguments = vars(parser.parse_args())
    as_json = arguments.pop("json")
    plan = Plan(**arguments)
    findings = simulate(plan)
    for line in failures(findings):
        print(line, file=sys.stderr)
    rows = report(findings, plan)
    if as_json:
        print(json.dumps(dict(rows), indent=2))
    else:
        for name, value in rows:
            print(f"{name:55} {value:14,.3f}".rstrip("0").rstrip("."))
    return 0


def simulate(plan: Plan) -> Findings:
    """Let a network live by a clock that jumps."""
    simulation = Simulation(plan, lambda line: print(line, file=sys.stderr, flush=True))
    clock = trio.testing.MockClock(autojump_threshold=0)
    # In memory everybody dials from one address.
    with patch.object(_admission, "MAX_HANDSHAKES_PER_SOURCE", _admission.MAX_HANDSHAKES):
        return trio.run(simulation.run, clock=clock)


def report(findings: Findings, plan: Plan) -> list[Row]:
    """What the findings say, in rows."""
    servers, clients = max(1, plan.servers), max(1, plan.clients)
    start, link_up, join = (findings.phases[name] for name in ("start", "link up", "join"))
    quiet, churn = findings.phases["quiet"], findings.phases["churn"]
    pairs = max(1, link_up.links)
    return [
        ("servers", servers),
        ("clients", clients),
        ("links", link_up.links),
        ("mesh, seconds until whole", link_up.seconds),
        ("mesh, completeness", link_up.completeness),
        ("mesh, CPU ms per link", 1000 * link_up.cpu / pairs),
        ("mesh, memory kB per link (both ends)", (link_up.memory - start.memory) / pairs / 1e3),
        *traffic("mesh", link_up, 1),
        ("client, CPU ms", 1000 * join.cpu / clients),
        ("client, memory kB (both ends)", (join.memory - link_up.memory) / clients / 1e3),
        *traffic("quiet", quiet, 60 / quiet.seconds),
        ("quiet, CPU ms per server and minute", 60e3 * quiet.cpu / quiet.seconds / servers),
        *traffic("churn", churn, 60 / churn.seconds),
        ("churn, CPU s per minute", 60 * churn.cpu / churn.seconds),
        ("links at the end", churn.links),
        ("links at the end, of all pairs", churn.completeness),
        ("sessions per client at the end", findings.sessions / clients),
        *dialing(findings),
        ("memory MB at the end", churn.memory / 1e6),
    ]


def traffic(name: str, phase: Phase, factor: float) -> Iterable[Row]:
    """What went over the network, ``factor`` times what it was in a phase."""
    kinds = ("links", "sessions", "look_ups")
    for kind in kinds:
        carried = getattr(phase.after, kind) - getattr(phase.before, kind)
        yield f"{name}, {kind}: connections", carried.connections * factor
        yield f"{name}, {kind}: pieces", carried.pieces * factor
        yield f"{name}, {kind}: kB", carried.size * factor / 1e3
    by_server = phase.after.by_server - phase.before.by_server
    yield f"{name}, kB of the busiest server", max(by_server.values(), default=0) * factor / 1e3


def dialing(findings: Findings) -> Iterable[Row]:
    """How dials went: soon after an event, and otherwise."""
    soon = [dial for dial in findings.dials if findings.is_soon(dial)]
    later = [dial for dial in findings.dials if not findings.is_soon(dial)]
    yield "servers that left", len(findings.events)
    yield from outcome("dials soon after", soon)
    yield from outcome("dials otherwise", later)


def outcome(name: str, dials: Sequence[Dial]) -> Iterable[Row]:
    """How some dials went."""
    good = sorted(dial.seconds for dial in dials if not dial.failure)
    yield name, len(dials)
    yield f"{name}, success %", 100 * len(good) / max(1, len(dials))
    for percent in PERCENTILES if good else ():
        index = min(len(good) - 1, int(len(good) * percent / 100))
        yield f"{name}, p{percent:g} ms", 1000 * good[index]
    for tier in TIERS:
        part = sum(dial.tier == tier for dial in dials) / max(1, len(dials))
        yield f"{name}, tier {tier} %", 100 * part


def failures(findings: Findings) -> Iterable[str]:
    """What became of the first dials that failed."""
    for dial in [dial for dial in findings.dials if dial.failure][:SHOWN]:
        when = "soon after" if findings.is_soon(dial) else "otherwise"
        yield f"{when}, at {dial.began:.1f} s: {dial.failure}"


if __name__ == "__main__":
    raise SystemExit(main())
