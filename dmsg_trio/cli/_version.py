"""The option that shows the version."""

from __future__ import annotations

from typing import Annotated

import typer


def show_version(*, wanted: bool) -> None:
    """Show the version, and end the program."""
    if wanted:
        from importlib.metadata import version  # slow to import

        print(f"dmsg_trio {version('dmsg-trio')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", "-v", callback=show_version, is_eager=True, help="Show the version."),
]
