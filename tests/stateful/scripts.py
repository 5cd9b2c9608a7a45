"""Scripts as Hypothesis draws them."""

from __future__ import annotations

from itertools import chain

from hypothesis import strategies as st

from . import steps as to
from .parties import CLIENTS, SERVERS
from .steps import NEVER, PATIENT, Lie, Port, Script, Step

clients = st.sampled_from(CLIENTS)
servers = st.sampled_from(SERVERS)
some_servers = st.lists(servers, max_size=3, unique=True).map(tuple)
pairs = st.permutations(CLIENTS).map(lambda order: (order[0], order[1]))
streams = st.integers(0, 5)
sizes = st.sampled_from((1, 1000, 100_000, 700_000))
latencies = st.sampled_from((0.0, 0.01, 0.05, 0.3))
moments = st.sampled_from((0.0, 0.005, 0.015, 0.03, 0.045, 0.08, 1.0))


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, str]:
    a = draw(servers)
    b = draw(st.one_of(clients, servers))
    return (a, b) if a != b else (a, "c0")


@st.composite
def dials(draw: st.DrawFn) -> to.Dial:
    client, other = draw(pairs)
    port = Port.CLOSED if draw(st.integers(0, 3)) == 3 else Port.OPEN
    return to.Dial(client, other, port, 4.0 if draw(st.integers(0, 3)) == 3 else PATIENT)


@st.composite
def dials_at_once(draw: st.DrawFn) -> to.DialAtOnce:
    """Several from one client to another, and maybe some between others."""
    most = [draw(pairs)] * draw(st.integers(2, 3))
    return to.DialAtOnce((*most, *draw(st.lists(pairs, max_size=1))))


@st.composite
def cancelled_dials(draw: st.DrawFn) -> to.CancelDial:
    return to.CancelDial(*draw(pairs), draw(moments))


@st.composite
def line_faults(draw: st.DrawFn) -> Step:
    a, b = draw(lines())
    kind = draw(st.sampled_from((to.Cut, to.Silence, to.Heal, to.SlowDown)))
    return to.SlowDown(a, b, draw(latencies)) if kind is to.SlowDown else kind(a, b)


server_faults: st.SearchStrategy[Step] = st.one_of(
    st.builds(to.Stop, servers),
    st.builds(to.Start, servers),
    st.builds(to.Drain, servers),
    st.builds(to.DelayReplies, servers, st.sampled_from((0.0, 1.0, 3.0, NEVER))),
)
client_faults: st.SearchStrategy[Step] = st.one_of(
    st.builds(to.Move, clients, some_servers),
    st.builds(to.Leave, clients),
    st.builds(to.LosePower, clients),
    st.builds(to.Return, clients),
    st.builds(to.Return, clients),
    st.builds(to.Twin, clients),
    st.builds(to.EndTwin, clients),
    st.builds(to.Usurp, clients, servers, st.integers(1, 12)),
)
discovery_faults: st.SearchStrategy[Step] = st.one_of(
    st.builds(to.Tell, clients, st.one_of(some_servers.filter(bool), st.sampled_from(Lie))),
    st.builds(to.TellTruth, clients),
    st.builds(to.DelayDiscovery, st.sampled_from((0.2, 1.0, 2.5, 8.0))),
    st.just(to.LoseDiscovery()),
    st.just(to.FindDiscovery()),
)
faults = st.one_of(line_faults(), server_faults, client_faults, discovery_faults)
uses: st.SearchStrategy[Step] = st.one_of(
    st.builds(to.Transfer, streams, sizes, st.booleans()),
    st.builds(to.HalfClose, streams, st.booleans()),
    st.builds(to.Close, streams),
    st.builds(to.Reset, streams, st.booleans()),
    cancelled_dials(),
)
rests: st.SearchStrategy[Step] = st.builds(to.Rest, st.sampled_from((1.0, 5.0, 30.0, 90.0)))


@st.composite
def parts(draw: st.DrawFn) -> list[Step]:
    """A dial in three of ten draws, sometimes twice in a row; as many faults; and what else there is."""
    match draw(st.integers(0, 9)):
        case 0:
            return [draw(rests)]
        case 1 | 2:
            return [draw(dials())] * draw(st.sampled_from((1, 1, 2)))
        case 3:
            return [draw(dials_at_once())]
        case 4 | 5 | 6:
            return [draw(faults)]
        case _:
            return [draw(uses)]


@st.composite
def scripts(draw: st.DrawFn, *, least: int = 30, most: int = 36) -> Script:
    """Scripts of ``least`` to ``most`` steps; what fails may shrink below that."""
    length = min(draw(st.integers(0, 100_000)), draw(st.integers(least, most)))
    return Script(
        tuple(chain.from_iterable(draw(st.lists(parts(), min_size=length, max_size=length)))),
        servers=draw(st.integers(2, 3)),
        clients=draw(st.sampled_from(((0, 1, 1), (0, 0, 1), (2, 1, 1), (1, 1, 1)))),
        seed=draw(st.integers(0, 2**32)),
        on_demand=draw(st.sampled_from((False, False, True))),
    )
