"""The state machine bites: with a rule taken out of the code, it soon finds a script that shows it."""

from __future__ import annotations

import inspect
import textwrap
from types import FunctionType
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from dmsg_trio._net.splice import _Half
from dmsg_trio.client._dialing import Dialer
from dmsg_trio.server._relay import Relay

from .model import UnexpectedError
from .network_machine import run_script
from .scripts import scripts
from .steps import Script

EXAMPLES: Final = 60  # within which the machine must find each mutation

Mutation = tuple[type, str, str, str]  # in this method of this class, this text becomes that

MUTATIONS: Final[dict[str, Mutation]] = {
    "tiers swapped": (
        Dialer, "_ways_to", "return tier, pk", "return 4 - tier, pk",
    ),
    "the nearest server last": (
        Dialer, "_ways_to", "round_trip or 0.0", "-(round_trip or 0.0)",
    ),
    "no pause for new sessions after a failure": (
        Dialer, "_ways_to", "if trio.current_time() >= memory.not_before:", "if True:",
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
    owner, name, _, _ = mutation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, mutated(*mutation))
        found = first_found(EXAMPLES)
    assert found is not None
    count, script = found
    print(f"found by script {count}")  # noqa: T201 - for who runs this with -s
    run_script(script)  # without the mutation all is well
