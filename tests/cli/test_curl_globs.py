"""Several URLs in one, as curl has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio.apps.curl import ExitCode, TransferError
from dmsg_trio.cli._curl_globs import MAX_URLS, Globbed, expanded


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("u/f", ["u/f"]),
        ("u/{a,b}", ["u/a", "u/b"]),
        ("u/{a,}.c", ["u/a.c", "u/.c"]),
        ("[1-3]", ["1", "2", "3"]),
        ("[08-11]", ["08", "09", "10", "11"]),
        ("[1-7:3]", ["1", "4", "7"]),
        ("[a-e:2]", ["a", "c", "e"]),
        ("{a,b}[1-2]", ["a1", "a2", "b1", "b2"]),
        (r"\{a,b\}\[1-2\]", ["{a,b}[1-2]"]),
        (r"{a\,b,c}", [r"a\,b", "c"]),
        ("", [""]),
    ],
)
def test_a_pattern_stands_for_its_urls(pattern: str, texts: list[str]) -> None:
    assert [each.text for each in expanded(pattern)] == texts


@pytest.mark.parametrize("pattern", ["{a", "a}", "[1-", "x]", "[a]", "[1-3:0]", "[3-1]", "[a-Z]"])
def test_what_is_no_pattern_is_a_bad_url_and_not_an_empty_list(pattern: str) -> None:
    with pytest.raises(TransferError, match=r"bad pattern at .*-g takes it") as caught:
        expanded(pattern)
    assert caught.value.code is ExitCode.BAD_URL


@pytest.mark.parametrize("pattern", ["[1-999999999999999999]", "[1-999][1-999]", "{a,b}[0-99999]"])
def test_no_pattern_stands_for_more_urls_than_there_is_memory(pattern: str) -> None:
    with pytest.raises(TransferError, match=f"more than {MAX_URLS} URLs"):
        expanded(pattern)


def test_names_of_files_say_what_was_chosen() -> None:
    names = [each.named("#2_#1_#3.txt") for each in expanded("u/{a,b}/[1-2]")]
    assert names == ["1_a_#3.txt", "2_a_#3.txt", "1_b_#3.txt", "2_b_#3.txt"]
    assert Globbed("u").named("#1") == "#1"


@given(st.text(alphabet=r"ab{}[],-:\1", max_size=20))
def test_any_text_is_urls_or_a_bad_one(text: str) -> None:
    try:
        found = expanded(text)
    except TransferError:
        return
    assert found
