"""What is shown of a copy."""

import io
import sys

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from dmsg_trio.cli._progress import SHOWN_NAME, shortened
from dmsg_trio.cli._pty_progress import Bar, Lines, copy_progress


def test_without_a_terminal_only_problems_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with copy_progress() as progress:
        assert isinstance(progress, Lines)
        progress.file_begins("file", 10)
        progress.bytes_moved(10)
        progress.file_ends()
        progress.problem("a\x1b[2J", "no\nroom")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "a\N{REPLACEMENT CHARACTER}[2J: no room\n"


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with copy_progress() as progress:
        assert isinstance(progress, Bar)


def test_a_bar_goes_on_where_the_file_does() -> None:
    written = io.StringIO()
    with Bars(console=Console(file=written, force_terminal=True, width=120)) as bars:
        bar = Bar(bars)
        bar.file_begins("folder/[bold]name", 100)
        bar.file_goes_on(40)
        bar.bytes_moved(10)
        [task] = bars.tasks
        assert (task.completed, task.total) == (50, 100)
        bar.problem("[red]path", "no room")
    assert "[red]path: no room" in written.getvalue()


def test_of_a_long_path_the_end_is_shown() -> None:
    text = shortened("x/" * 100 + "end")
    assert len(text) == SHOWN_NAME
    assert text.endswith("x/end")
