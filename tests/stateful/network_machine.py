"""Takes the steps of a script on a real network in memory, and has the model judge what comes of it.

Each kind of step has its room: `faults`, `dialing`, `streams`, `contests`; what must hold at all times
is in `invariants`, and what at the end in `recovery`.
"""

from __future__ import annotations

import random
from itertools import combinations
from typing import Final

import pytest
import trio
from trio._core import _run as trio_loop
from trio.testing import MockClock

from dmsg_trio._net import backoff
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.client import _sessions

from .checks import no_faults_logged, tasks
from .contests import usurp
from .dialing import cancel_dial, dial, dial_at_once
from .faults import Faults
from .invariants import check_invariants, note_what_follows
from .judging import Judge
from .parties import CLIENTS, SERVERS
from .recovery import MOMENT, see_that_all_recovers
from .scene import Scene
from .steps import (
    CancelDial,
    Close,
    Dial,
    DialAtOnce,
    HalfClose,
    Reset,
    Rest,
    Script,
    Step,
    Transfer,
    Usurp,
)
from .streams import use

LATENCIES: Final = (0.005, 0.01, 0.02)  # seconds, one way; which line has which follows the seed
MESH_TIME: Final = 70.0  # seconds in which each server has looked for the others


def run_script(script: Script) -> Judge:
    """Take the steps of a script on a network of its own; what is left to chance follows its seed."""
    judges: list[Judge] = []
    with pytest.MonkeyPatch.context() as patch, no_faults_logged():
        chance = random.Random(script.seed)
        patch.setattr(backoff, "_random", chance)
        patch.setattr(_sessions, "_random", chance)
        # The order in which tasks run that could run all at once is Trio's choice.
        patch.setattr(trio_loop, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr(trio_loop, "_r", chance)
        trio.run(_run, script, judges, clock=MockClock(autojump_threshold=0))
    return judges[0]


async def _run(script: Script, judges: list[Judge]) -> None:
    """Take all steps, judge each, and see that all is well at the end."""
    async with open_service_nursery() as nursery:
        scene = Scene(script, nursery)
        faults = Faults(scene)
        judges.append(scene.judge)
        async with scene.network:
            distances = random.Random(script.seed)
            for a, b in combinations((*SERVERS, *CLIENTS), 2):
                scene.slow_down(a, b, distances.choice(LATENCIES))
            for name in SERVERS[: script.servers]:
                await faults.start_server(name)
            for name in CLIENTS:
                await scene.start_client(name, scene.holders)
            await trio.sleep(MESH_TIME)
            usual_tasks = set(tasks())
            for step in script.steps:
                await _take(scene, faults, step)
                note_what_follows(scene, step)
                await trio.sleep(MOMENT)
                check_invariants(scene)
            await see_that_all_recovers(scene, faults, usual_tasks)
            for name in CLIENTS:
                await scene.end_client(name, scene.holders)


async def _take(scene: Scene, faults: Faults, step: Step) -> None:
    match step:
        case Rest(seconds):
            await trio.sleep(seconds)
        case Dial():
            await dial(scene, step)
        case DialAtOnce():
            await dial_at_once(scene, step)
        case CancelDial():
            await cancel_dial(scene, step)
        case Transfer() | HalfClose() | Close() | Reset():
            await use(scene, step)
        case Usurp():
            await usurp(scene, step)
        case _:
            await faults.take(step)
