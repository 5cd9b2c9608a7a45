"""The window of nonces against a model that is a plain set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._errors import LocalProtocolError
from dmsg_trio._wire.noise import MAX_NONCE
from dmsg_trio._wire.nonces import WINDOW_SIZE, NonceWindow

SIZE = 16
near_each_other = st.integers(-2, 60)
anywhere = st.integers(0, 2**64 + 1) | st.sampled_from([MAX_NONCE - 1, MAX_NONCE])


@given(st.lists(near_each_other | anywhere, max_size=60))
def test_the_window_is_a_set_that_forgets_what_is_old(nonces: list[int]) -> None:
    window, seen = NonceWindow(SIZE), set[int]()
    for nonce in nonces:
        oldest = max(seen, default=0) - SIZE + 1
        new = 0 < nonce < MAX_NONCE and nonce not in seen and nonce >= oldest
        assert window.check(nonce) is new
        if new:
            window.mark(nonce)
            seen.add(nonce)
        else:
            with pytest.raises(LocalProtocolError, match=f"nonce {nonce} "):
                window.mark(nonce)


def test_asking_changes_nothing() -> None:
    window = NonceWindow()
    window.mark(5)
    assert window.check(MAX_NONCE - 1)
    assert window.check(1)
    assert not window.check(5)


def test_an_object_may_be_1023_behind_but_not_1024() -> None:
    window = NonceWindow()
    window.mark(5000)
    assert window.check(5000 - WINDOW_SIZE + 1)
    assert not window.check(5000 - WINDOW_SIZE)


def test_a_jump_to_the_edge_of_the_window_forgets_nothing() -> None:
    window = NonceWindow(SIZE)
    window.mark(1)
    window.mark(SIZE)
    assert not window.check(1)
    assert window.check(2)
    window.mark(2 * SIZE)
    assert not window.check(SIZE)
    assert window.check(SIZE + 1)


def test_a_jump_over_all_numbers_costs_no_memory() -> None:
    window = NonceWindow()
    window.mark(1)
    window.mark(MAX_NONCE - 1)
    assert window._seen.bit_length() <= WINDOW_SIZE
    assert not window.check(1)
    assert window.check(MAX_NONCE - 2)


def test_its_repr_tells_how_far_it_has_come() -> None:
    window = NonceWindow(64)
    window.mark(7)
    assert repr(window) == "<NonceWindow of 64 up to 7>"
