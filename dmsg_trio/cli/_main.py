"""Being a whole program: its settings, its completion, its exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from typer.main import get_command

from ._run import REFUSED, call
from ._settings import prepare

if TYPE_CHECKING:
    import typer
    from typer._click import Command


def main_of(app: typer.Typer, name: str, *path: str, failure: int = REFUSED) -> NoReturn:
    """Run the program ``name``, which `dmsg` has under the words of ``path``."""
    run_command(get_command(app), name, *path, failure=failure)


def run_command(command: Command, name: str, *path: str, failure: int = REFUSED) -> NoReturn:
    """Run a command as the program ``name``."""

    def do() -> None:
        if f"_{name}_COMPLETE".replace("-", "_").upper() in os.environ:
            from typer._completion_classes import completion_init

            completion_init()
        else:
            prepare(command, path, sys.argv[1:])
        command(prog_name=name)

    call(do, failure=failure)
