"""Command lines as curl has them: cut at --next, with files in the place of -K."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dmsg_trio._errors import ConfigError
from dmsg_trio.apps.curl import ExitCode, TransferError
from dmsg_trio.cli._curl_arguments import Option, parts

OPTIONS = {
    "-o": Option("output", takes_value=True),
    "--output": Option("output", takes_value=True),
    "-d": Option("data", takes_value=True),
    "--data": Option("data", takes_value=True),
    "-c": Option("cookie_jar", takes_value=True),
    "-s": Option("silent", takes_value=False),
    "--silent": Option("silent", takes_value=False),
}


def read(*words: str) -> list[list[str]]:
    return parts(words, OPTIONS)


def test_letters_and_values_are_told_apart() -> None:
    assert read("-sofile", "u", "--data=x", "-d", "-s", "--", "-v") == [
        ["-s", "-o", "file", "--data", "x", "-d", "-s", "--", "u", "-v"]
    ]


def test_each_next_begins_anew() -> None:
    assert read("-s", "u", "--next", "-d", "--next", "v", "-:", "w") == [
        ["-s", "--", "u"],
        ["-d", "--next", "--", "v"],
        ["--", "w"],
    ]


def test_a_url_may_have_a_name() -> None:
    assert read("u", "--url", "v", "--url=w") == [["--", "u", "v", "w"]]


def test_an_option_can_be_taken_back() -> None:
    assert read("-s", "u", "--no-silent") == [["--", "u"]]
    assert read("--no-such") == [["--no-such"]]


def test_a_url_behind_c_is_a_discovery_as_the_reference_has_it() -> None:
    assert read("-c", "http://d:1", "-chttps://e", "-c", "jar") == [
        ["--discovery", "http://d:1", "--discovery", "https://e", "-c", "jar"]
    ]


def test_a_value_that_is_missing_is_said() -> None:
    with pytest.raises(ConfigError, match="-o needs a value"):
        read("u", "-o")


@pytest.mark.parametrize("word", ["-s-", "-:-", "-sS--fail"])
def test_a_dash_among_letters_is_no_option(word: str) -> None:
    with pytest.raises(ConfigError, match=f"^{word}: there is no option '-'"):
        read("u", word)


def test_a_file_says_what_a_command_line_can(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(
        '# a remark\n\n  silent\n-o a\noutput = "b \\"c\\"\\t"\ndata: x # y\nurl=u\nnext\n--url "v w"\n'
    )
    assert read("-K", str(file), "w") == [
        ["--silent", "-o", "a", "--output", 'b "c"\t', "--data", "x", "--", "u"],
        ["--", "v w", "w"],
    ]


def test_files_that_name_each_other_without_end_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(f"config = {file}\n")
    with pytest.raises(ConfigError, match="more than 10 files"):
        read("-K", str(file))


def test_a_file_that_cannot_be_read_has_curls_code(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"reading .*nowhere: No such file") as caught:
        read("-K", str(tmp_path / "nowhere"))
    assert caught.value.code is ExitCode.READ_ERROR


@example(["-:-"])
@given(st.lists(st.text(alphabet="-sodcn=:u ", max_size=6)))
def test_what_was_read_once_reads_the_same_again(words: list[str]) -> None:
    try:
        found = read(*words)
    except ConfigError:
        return
    assert [read(*part) for part in found] == [[part] for part in found]
