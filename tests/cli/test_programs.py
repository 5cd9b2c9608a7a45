"""Launchers, console scripts, commands and modules stay in step, and start fast."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import cast

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command

from dmsg_trio._keys import SecretKey
from dmsg_trio.cli import dmsg, pty
from tests.cli.running import DMSG, environment
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
SCRIPTS = cast(
    "dict[str, str]", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
)
MODULES = {path.stem for path in (ROOT / "dmsg_trio" / "cli").glob("[!_]*.py")}
TABLE: dict[tuple[str, ...], tuple[str, str]] = {
    **{(name,): line for name, line in dmsg.COMMANDS.items()},
    **{("pty", name): line for name, line in pty.COMMANDS.items()},
}

# What takes long to import, and is of no use for a line of help.
AT_WORK = {"trio", "anyio", "asyncio", "httpx", "ssl", "starlette", "hypercorn", "cryptography"}
SLOW = {*AT_WORK, "pydantic", "rich", "importlib.metadata"}
KEYS = {"nacl", "coincurve"}  # what options are made of


def output(*command: str) -> str:
    done = subprocess.run(command, env=environment(), capture_output=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_each_console_script_has_a_launcher_and_a_readme() -> None:
    folders = {path.name for path in (ROOT / "cmd").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == set(SCRIPTS)
    for name in SCRIPTS:
        assert (ROOT / "cmd" / name / "README.md").read_text().startswith(f"# {name}\n")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_launcher_calls_what_the_console_script_calls(name: str) -> None:
    module, _, function = SCRIPTS[name].partition(":")
    assert (ROOT / "cmd" / name / "__main__.py").read_text() == (
        f'"""``python cmd/{name}`` is the program {name}."""\n\n'
        f"from {module} import {function}\n\n{function}()\n"
    )
    assert module == f"dmsg_trio.cli.{name.replace('-', '_')}"
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_launcher_shows_the_same_help_as_the_installed_program(name: str) -> None:
    launched = output(sys.executable, f"cmd/{name}", "--help")
    installed = output(str(Path(sys.executable).with_name(name)), "--help")
    assert launched.partition("\n")[2] == installed.partition("\n")[2]


def test_the_folder_of_the_programs_is_no_package() -> None:
    assert not (ROOT / "cmd" / "__init__.py").exists()
    import cmd

    assert hasattr(cmd, "Cmd")


def test_each_module_is_a_command_and_each_command_a_module() -> None:
    assert {module for module, _ in TABLE.values()} == MODULES - {"dmsg"}
    assert set(dmsg.ALIASES.values()) <= set(dmsg.COMMANDS)


@pytest.mark.parametrize("words", TABLE, ids=" ".join)
def test_a_command_is_a_typer_app_with_a_help(words: tuple[str, ...]) -> None:
    app = import_module(f"dmsg_trio.cli.{TABLE[words][0]}").app
    assert isinstance(app, typer.Typer)
    assert get_command(app).help
    assert f"Usage: {' '.join(('dmsg', *words))} " in output(DMSG, *words, "--help")


def test_the_help_lists_each_command_with_its_line() -> None:
    for group in (), ("pty",):
        shown = output(DMSG, *group, "--help")
        for words, (_, line) in TABLE.items():
            if words[:-1] == group:
                assert f"  {words[-1]} " in shown
                assert line in shown
        assert "disc " not in shown


def test_an_alias_is_the_command_itself() -> None:
    assert "Usage: dmsg disc " in output(DMSG, "disc", "--help")


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert output(DMSG, "--version") == f"dmsg_trio {project['version']}\n"
    for name in SCRIPTS:
        assert output(str(Path(sys.executable).with_name(name)), "--version").endswith(
            f" {project['version']}\n"
        )


def imported(*words: str) -> set[str]:
    """Tell all modules that `dmsg` has imported when it has done what these words say."""
    code = (
        "import json, sys\n"
        "from dmsg_trio.cli.dmsg import main\n"
        f"sys.argv = ['dmsg', *{words}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(json.dumps(list(sys.modules)))"
    )
    return set(json.loads(output(sys.executable, "-c", code).splitlines()[-1]))


@pytest.mark.parametrize("group", [(), ("pty",)], ids=lambda group: " ".join(("dmsg", *group)))
def test_the_help_of_a_group_waits_for_nothing_that_takes_long(group: tuple[str, ...]) -> None:
    assert (SLOW | KEYS) & imported(*group, "--help") == set()


@pytest.mark.parametrize("words", TABLE, ids=" ".join)
def test_the_help_of_a_command_waits_for_nothing_that_takes_long(words: tuple[str, ...]) -> None:
    assert SLOW & imported(*words, "--help") == set()


def test_a_command_waits_for_no_more_than_it_needs() -> None:
    nobody = f"dmsg://{SecretKey.generate().pk}/"
    nowhere = f"http://127.0.0.1:{free_port()}"
    modules = imported("curl", "-sS", "--connect-timeout", "0.5", "-c", nowhere, nobody)
    assert {"trio", "httpx", "httpcore"} <= modules
    assert {"pydantic", "rich", "h2", "hypercorn", "starlette"} & modules == set()


@pytest.mark.parametrize("words", TABLE, ids=" ".join)
def test_an_option_that_is_not_there_is_refused_as_fast(words: tuple[str, ...]) -> None:
    assert SLOW & imported(*words, "--fly") == set()


def subcommands() -> Iterator[tuple[str, ...]]:
    """Name all commands of commands."""
    for words, (module, _) in TABLE.items():
        command = get_command(import_module(f"dmsg_trio.cli.{module}").app)
        if isinstance(command, TyperGroup):
            yield from ((*words, name) for name in command.commands)


@pytest.mark.parametrize("words", list(subcommands()), ids=" ".join)
def test_the_help_of_a_commands_command_waits_for_nothing_that_takes_long(
    words: tuple[str, ...],
) -> None:
    assert SLOW & imported(*words, "--help") == set()


@pytest.mark.parametrize("words", [("curl",), ("http",), ("server",), ("pty", "cli")], ids=" ".join)
def test_the_version_is_told_without_what_takes_long(words: tuple[str, ...]) -> None:
    assert SLOW & imported(*words, "--version") == {"importlib.metadata"}  # which knows it


def test_a_command_that_is_not_there_is_wrong_usage() -> None:
    for group in (), ("pty",):
        command = [DMSG, *group, "fly"]
        done = subprocess.run(command, env=environment(), capture_output=True, check=False)
        assert done.returncode == 2
        assert b"No such command 'fly'" in done.stderr
