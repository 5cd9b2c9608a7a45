"""The network under faults, for a short time; `make chaos` does it for longer, and with more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from secrets import token_hex

import pytest
import trio
import trio.testing

from dmsg_trio.testing import Network
from tests.chaos.command import STOPPED, run
from tests.chaos.plan import SERVER, Settings, make_plan
from tests.chaos.report import Report
from tests.chaos.transfers import End, Pattern, StalledError, Transfer, WrongBytesError

ROOT = Path(__file__).parents[2]


@pytest.mark.network
async def test_faults_of_all_kinds_lead_to_no_wrong_byte_and_no_dial_without_an_answer(
    tmp_path: Path,
) -> None:
    # Of this seed servers and clients are killed, and the discovery hangs.
    settings = Settings(servers=3, clients=6, seconds=10, seed=1, every=2, watch=3)
    report = await run(settings, tmp_path)
    assert report.violations == []
    assert report.dials.count > 20
    assert sum(report.faults.values()) == len(make_plan(settings)) == 5


@pytest.mark.network
def test_no_process_is_left_after_ctrl_c() -> None:
    marker = token_hex()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", "--servers", "2", "--clients", "2", "--every", "0.5"],
        cwd=ROOT,
        env=os.environ | {"MARKER": marker},
        stderr=subprocess.PIPE,
        text=True,
    ) as chaos:
        assert chaos.stderr is not None
        while " s  " not in chaos.stderr.readline():
            assert chaos.poll() is None
        assert len(processes_with(marker)) > 4
        chaos.send_signal(signal.SIGINT)
        chaos.stderr.read()
        assert chaos.wait(10) == STOPPED
    assert processes_with(marker) == []


def processes_with(marker: str) -> list[str]:
    """The processes that have inherited a variable with this content."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
    return found


# ---- what it relies on ----


def test_a_plan_follows_from_its_seed() -> None:
    settings = Settings(seconds=600, seed=7, discovery_outage=300)
    plan = make_plan(settings)
    assert plan == make_plan(settings)
    assert plan != make_plan(Settings(seconds=600, seed=8, discovery_outage=300))
    assert {fault.lasts for fault in plan} >= {5, 30, 120, 300}


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_leaves_more_than_half_of_the_servers_alone(seed: int) -> None:
    settings = Settings(seconds=600, seed=seed)
    plan = make_plan(settings)
    assert all(fault.over < settings.seconds for fault in plan)
    for fault in plan:
        hurt = [other.target for other in plan if other.at <= fault.at <= other.over]
        assert len(hurt) == len(set(hurt))
        assert sum(name.startswith(SERVER) for name in hurt) <= settings.servers // 2


async def test_a_transfer_is_checked_in_both_directions(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        async with b.listen(80) as listener:
            near, far = End(await a.open_stream(b.pk, 80)), End(await listener.accept())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.ask, Transfer(7, 200_000, 300_000))
                nursery.start_soon(far.answer)
            assert (near.received, far.received) == (300_000, 200_000)


RIGHT = Pattern(7).take(1000)


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (RIGHT[:-1], "ended well after 999 of 1000"),
        (RIGHT + b"x", "wrong ones"),
        (RIGHT[:500] + b"x" + RIGHT[501:], "wrong ones"),
        (RIGHT[:500] + RIGHT[501:], "wrong ones"),
    ],
    ids=["cut", "longer", "changed", "one left out"],
)
async def test_bytes_that_were_not_announced_are_noticed(
    sent: bytes, complaint: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        async with b.listen(80) as listener, await a.open_stream(b.pk, 80) as near:
            far = End(await listener.accept())
            await near.send_all(Transfer(7, 1000, 0).head() + sent)
            await near.send_eof()
            with pytest.raises(WrongBytesError, match=complaint):
                await far.answer()


async def test_a_stream_that_hangs_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        async with b.listen(80) as listener, await a.open_stream(b.pk, 80):
            far = End(await listener.accept())
            with pytest.raises(StalledError):
                await far.answer()


def test_a_run_in_which_nothing_happened_is_no_success() -> None:
    report = Report(well_after=0.0)
    report.judge()
    assert report.violations == ["nothing happened at all"]
