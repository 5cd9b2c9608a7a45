"""The command: start a network, do to it what a plan says, and see whether all goes well."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import trio
from rich.console import Console

from dmsg_trio._net.nurseries import open_service_nursery
from tests.chaos.network import ChaosNetwork
from tests.chaos.plan import Fault, Kind, Settings, make_plan
from tests.chaos.report import WELL_WITHIN, Report
from tests.waiting import answered

GIVE_UP: Final = 2 * WELL_WITHIN  # seconds after the last fault
BETWEEN_SWEEPS: Final = 1.0  # seconds
REST_WITHIN: Final = 10  # seconds in which all streams are gone once all clients rest
STOPPED: Final = 130  # exit code after Ctrl-C

console = Console(stderr=True, highlight=False)


def main() -> int:
    """Run ``python -m tests.chaos``."""
    parser = argparse.ArgumentParser(
        prog="chaos", description="Kill, stop and restart what a network consists of; see it work."
    )
    parser.add_argument("--servers", type=int, default=5)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=0, help="of all that is chosen")
    parser.add_argument(
        "--discovery-outage", type=float, default=0, metavar="SECONDS", help="without a discovery"
    )
    parser.add_argument("--every", type=float, default=4, help="seconds from fault to fault")
    parser.add_argument(
        "--watch", type=float, default=35, help="seconds to look on after the last fault"
    )
    parser.add_argument("--logs", type=Path, help="folder for what the processes log")
    given = vars(parser.parse_args())
    logs = given.pop("logs")
    try:
        settings = Settings(**given)
    except ValueError as error:
        parser.error(str(error))
    with ExitStack() as stack:
        folder = logs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        report = trio.run(run_until_signal, settings, folder)
    if report is None:
        return STOPPED
    report.print(Console(width=None if sys.stdout.isatty() else 120, highlight=False))
    return 1 if report.violations else 0


async def run_until_signal(settings: Settings, folder: Path) -> Report | None:
    """Run, unless a signal comes; then all processes are ended as well."""
    report = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with open_service_nursery() as nursery:

            async def end_at_a_signal() -> None:
                await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_at_a_signal)
            report = await run(settings, folder)
    return report


async def run(settings: Settings, folder: Path) -> Report:
    """Run a network through a plan; nothing of it is left afterwards."""
    report = Report()
    async with open_service_nursery() as nursery:
        network = ChaosNetwork(settings, folder, nursery, report)
        try:
            say(f"starting {settings.servers} servers and {settings.clients} clients")
            await network.start_all()
            report.before = await network.look()
            end = trio.current_time() + settings.seconds
            await inflict(network, make_plan(settings))
            report.well_after = await become_well(network, settings.watch)
            await trio.sleep_until(end)
            await come_to_rest(network)
        finally:
            with trio.CancelScope(shield=True):
                await network.aclose()
    report.starts.update({server.name: server.starts for server in network.servers})
    for member in network.members.values():
        report.logged(member.name, member.log.read_text(errors="replace"))
    report.judge()
    return report


# ---- the three parts of a run ----


async def inflict(network: ChaosNetwork, plan: list[Fault]) -> None:
    """Let all faults happen, each in its time, and put them right."""
    began, network.report.began = trio.current_time(), time.monotonic()
    async with trio.open_nursery() as nursery:
        for fault in plan:
            await trio.sleep_until(began + fault.at)
            say(f"{fault.at:6.1f} s  {fault}")
            network.report.faults[f"{fault.kind} of a {fault.target.split()[0]}"] += 1
            nursery.start_soon(suffer, network, fault)


async def suffer(network: ChaosNetwork, fault: Fault) -> None:
    """Let one fault happen, and put it right."""
    member = network.members[fault.target]
    async with member.suffering:
        match fault.kind:
            case Kind.KILL:
                await network.kill(member)
                await trio.sleep(fault.lasts)
                await network.start(member)
            case Kind.STOP:
                member.stop()
                await trio.sleep(fault.lasts)
                member.go_on()
            case Kind.RESTART:
                await network.end(member)
                await network.start(member)


async def become_well(network: ChaosNetwork, watch: float) -> float:
    """Sweep for a while; give the seconds until everybody was reached, and has been ever since."""
    began = trio.current_time()
    well_since = None
    while trio.current_time() < began + watch or well_since is None:
        failed = await network.sweep()
        after = trio.current_time() - began
        if failed:
            say(f"{after:6.1f} s after the last fault: {len(failed)} not reached, {failed[0]}")
            well_since = None
            if after > GIVE_UP:
                return math.inf
        elif well_since is None:
            well_since = after
        await trio.sleep(BETWEEN_SWEEPS)
    return well_since


async def come_to_rest(network: ChaosNetwork) -> None:
    """Have everybody let go, and look at what is left."""
    await network.rest()
    links = len(network.servers) - 1

    async def is_at_rest() -> bool:
        looks = network.report.after = await network.look()
        return all(look.is_at_rest(links) for look in looks.values())

    await answered(is_at_rest, within=REST_WITHIN)  # if it never is, the report tells what is left
    await network.count()


def say(what: str) -> None:
    console.print(what, markup=False)
