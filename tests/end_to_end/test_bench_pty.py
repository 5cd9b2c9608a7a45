"""The bench of the remote shell runs; of what it finds, only that nothing is left is looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PTY = Path(__file__).parents[2] / "bench" / "pty.py"


@pytest.mark.network
def test_everything_that_is_measured_has_a_figure_and_nothing_is_left() -> None:
    command = [sys.executable, str(PTY), "--quick", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    ours = {figure["name"]: figure["runs"]["ours"] for figure in json.loads(finished.stdout)}
    assert len(ours) == 10
    assert all(ours.values())
    assert ours["tasks left"] == ours["descriptors left"] == ours["children left"] == [0]
