"""What the state machine found, shrunk: each of these failed once."""

from __future__ import annotations

from typing import Final

from .steps import (
    CancelDial,
    Close,
    Cut,
    Dial,
    Leave,
    Lie,
    LoseDiscovery,
    Move,
    Port,
    Rest,
    Script,
    Silence,
    SlowDown,
    Start,
    Stop,
    Tell,
    Transfer,
    Twin,
    Usurp,
)

FOUND: Final = {
    "an entry of no use was remembered for five minutes": Script(
        (Tell("c0", Lie.NOWHERE), Dial("c1", "c0")), servers=2
    ),
    "a dial whose time was up already raised ValueError": Script(
        (Dial("c0", "c1"), CancelDial("c0", "c1", after=0.0)), servers=2
    ),
    "a new session that did not help was tried again as an old one": Script(
        (Rest(1), Rest(1), Rest(1), Rest(1), Move("c0", ()), Dial("c1", "c0")), servers=2
    ),
    "a discovery that went away hid what was attempted": Script(
        (Dial("c0", "c1"), Stop("s0"), LoseDiscovery(), Cut("s1", "c0"), Dial("c0", "c1")),
        servers=2,
    ),
    "all was tried twice though the discovery had nothing new": Script(
        (Rest(1), Rest(1), Rest(1), Rest(1), Dial("c1", "c2"), Move("c2", ()), Dial("c1", "c2")),
        servers=2,
    ),
    "a server that came back elsewhere was looked for where it had been": Script(
        (
            Move("c0", ("s1",)),
            Rest(90),
            Move("c1", ("s0", "s1")),
            Cut("s0", "s1"),
            Rest(30),
            Dial("c1", "c0"),
            Move("c1", ("s0",)),
            Stop("s1"),
            Start("s1"),
            Rest(30),
            Move("c1", ("s0", "s1")),
            Dial("c1", "c0"),
        ),
        servers=2,
    ),
    "a silent server held up what the destination had refused": Script(
        (
            Move("c0", ("s0",)),
            Rest(30),
            Move("c1", ("s1",)),
            Rest(90),
            Silence("s0", "s2"),
            Dial("c0", "c1", Port.CLOSED),
        )
    ),
    "a stream was let go whose line fell silent": Script(
        (
            *[Rest(1)] * 25,
            *[Dial("c0", "c2")] * 2,
            *[Dial("c0", "c1")] * 4,
            Silence("s1", "c0"),
            Dial("c0", "c1"),
        ),
        servers=2,
    ),
    "the end of a stream took its time over slow lines": Script(
        (
            Rest(1),
            Rest(5),
            *[Dial("c0", "c1")] * 6,
            SlowDown("s0", "s1", 0.3),
            SlowDown("s1", "c0", 0.3),
            Dial("c0", "c1"),
        ),
        clients=(2, 1, 1),
        seed=4,
    ),
    "a second pass made the session by which it was judged": Script(
        (Dial("c1", "c2"), Cut("s0", "s1"), Stop("s2"), Dial("c1", "c2")), seed=16
    ),
    "a session of a key that the discovery calls a server's is tentative": Script(
        (Tell("c1", Lie.A_SERVER), Twin("c1"), Rest(90), Stop("s1"), *[Rest(0)] * 3),
        servers=2,
        clients=(2, 1, 1),
    ),
    "a stream of the second program outlives the first": Script(
        (
            Twin("c2"),
            Usurp("c2", "s1", 1),
            Dial("c0", "c2"),
            Leave("c2"),
            Transfer(0, 100_000),
        ),
        servers=2,
        clients=(1, 1, 1),
        seed=30459,
    ),
    "a dial that was given up left streams on slow lines": Script(
        (
            SlowDown("s0", "s1", 0.3),
            SlowDown("s0", "c0", 0.3),
            SlowDown("s1", "c0", 0.3),
            CancelDial("c0", "c2", after=0.9),
        ),
        seed=1789643640,
    ),
    "a program hears late that another one took its place": Script(
        (
            SlowDown("s0", "c1", 0.3),
            SlowDown("s1", "c1", 0.3),
            Dial("c1", "c2"),
            Twin("c1"),
            Close(4),
            CancelDial("c1", "c0", after=1.25),
            Rest(0.1),
            Rest(0),
            Dial("c1", "c2"),
            Rest(0.1),
        ),
        servers=2,
        seed=455940514,
    ),
}
