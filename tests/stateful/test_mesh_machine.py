"""The mesh does what the model says, whatever happens to it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from .found import FOUND
from .network_machine import run_script
from .scripts import scripts
from .steps import Script

SHARE_OF_EXAMPLES = 500 / 300  # of what the profile has for other tests: 500 in CI


@settings(
    max_examples=round(settings().max_examples * SHARE_OF_EXAMPLES),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(scripts())
def test_every_dial_takes_the_path_that_the_model_says(script: Script) -> None:
    run_script(script)


@pytest.mark.parametrize("script", FOUND.values(), ids=FOUND)
def test_the_state_machine_found(script: Script) -> None:
    run_script(script)
