"""The mesh does what the model says, whatever happens to it."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from .found import FOUND
from .network_machine import run_script
from .scripts import scripts
from .steps import Script

# Of what the profile has for tests that are quicker: 25 for who develops, 500 in CI, 10,000 by night.
PROFILE: Final = settings.get_current_profile_name()
EXAMPLES: Final = {"ci": 500, "nightly": 10_000}.get(PROFILE, 25)


@settings(
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
    phases=set(Phase) - {Phase.explain},
)
@given(scripts())
def test_every_dial_takes_the_path_that_the_model_says(script: Script) -> None:
    run_script(script)


@pytest.mark.parametrize("script", FOUND.values(), ids=FOUND)
def test_the_state_machine_found(script: Script) -> None:
    run_script(script)
