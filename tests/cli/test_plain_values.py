"""Plain values are what Typer makes of them, and what is wrong is refused as Typer does."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer._click.exceptions import ClickException
from typer.main import get_command

from dmsg_trio.cli._plain_values import take_plain_values


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def everything(
    words: Annotated[list[str] | None, typer.Argument()] = None,
    *,
    text: str = "a",
    maybe: str | None = None,
    path: Path = Path("here"),
    folder: Annotated[Path | None, typer.Option(exists=True, file_okay=False)] = None,
    paths: Annotated[list[Path], typer.Option()] = [],  # noqa: B006 - as Typer has it
    count: Annotated[int, typer.Option(min=1, max=9)] = 3,
    counts: Annotated[list[int], typer.Option(min=1)] = [],  # noqa: B006 - as Typer has it
    clamped: Annotated[int, typer.Option(min=1, max=9, clamp=True)] = 3,
    seconds: float = 30,
    pair: tuple[int, str] = (1, "one"),
    colour: Colour = Colour.RED,
    length: Annotated[int, typer.Option(parser=len)] = "",  # type: ignore[assignment]  # of the words
    verbose: Annotated[int, typer.Option("-v", count=True)] = 0,
    flag: bool = False,
) -> dict[str, object]:
    return locals()


def outcome(*args: str, plain: bool) -> object:
    """Give the values of all parameters, or what is wrong with them."""
    command = get_command(app)
    if plain:
        take_plain_values(command)
    try:
        return command.main(list(args), standalone_mode=False)
    except ClickException as error:
        return error.format_message()


LINES = [
    "",
    "one two",
    "--text b --maybe c --path there/../x --flag -vv",
    "--text= --maybe= --path .",
    "--count 9 --seconds 1.5 --counts 1 --counts 20",
    "--count 007 --seconds 12",
    "--count 0",
    "--count 10",
    "--count 1.0",
    "--count +1",
    "--count \u0663",
    "--count 1_0",
    "--count 99999999999999999999",
    "--count many",
    "--counts 1 --counts 0",
    "--counts 1 --counts x",
    "--clamped 12",
    "--clamped 0",
    "--seconds 1e1",
    "--seconds inf",
    "--seconds .5",
    "--seconds 5.",
    "--seconds soon",
    "--paths a --paths b/",
    "--folder /",
    "--folder /nowhere",
    "--folder /etc/passwd",
    "--path /",
    "--pair 1 two",
    "--pair one two",
    "--colour blue",
    "--colour green",
    "--length four",
]


@pytest.mark.parametrize("line", LINES)
def test_values_and_errors_are_those_of_typer(line: str) -> None:
    typers, ours = outcome(*line.split(), plain=False), outcome(*line.split(), plain=True)
    assert ours == typers
    if isinstance(ours, dict):
        assert isinstance(typers, dict)
        assert list(map(type, ours.values())) == list(map(type, typers.values()))
