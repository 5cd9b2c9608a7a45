"""Ranges against a naive reading of them, bit by bit."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio.apps.files._ranges import (
    INVALID,
    MAX_RANGES,
    NO_OVERLAP,
    Span,
    UnsatisfiableError,
    spans_untrusted,
)

Wanted = tuple[int | None, int | None]

wanted = st.one_of(
    st.tuples(st.integers(0, 30), st.none()),
    st.tuples(st.none(), st.integers(0, 30)),
    st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] <= pair[1]),
)


def header_of(ranges: list[Wanted]) -> str:
    return "bytes=" + ",".join(
        f"{'' if first is None else first}-{'' if last is None else last}" for first, last in ranges
    )


def bytes_wanted(ranges: list[Wanted], size: int) -> set[int]:
    """What is wanted, the slow way."""
    found: set[int] = set()
    for first, last in ranges:
        if first is None:
            assert last is not None
            found |= set(range(size)[-last:] if last else ())
        else:
            found |= set(range(first, size if last is None else min(last + 1, size)))
    return found


@given(st.lists(wanted, min_size=1, max_size=12), st.integers(1, 25))
def test_what_is_sent_is_what_is_wanted_once_and_in_order(ranges: list[Wanted], size: int) -> None:
    expected = bytes_wanted(ranges, size)
    if not expected:
        with pytest.raises(UnsatisfiableError, match=NO_OVERLAP):
            spans_untrusted(header_of(ranges), size)
        return
    spans = spans_untrusted(header_of(ranges), size)
    assert spans is not None
    sent = [place for span in spans for place in range(*span)]
    assert sent == sorted(expected)
    for before, after in pairwise(spans):
        assert before.stop < after.start  # what touches is one


@given(st.text(max_size=40), st.integers(0, 1000))
def test_whatever_comes_is_understood_or_refused(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        try:
            spans = spans_untrusted(header, size)
        except UnsatisfiableError:
            continue
        assert spans is None or all(0 <= start < stop <= size for start, stop in spans)


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-0", [Span(0, 1)]),
        ("bytes=0-", [Span(0, 10)]),
        ("bytes=-3", [Span(7, 10)]),
        ("bytes=-30", [Span(0, 10)]),
        ("bytes=5-99999999999999999", [Span(5, 10)]),
        (" Bytes = 0-1 ,, 2-3 ", [Span(0, 4)]),
        ("bytes=8-9,0-1", [Span(0, 2), Span(8, 10)]),
        ("bytes=50-,0-1", [Span(0, 2)]),
        ("lines=0-1", None),
        ("0-1", None),
    ],
)
def test_ranges_of_ten_bytes(header: str, spans: list[Span] | None) -> None:
    assert spans_untrusted(header, 10) == spans


@pytest.mark.parametrize(
    "header", ["bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=1-2-3", "bytes=+1-2",
               "bytes=٣-٤", "bytes=0-" + "9" * 5000, "bytes=0x0-1"],
)  # fmt: skip
def test_what_is_no_range_is_said_to_be_none(header: str) -> None:
    with pytest.raises(UnsatisfiableError, match=f"^{INVALID}$"):
        spans_untrusted(header, 10)


def test_of_an_empty_file_everything_is_sent() -> None:
    assert spans_untrusted("bytes=0-", 0) is None
    assert spans_untrusted("bytes=5-", 0) is None


def test_too_many_ranges_are_the_whole_file() -> None:
    many = ",".join(f"{3 * n}-{3 * n}" for n in range(MAX_RANGES))
    spans = spans_untrusted(f"bytes={many}", 1000)
    assert spans is not None
    assert len(spans) == MAX_RANGES
    assert spans_untrusted(f"bytes={many},999-999", 1000) is None
