"""Tab: real shells that read what `dmsg completion` prints."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from dmsg_trio.cli.completion import PROGRAMS, Shell
from tests.cli.running import DMSG, environment
from tests.cli.terminals import open_terminal

ROOT: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent


ZSH: Final = """
autoload -U compinit; compinit -u -D; source <(dmsg completion zsh)
[[ $_comps[$1] == $FUNCTION ]] || print -u2 "nothing completes $1"
_arguments() { print -r -- "$@" }  # what it is told is shown, not what it makes of that
_files() { print '((FILES))' }
words=("$@"); CURRENT=$#; $FUNCTION
"""
FISH: Final = 'dmsg completion fish | source; complete -C "$argv"'
BASH: Final = """
source <(dmsg completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$FUNCTION "$1"; printf '%s\\n' "${COMPREPLY[@]}"
"""
OFFER_OF_ZSH: Final = re.compile(r'(?:\(\(|(?<=" ))"([^"]*)"')


def shell_says(shell: Shell, script: str, *words: str) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    options = {
        Shell.BASH: ["--norc", "-c"],
        Shell.ZSH: ["-f", "-c"],
        Shell.FISH: ["--no-config", "-c"],
    }
    name = [] if shell is Shell.FISH else [str(shell)]
    done = subprocess.run(
        [shell, *options[shell], script, *name, *words],
        env=surroundings(FUNCTION=f"_{words[0].replace('-', '_')}_completion"),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout.decode()


def surroundings(**more: str) -> dict[str, str]:
    usual = environment()
    return {**usual, "PATH": f"{BIN}:{usual['PATH']}", **more}


def completed(shell: Shell, *words: str) -> set[str]:
    """Let a shell complete the last word."""
    match shell:
        case Shell.BASH:
            return set(shell_says(shell, BASH, *words).split())
        case Shell.ZSH:
            return set(OFFER_OF_ZSH.findall(shell_says(shell, ZSH, *words)))
        case Shell.FISH:
            lines = shell_says(shell, FISH, *words).splitlines()
            return {line.partition("\t")[0] for line in lines}


each_shell = pytest.mark.parametrize("shell", Shell)


def test_all_programs_are_known() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(PROGRAMS) == set(scripts)


@each_shell
def test_commands_are_completed(shell: Shell) -> None:
    assert completed(shell, "dmsg", "p") == {"ping", "pty"}
    assert completed(shell, "dmsg", "pty", "") == {"host", "cli", "ui"}
    assert completed(shell, "dmsg-server", "c") == {"config"}


@each_shell
def test_options_are_completed_also_of_commands_of_commands(shell: Shell) -> None:
    assert "--count" in completed(shell, "dmsg", "ip", "--")
    assert completed(shell, "dmsg", "server", "start", "--conf") == {"--config"}


@each_shell
def test_what_may_be_chosen_is_completed(shell: Shell) -> None:
    assert completed(shell, "dmsg", "completion", "") == {"bash", "zsh", "fish"}
    assert completed(shell, "dmsgcurl", "--log-level", "w") == {"warning"}


@each_shell
def test_a_program_that_needs_no_command_offers_its_commands_and_its_options(shell: Shell) -> None:
    assert completed(shell, "dmsgpty-cli", "") >= {"shell", "cp", "ls", "attach", "whitelist"}
    assert completed(shell, "dmsg", "pty", "cli", "c") == {"cp"}
    assert completed(shell, "dmsgpty-cli", "--no-") == {"--no-resume", "--no-tty"}


@each_shell
@pytest.mark.parametrize("program", sorted(set(PROGRAMS) - {"dmsg"}))
def test_each_program_completes_its_options(shell: Shell, program: str) -> None:
    assert "--help" in completed(shell, program, "--h")


def test_files_are_completed_where_nothing_else_is_known() -> None:
    """Bash has `-o default` for that, which counts at a prompt alone."""
    assert completed(Shell.FISH, "dmsg", "ping", "--key-file", f"{ROOT}/pypro") == {
        f"{ROOT}/pyproject.toml"
    }
    assert shell_says(Shell.ZSH, ZSH, "dmsg", "ping", "--key-file", "") == "((FILES))\n"
    assert "complete -o default -F" in shell_says(Shell.BASH, "dmsg completion bash", "dmsg")


async def test_tab_completes_at_the_prompt_of_zsh(tmp_path: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    (tmp_path / ".zshrc").write_text(
        "PS1='ready> '; autoload -U compinit; compinit -u -D; source <(dmsg completion zsh)\n"
    )
    (tmp_path / "no-key-at-all").write_text("nothing")
    (tmp_path / "no-key-at-all").chmod(0o600)
    env = surroundings(ZDOTDIR=str(tmp_path))
    async with open_terminal(["zsh", "-i", "-d"], env) as screen:
        await screen.shows("ready> ")
        await screen.type("dmsg completion f\t\r")
        await screen.shows("complete --command dmsg ")
        await screen.shows("ready> ")
        await screen.type(f"dmsg keys sh\t{tmp_path}/no-k\t\r")
        await screen.shows("no-key-at-all: ")


@each_shell
def test_each_shell_takes_its_script(shell: Shell) -> None:
    script = subprocess.run(
        [DMSG, "completion", shell], env=environment(), capture_output=True, check=True
    ).stdout
    for program in PROGRAMS:
        assert program.encode() in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=script, check=True, env=environment())
