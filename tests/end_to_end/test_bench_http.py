"""The bench of HTTP runs; what it finds depends on the machine, and is not looked at here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HTTP = Path(__file__).parents[2] / "bench" / "http.py"


@pytest.mark.network
def test_everything_that_is_measured_of_http_has_a_figure() -> None:
    command = [sys.executable, str(HTTP), "--quick", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    figures = json.loads(finished.stdout)
    assert len(figures) == 14
    for figure in figures:
        assert figure["runs"]["ours"], figure["name"]
        assert all(value >= 0 for runs in figure["runs"].values() for value in runs)
