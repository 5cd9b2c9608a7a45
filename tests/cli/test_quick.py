"""Nothing is collected while a program starts, and all that comes later is."""

import gc
import sys
from collections.abc import Iterator

import pytest

from dmsg_trio.cli._quick import UNUSED, started, starting


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    for name in UNUSED:
        if name in sys.modules and sys.modules[name] is None:
            del sys.modules[name]


def test_garbage_is_collected_from_when_the_work_begins() -> None:
    with starting():
        assert not gc.isenabled()
        before = gc.get_freeze_count()
        started()
        assert gc.isenabled()
        frozen = gc.get_freeze_count()
        assert frozen > before
        started()  # of a second run
        assert gc.get_freeze_count() == frozen
    assert gc.isenabled()


def test_a_program_that_fails_as_it_starts_leaves_the_collection_on() -> None:
    with pytest.raises(ValueError, match="wrong"), starting():
        raise ValueError("wrong")
    assert gc.isenabled()


def test_who_runs_something_outside_of_a_program_keeps_the_collection_as_it_is() -> None:
    before = gc.get_freeze_count()
    started()
    assert gc.get_freeze_count() == before
