"""Tab: real shells that read what `dmsg completion` prints."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from dmsg_trio.cli.completion import PROGRAMS, Shell
from tests.cli.running import DMSG, environment

ROOT: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent


def completed(*words: str) -> list[str]:
    """Let bash complete the last word."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    function = f"_{words[0].replace('-', '_')}_completion"
    line = " ".join(f"'{word}'" for word in words)
    script = (
        f'source <("{DMSG}" completion bash); COMP_WORDS=({line}); COMP_CWORD={len(words) - 1};'
        f' {function} {words[0]}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    path = {"PATH": f"{BIN}:{environment()['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**environment(), **path},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout.decode().split()


def test_all_programs_are_known() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(PROGRAMS) == set(scripts)


def test_commands_are_completed() -> None:
    assert completed("dmsg", "p") == ["ping", "pty"]
    assert completed("dmsg", "pty", "") == ["host", "cli", "ui"]


def test_options_are_completed_also_of_commands_of_commands() -> None:
    assert "--count" in completed("dmsg", "ip", "--")
    assert "--config" in completed("dmsg", "server", "start", "--")


@pytest.mark.parametrize("program", sorted(set(PROGRAMS) - {"dmsg"}))
def test_each_program_completes_its_options(program: str) -> None:
    assert "--help" in completed(program, "--h")


@pytest.mark.parametrize("shell", Shell)
def test_each_shell_takes_its_script(shell: Shell) -> None:
    script = subprocess.run(
        [DMSG, "completion", shell], env=environment(), capture_output=True, check=True
    ).stdout
    for program in PROGRAMS:
        assert program.encode() in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=script, check=True, env=environment())
