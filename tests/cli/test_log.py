"""Log lines: one each, on standard error, whatever others wrote into them."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from dmsg_trio.cli._log import JsonLines, Lines, on_raw_terminal, set_up_logging
from dmsg_trio.cli._options import Level, LogOptions

AT = 1_767_225_600.1234


def record(message: str, *arguments: object, error: Exception | None = None) -> logging.LogRecord:
    info = None
    if error is not None:
        try:
            raise error
        except type(error):
            info = sys.exc_info()
    made = logging.LogRecord(
        "dmsg_trio.server", logging.WARNING, __file__, 1, message, arguments, info
    )
    made.created = AT
    return made


def test_a_line_says_when_how_grave_who_and_what() -> None:
    line = Lines().format(record("session with %s ended after %d streams", "02ab", 3))
    assert line == (
        "2026-01-01T00:00:00.123Z warning server: session with 02ab ended after 3 streams"
    )


def test_nobody_can_write_a_line_of_their_own() -> None:
    line = Lines().format(record("said %s", "hello\n2026-01-01 info: all is well\x1b[2J"))
    assert "\n" not in line
    assert "\x1b" not in line


def test_a_traceback_stands_indented_below_its_line() -> None:
    first, *below = Lines().format(record("oh", error=ValueError("a\x1bb"))).splitlines()
    assert first.endswith("server: oh")
    assert below[0] == "    Traceback (most recent call last):"
    assert below[-1] == "    ValueError: a\ufffdb"
    assert all(line.startswith("    ") for line in below)


def test_programs_get_an_object_a_line() -> None:
    line = JsonLines().format(record("said %s", "hello\n\x1b"))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-01-01T00:00:00.123Z",
        "level": "warning",
        "logger": "dmsg_trio.server",
        "message": "said hello\n\x1b",
    }
    failed = json.loads(JsonLines().format(record("oh", error=ValueError("no"))))
    assert failed["error"].endswith("ValueError: no")


@pytest.fixture
def _log_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_log_as_before")
def test_everything_from_a_level_up_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logging("info")
    LogOptions(log_level=Level.WARNING).set_up()  # the last one counts
    logging.getLogger("dmsg_trio.a").info("not this")
    logging.getLogger("dmsg_trio.a").warning("this")
    logging.getLogger("dmsg_trio.a").error("and this")
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition("Z ")[2] for line in err.splitlines()] == [
        "warning a: this",
        "error a: and this",
    ]


@pytest.mark.usefixtures("_log_as_before")
@pytest.mark.parametrize("debug", [False, True])
def test_libraries_tell_their_requests_to_nobody(
    capsys: pytest.CaptureFixture[str], debug: bool
) -> None:
    LogOptions(debug=debug, log_json=True).set_up()
    logging.getLogger("httpx").info("GET /")
    logging.getLogger("httpx").warning("too slow")
    logging.getLogger("dmsg_trio").debug("details")
    said = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert said == ["too slow"] + ["details"] * debug


@pytest.mark.usefixtures("_log_as_before")
def test_on_a_raw_terminal_lines_begin_on_the_left(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info")
    with on_raw_terminal():
        logging.getLogger("dmsg_trio.client").info("one")
    logging.getLogger("dmsg_trio.client").info("two")
    first, second = capsys.readouterr().err.splitlines(keepends=True)
    assert first.endswith("one\r\n")
    assert second.endswith("two\n")
    assert not second.endswith("\r\n")
