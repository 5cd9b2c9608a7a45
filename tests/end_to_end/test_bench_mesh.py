"""The simulation of large networks runs, here with a small one."""

import json
import subprocess
import sys
from pathlib import Path

MESH = Path(__file__).parents[2] / "bench" / "mesh.py"


def simulated(*options: str) -> dict[str, float]:
    command = [sys.executable, str(MESH), "--json", "--servers=5", "--clients=10", "--dials=4"]
    command += ["--quiet-minutes=0.5", "--minutes=0.5", "--churn=80", *options]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    figures: dict[str, float] = json.loads(finished.stdout)
    return figures


def test_a_small_network_is_whole_quiet_and_then_loses_servers() -> None:
    figures = simulated()
    assert figures["links"] == figures["mesh, links: connections"] == 5 * 4 / 2
    assert figures["quiet, sessions: connections"] == 0
    assert 0 < figures["quiet, links: kB"] < 10, "pings only"
    assert figures["servers that left"] == 2
    assert figures["dials soon after"] > 0
    assert figures["dials otherwise"] > 0
    assert figures["dials otherwise, success %"] == 100
    assert figures["dials otherwise, p50 ms"] >= 80, "two round trips at the least"


def test_links_on_demand_are_fewer_and_do_as_well() -> None:
    figures = simulated("--on-demand")
    assert figures["links"] == figures["quiet, links: kB"] == 0
    assert 0 < figures["links at the end"] <= 5 * 4 / 2
    assert figures["dials otherwise, success %"] == 100
