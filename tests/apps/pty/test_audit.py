"""The audit: one line for each session and each refusal, which nothing in them can garble."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import cast

import pytest

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import SecretKey
from dmsg_trio.apps.pty.host._audit import (
    LOCAL,
    MAX_COMMAND,
    MAX_REASON,
    MAX_REFUSALS,
    MINUTE,
    Audit,
)

PK = SecretKey(b"\x06" * 32).pk
START = 1_800_000_000_123 * 10**6  # nanoseconds


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_session_leaves_one_line_when_it_ends(path: Path, clock: Clock) -> None:
    audit = Audit(path, wall_clock=clock)
    with audit.session(key=PK, source=f"{PK}:49152", command=["ls", "-l"]) as session:
        assert path.read_text() == ""
        session.bytes_in, session.bytes_out = 3, 70_000
        session.exit_code, session.reason = 2, "the command ended"
        clock.now += 1_500 * 10**6
    assert lines(path) == [
        {
            "event": "session",
            "key": str(PK),
            "source": f"{PK}:49152",
            "command": ["ls", "-l"],
            "start": "2027-01-15T08:00:00.123Z",
            "end": "2027-01-15T08:00:01.623Z",
            "exit_code": 2,
            "signal": None,
            "bytes_in": 3,
            "bytes_out": 70_000,
            "reason": "the command ended",
        }
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_session_that_breaks_off_leaves_its_line_too(
    path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), Audit(path).session(key=None, source=LOCAL, command=[]) as session:
        session.signal = "HUP"
        raise error
    (line,) = lines(path)
    assert (line["key"], line["command"], line["signal"]) == (None, [], "HUP")
    assert line["reason"] == "broken off"


def test_control_characters_are_harmless_and_not_lost(path: Path) -> None:
    words = ["\x1b]0;owned\x07", "a\nb\r\x00\x7f", "\u202eabc\udcff\x9b2J"]
    with Audit(path).session(key=PK, source=LOCAL, command=words):
        pass
    raw = path.read_bytes()
    assert raw.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in raw[:-1])
    assert lines(path)[0]["command"] == words


def test_a_long_command_is_cut_and_the_line_says_so(path: Path) -> None:
    audit = Audit(path)
    for words in (["x" * 70_000, "y"], ["x"] * 70_000):
        with audit.session(key=PK, source=LOCAL, command=words) as session:
            session.reason = "r" * 70_000
    for line, size in zip(lines(path), (70_001, 70_000), strict=True):
        kept = sum(map(len, cast("list[str]", line["command"])))
        assert kept <= MAX_COMMAND
        assert line["command_cut"] == size - kept
        assert len(str(line["reason"])) == MAX_REASON


def test_a_refusal_leaves_a_line(path: Path, clock: Clock) -> None:
    Audit(path, wall_clock=clock).refused(key=PK, source="x", reason="not on the allow list")
    (line,) = lines(path)
    assert line["event"] == "refusal"
    assert line["time"] == "2027-01-15T08:00:00.123Z"
    assert line["reason"] == "not on the allow list"


def test_a_flood_of_refusals_is_counted(path: Path, clock: Clock) -> None:
    audit = Audit(path, wall_clock=clock)
    for _ in range(MAX_REFUSALS + 7):
        audit.refused(key=PK, source="x", reason="no")
    assert len(lines(path)) == MAX_REFUSALS
    clock.now += MINUTE
    audit.refused(key=PK, source="x", reason="no")
    counted, line = lines(path)[MAX_REFUSALS:]
    assert counted == {"event": "refusals", "since": "2027-01-15T08:00:00.123Z", "count": 7}
    assert line["event"] == "refusal"


def test_what_was_counted_is_written_at_the_end(path: Path, clock: Clock) -> None:
    audit = Audit(path, wall_clock=clock)
    for _ in range(MAX_REFUSALS + 1):
        audit.refused(key=PK, source="x", reason="no")
    audit.close()
    audit.close()
    assert [line.get("count") for line in lines(path)[MAX_REFUSALS:]] == [1]


def test_a_file_that_was_rotated_away_is_made_anew(path: Path) -> None:
    audit = Audit(path)
    audit.refused(key=PK, source="x", reason="one")
    path.rename(path.with_name("old"))
    audit.refused(key=PK, source="x", reason="two")
    assert [line["reason"] for line in lines(path)] == ["two"]


def test_without_a_file_the_log_has_the_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Audit().refused(key=PK, source="x", reason="no")
    assert json.loads(caplog.records[0].getMessage())["event"] == "refusal"


def test_a_line_that_cannot_be_written_is_in_the_log(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = Audit(path)
    path.unlink()
    path.symlink_to(path.with_name("elsewhere"))
    with audit.session(key=PK, source=LOCAL, command=["ls"]):
        pass
    assert not path.with_name("elsewhere").exists()
    assert f"cannot write {path}" in caplog.text
    assert '"command": ["ls"]' in caplog.text


def test_a_file_that_cannot_be_used_is_refused(path: Path) -> None:
    path.touch()
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"audit_log: others can read .*chmod 600"):
        Audit(path)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match="audit_log"):
        Audit(path)
    with pytest.raises(ConfigError, match=r"none/audit\.log: No such file"):
        Audit(path.with_name("none") / "audit.log")
