"""What tests with real processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.waiting import Log, hearing


@pytest.fixture
def log() -> Iterator[Log]:
    """What clients and servers in the process of the test say."""
    with hearing("dmsg_trio") as log:
        yield log
