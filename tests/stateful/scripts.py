"""Scripts as Hypothesis draws them."""

from __future__ import annotations

from itertools import chain

from hypothesis import strategies as st

from .network_machine import SERVERS
from .steps import (
    PATIENT,
    CancelDial,
    Close,
    Cut,
    Dial,
    Drain,
    FindDiscovery,
    HalfClose,
    Heal,
    Lie,
    LoseDiscovery,
    Move,
    Port,
    Reset,
    Rest,
    Script,
    Silence,
    SlowDown,
    Start,
    Step,
    Stop,
    Tell,
    TellTruth,
    Transfer,
)  # fmt: skip

CLIENTS = ("c0", "c1", "c2")

clients = st.sampled_from(CLIENTS)
servers = st.sampled_from(SERVERS)
some_servers = st.lists(servers, max_size=3, unique=True).map(tuple)
pairs = st.permutations(CLIENTS).map(lambda order: order[:2])
streams = st.integers(0, 5)
sizes = st.sampled_from((1, 1000, 100_000, 700_000))
latencies = st.sampled_from((0.0, 0.01, 0.05, 0.3))


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, str]:
    a = draw(servers)
    b = draw(st.one_of(clients, servers))
    return (a, b) if a != b else (a, "c0")


@st.composite
def dials(draw: st.DrawFn) -> Dial:
    client, to = draw(pairs)
    port = Port.CLOSED if draw(st.integers(0, 3)) == 3 else Port.OPEN
    return Dial(client, to, port, 4.0 if draw(st.integers(0, 3)) == 3 else PATIENT)


@st.composite
def cancelled_dials(draw: st.DrawFn) -> CancelDial:
    client, to = draw(pairs)
    return CancelDial(
        client, to, draw(st.sampled_from((0.0, 0.005, 0.015, 0.03, 0.045, 0.08, 1.0)))
    )


@st.composite
def line_faults(draw: st.DrawFn) -> Step:
    a, b = draw(lines())
    kind = draw(st.sampled_from((Cut, Silence, Heal, SlowDown)))
    return SlowDown(a, b, draw(latencies)) if kind is SlowDown else kind(a, b)


faults: st.SearchStrategy[Step] = st.one_of(
    line_faults(),
    line_faults(),
    st.builds(Move, clients, some_servers),
    st.builds(Stop, servers),
    st.builds(Start, servers),
    st.builds(Drain, servers),
    st.builds(Tell, clients, st.one_of(some_servers.filter(bool), st.sampled_from(Lie))),
    st.builds(TellTruth, clients),
    st.sampled_from((LoseDiscovery(), FindDiscovery())),
)
uses: st.SearchStrategy[Step] = st.one_of(
    st.builds(Transfer, streams, sizes, st.booleans()),
    st.builds(HalfClose, streams, st.booleans()),
    st.builds(Close, streams),
    st.builds(Reset, streams, st.booleans()),
    cancelled_dials(),
)
rests: st.SearchStrategy[Step] = st.builds(Rest, st.sampled_from((1.0, 5.0, 30.0, 90.0)))


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """A dial in three of ten draws, sometimes twice in a row; as many faults; and what else there is."""
    match draw(st.integers(0, 9)):
        case 0:
            return [draw(rests)]
        case 1 | 2 | 3:
            return [draw(dials())] * draw(st.sampled_from((1, 1, 2)))
        case 4 | 5 | 6:
            return [draw(faults)]
        case _:
            return [draw(uses)]


@st.composite
def scripts(draw: st.DrawFn, *, least: int = 30, most: int = 36) -> Script:
    """Scripts of ``least`` to ``most`` steps; what fails may shrink below that."""
    length = min(draw(st.integers(0, 100_000)), draw(st.integers(least, most)))
    parts = draw(st.lists(steps(), min_size=length, max_size=length))
    return Script(
        tuple(chain.from_iterable(parts)),
        servers=draw(st.integers(2, 3)),
        clients=draw(st.sampled_from(((0, 1, 1), (0, 0, 1), (2, 1, 1), (1, 1, 1)))),
        seed=draw(st.integers(0, 2**32)),
    )
