"""What all tests share: the hypothesis profiles, signals that work, and no tolerance for our faults."""

import os
import signal
from collections.abc import Iterator

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


@pytest.fixture(autouse=True)
def _no_fault_of_ours(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """What is contained at a border, so that users are not hit by it, is a failure here."""
    yield
    if "faulty" not in request.keywords:
        said = [record.getMessage() for record in caplog.get_records("call")]
        assert not [each for each in said if each.endswith("by a fault of ours")]
