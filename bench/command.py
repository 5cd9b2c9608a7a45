"""The command: choose measurements, run them, print one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from rich.console import Console
from rich.table import Table

from bench.across import across, fail_over
from bench.figures import ALL_REFERENCE, BARE, ONE_SERVER, OURS, PLAIN, REFERENCE, Figure
from bench.measurements import MEASUREMENTS as BASIC
from bench.measurements import QUICK, Measurement, Scale, Scene
from bench.processes import open_stage
from bench.reference import VARIABLE

S = TypeVar("S")

MEASUREMENTS: Final[dict[str, Measurement]] = BASIC | {"across": across, "fail-over": fail_over}
OTHERS: Final = (REFERENCE, ALL_REFERENCE, PLAIN, ONE_SERVER, BARE)


def main() -> int:
    """Run ``python bench``."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure, as ratios within one run.")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it run?")
    parser.add_argument(
        "--only",
        action="append",
        choices=MEASUREMENTS,
        metavar="NAME",
        help=", ".join(MEASUREMENTS),
    )
    parser.add_argument("--json", action="store_true", help="print all runs as JSON instead")
    arguments = parser.parse_args()
    # As an exception, so that nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    figures = run(arguments.only or list(MEASUREMENTS), QUICK if arguments.quick else Scale())
    if arguments.json:
        print_json(figures)
    else:
        print_table(figures)
        print_what_is_missing()
    if arguments.quick:
        print("quick: this shows that everything runs; the figures mean little", file=sys.stderr)
    return 0


def run(names: list[str], scale: Scale) -> list[Figure]:
    """Take measurements in turn."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch, open_stage() as stage:
        scene = Scene(stage, Path(scratch), scale)
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            found = MEASUREMENTS[name](scene)
            for figure in found:
                runs = ", ".join(f"{who} {shown(figure.value(who))}" for who in figure.runs)
                print(f"    {figure.name}, {figure.unit}: {runs}", file=sys.stderr, flush=True)
            figures += found
    return figures


# ---- what the other commands share ----


def arguments_of(program: str, what: str, names: Iterable[str]) -> argparse.Namespace:
    """Read the command line of ``program``, which measures ``what``."""
    parser = argparse.ArgumentParser(prog=program, description=f"Measure {what}.")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it run?")
    parser.add_argument("--only", action="append", choices=list(names), help="one measurement")
    parser.add_argument("--json", action="store_true", help="print all runs as JSON instead")
    return parser.parse_args()


def take_and_print(
    arguments: argparse.Namespace,
    measurements: Mapping[str, Callable[[S], list[Figure]]],
    scene: Callable[[], S],
) -> None:
    """Take the measurements that were named, or all of them, each in what ``scene`` gives."""
    figures: list[Figure] = []
    for name in arguments.only or measurements:
        print(f"{name} …", file=sys.stderr, flush=True)
        figures += measurements[name](scene())
    (print_json if arguments.json else print_table)(figures)


# ---- printing ----


def print_json(figures: list[Figure]) -> None:
    """Print everything that was measured."""
    document = [
        {
            "name": figure.name,
            "unit": figure.unit,
            "runs": figure.runs,
            "target": str(figure.target) if figure.target else None,
            "met": figure.met,
        }
        for figure in figures
    ]
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(figures: list[Figure]) -> None:
    """Print medians, and ratios of neighbouring runs."""
    subjects = [name for name in OTHERS if any(figure.runs.get(name) for figure in figures)]
    table = Table(
        title=f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}"
    )
    table.add_column("")
    table.add_column(OURS, justify="right")
    for subject in subjects:
        table.add_column(subject, justify="right")
        table.add_column("ours ÷", justify="right", style="bold")
    table.add_column("target")
    for figure in figures:
        cells = [f"{figure.name}, {figure.unit}", shown(figure.value(OURS))]
        for subject in subjects:
            cells += [shown(figure.value(subject)), shown(figure.ratio(subject))]
        table.add_row(*cells, f"{verdict(figure)} {figure.target or ''}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)


def print_what_is_missing() -> None:
    """Say what was not there to be measured."""
    if not os.environ.get(VARIABLE):
        print(f"{VARIABLE} is not set: nothing of the reference was measured")
    if not shutil.which("socat"):
        print("there is no socat: plain TCP went through a relay in Python")


def shown(number: float | None) -> str:
    """Three digits that mean something."""
    if number is None:
        return ""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"


def verdict(figure: Figure) -> str:
    """A mark that says whether the target is met."""
    return {True: "✓", False: "✗", None: ""}[figure.met]
