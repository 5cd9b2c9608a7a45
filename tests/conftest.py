"""What all tests share: the hypothesis profiles, and signals that work."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

base = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("dev", base, max_examples=50)
settings.register_profile("ci", base, max_examples=300, derandomize=True, print_blob=True)
settings.register_profile("nightly", base, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# Whoever runs the tests in the background (nohup) may ignore what programs here are to be ended by.
for number, usual in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker waits for it in the end."""
    items.sort(key=lambda item: "stateful" not in item.path.parts)
