"""The state machine bites: with a rule taken out of the code, it soon finds a script that shows it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from dmsg_trio._net.mux import MuxConnection
from dmsg_trio._net.splice import _Half
from dmsg_trio.client._dialing import Dialer
from dmsg_trio.client._sessions import SessionKeeper
from dmsg_trio.server._peers import Peers
from dmsg_trio.server._relay import Relay
from dmsg_trio.server._replacements import Replacements
from dmsg_trio.server._routes import Routes

from .checks import UnexpectedError
from .network_machine import run_script
from .scripts import scripts
from .steps import Cut, Dial, DialAtOnce, Heal, Move, Reset, Rest, Script, Usurp

EXAMPLES: Final = 200  # within which the machine must find each mutation

Mutation = tuple[type, str, str, str]  # in this method of this class, this text becomes that

MUTATIONS: Final[dict[str, Mutation]] = {
    "tiers swapped": (
        Dialer, "_ways_to", "return tier, pk", "return 4 - tier, pk",
    ),
    "the nearest server last": (
        Dialer, "_ways_to", "round_trip or 0.0", "-(round_trip or 0.0)",
    ),
    "one more try by the entry that failed": (
        Dialer, "dial", "self._entries.forget(remote.pk)", "pass",
    ),
    "no hop limit": (
        Relay, "_route", "elif from_peer:", "elif False:",
    ),
    "FIN dropped": (
        _Half, "on_end", "self.other.connection.end(self.other.state)", "pass",
    ),
}  # fmt: skip


# What takes more luck than `EXAMPLES` scripts have is shown by a script that was written for it.
RARE: Final[dict[str, Mutation]] = {
    "no pause for new sessions after a failure": (
        Dialer, "_ways_to", "if trio.current_time() >= memory.not_before:", "if True:",
    ),
    "a success does not end the pause": (
        Dialer, "dial", "memory.not_before = -math.inf", "pass",
    ),
    "a success does not make pauses short again": (
        Dialer, "dial", "memory.failures.reset()", "pass",
    ),
    "a session that is being dialed is dialed again": (
        SessionKeeper, "session_with", "dial = self._dials.get(server.pk)", "dial = None",
    ),
    "the older of two programs stays": (
        Routes, "_add", "self._sessions[pk] = session", "self._sessions.setdefault(pk, session)",
    ),
    "the older of two programs is not told": (
        Routes, "_add", "older.connection.close(", "str(",
    ),
    "a key changes hands as often as it likes": (
        Replacements, "note", "if lately >= MAX_REPLACEMENTS:", "if False:",
    ),
    "a stream that is reset stays in the table": (
        MuxConnection, "reset", "self._sinks.pop(state.stream_id, None)", "pass",
    ),
    "no links on demand": (
        Peers, "link_with_any", "if self._demand:", "if False:",
    ),
}  # fmt: skip

_APART: Final = (Move("c0", ("s0",)), Cut("s0", "s1"), Move("c1", ("s1",)), Rest(90))
_DIAL: Final = Dial("c1", "c0")
_FAILURES: Final = (
    _DIAL, Rest(5), _DIAL, Rest(5), _DIAL, Rest(30), _DIAL, Rest(30), _DIAL, Rest(90), _DIAL,
)  # fmt: skip
_SUCCESS: Final = (Heal("c0", "s1"), Rest(15), _DIAL)
_AWAY: Final = (Move("c0", ("s0",)), Rest(1), _DIAL)

SHOWN_BY: Final[dict[str, Script]] = {
    "no pause for new sessions after a failure": Script((*_APART, _DIAL, _DIAL), servers=2),
    "a success does not end the pause": Script((*_APART, *_FAILURES, *_SUCCESS, *_AWAY), servers=2),
    "a success does not make pauses short again": Script(
        (*_APART, *_FAILURES, *_SUCCESS, Rest(90), *_AWAY, Rest(5), _DIAL), servers=2
    ),
    "a session that is being dialed is dialed again": Script(
        (*_APART, Heal("c1", "s0"), DialAtOnce((("c1", "c0"),) * 3)), servers=2
    ),
    "the older of two programs stays": Script((Usurp("c0", "s0", 3),)),
    "the older of two programs is not told": Script((Usurp("c0", "s0", 3),)),
    "a key changes hands as often as it likes": Script((Usurp("c0", "s0", 12),)),
    "a stream that is reset stays in the table": Script((Dial("c0", "c1"), Reset(0), Rest(5))),
    "no links on demand": Script(
        (Move("c0", ("s0",)), Move("c1", ("s1",)), *[Rest(90)] * 5, _DIAL),
        servers=2,
        on_demand=True,
    ),
}


def mutated(owner: type, name: str, old: str, new: str) -> FunctionType:
    """A method whose text is changed in one place."""
    function = getattr(owner, name)
    assert isinstance(function, FunctionType)
    text = textwrap.dedent(inspect.getsource(function))
    assert text.count(old) == 1, f"{owner.__name__}.{name} no longer has {old!r} once"
    code = compile(text.replace(old, new), f"<{name}, mutated>", "exec")
    namespace: dict[str, FunctionType] = {}
    exec(code, function.__globals__, namespace)
    return namespace[name]


@contextmanager
def in_place(mutation: Mutation) -> Iterator[None]:
    """Have this mutation for the block."""
    owner, name, _, _ = mutation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, mutated(*mutation))
        yield


def first_found(limit: int) -> tuple[int, Script] | None:
    """The first script that does not do what the model says, and how many it took."""
    count = 0
    found: tuple[int, Script] | None = None

    @settings(
        max_examples=limit,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(scripts())
    def search(script: Script) -> None:
        nonlocal count, found
        if found is None:
            count += 1
            try:
                run_script(script)
            except UnexpectedError:
                found = count, script

    search()
    return found


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_the_machine_finds(mutation: Mutation) -> None:
    with in_place(mutation):
        found = first_found(EXAMPLES)
    assert found is not None
    count, script = found
    print(f"found by script {count}")  # noqa: T201 - for who runs this with -s
    run_script(script)  # without the mutation all is well


@pytest.mark.parametrize("name", RARE)
def test_the_model_tells(name: str) -> None:
    script = SHOWN_BY[name]
    run_script(script)
    with in_place(RARE[name]), pytest.raises(UnexpectedError):
        run_script(script)
