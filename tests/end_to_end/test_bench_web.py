"""The bench of dmsgweb runs, and has a figure for all that there are programs for."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "bench" / "web.py"


@pytest.mark.network
def test_everything_that_is_measured_has_a_figure() -> None:
    command = [sys.executable, str(WEB), "--quick", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    figures = json.loads(finished.stdout)
    assert len(figures) == 3 * bool(shutil.which("chromium")) + 2 * bool(shutil.which("curl"))
    assert all(runs for figure in figures for runs in figure["runs"].values())
