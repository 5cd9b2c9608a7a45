"""Options that all commands share, and under which key a program then runs."""

import os
import subprocess
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from dmsg_trio._errors import ConfigError, IdentityError
from dmsg_trio._identity import Cost, create_identity
from dmsg_trio._keys import SecretKey
from dmsg_trio.cli._options import (
    HERE,
    AsJson,
    Discovery,
    KeyOptions,
    Level,
    LogOptions,
    PassphraseOptions,
    spread,
)
from dmsg_trio.cli._run import program
from tests.cli.running import DMSG, dmsg, environment

SK = SecretKey(bytes([5]) * 32)
SECRET = SK.reveal().hex()
OTHER = SecretKey(bytes([6]) * 32)
CHEAP = Cost(passes=1, memory=8192)


@pytest.fixture(autouse=True)
def _no_key_of_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DMSG_")]:
        monkeypatch.delenv(name)


# ---- groups of options ----

app = program()
seen: list[object] = []


@app.command()
@spread
def command(
    pk: Annotated[str, typer.Argument()],
    keys: KeyOptions,
    log: LogOptions,
    discovery: Discovery = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Do something."""
    seen[:] = [pk, keys, log, discovery, as_json]


def seen_after(*arguments: str) -> list[object]:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return seen


def test_a_group_is_one_value_of_many_options() -> None:
    assert seen_after("02ab") == ["02ab", KeyOptions(), LogOptions(), HERE, False]
    assert seen_after(
        "02ab", "--json", "--key-fd", "5", "--discovery", "http://d", "--log-level", "error"
    ) == ["02ab", KeyOptions(key_fd=5), LogOptions(log_level="error"), "http://d", True]  # type: ignore[arg-type]


def test_the_discovery_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMSG_DISCOVERY", "http://e")
    assert seen_after("02ab")[3] == "http://e"
    assert seen_after("02ab", "--discovery", "http://d")[3] == "http://d"


def test_the_help_lists_the_options_and_shows_no_secret() -> None:
    result = CliRunner().invoke(app, ["--help"], env={"DMSG_SK": SECRET})
    for option in ("--key-file", "--key-fd", "--key-stdin", "--key-env", "--passphrase-file"):
        assert option in result.output
    assert SECRET not in result.output


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("fatal", "error"), ("panic", "error"), ("warn", "warning"), ("trace", "debug")],
)
def test_a_level_may_be_called_as_in_the_reference(theirs: str, ours: str) -> None:
    assert Level.of_reference(theirs) is Level(ours) is Level.of_reference(ours)
    with pytest.raises(ConfigError, match="--loglvl: debug, info, warning or error, not 'loud'"):
        Level.of_reference("loud")


def test_a_command_keeps_its_name_and_its_help() -> None:
    assert command.__name__ == "command"
    assert "Do something." in CliRunner().invoke(app, ["--help"]).output


# ---- keys ----


def pipe_with(content: str) -> int:
    near, far = os.pipe()
    os.write(far, content.encode())
    os.close(far)
    return near


def test_without_a_source_there_is_no_key() -> None:
    assert KeyOptions().secret_key() is None


def test_a_key_comes_from_a_file(tmp_path: Path) -> None:
    create_identity(tmp_path / "id", SK)
    assert KeyOptions(key_file=tmp_path / "id").secret_key() == SK


def test_a_key_comes_from_a_descriptor() -> None:
    fd = pipe_with(SECRET + "\n")
    assert KeyOptions(key_fd=fd).secret_key() == SK
    os.close(fd)


def test_a_sealed_key_comes_from_a_file_with_its_passphrase_from_a_descriptor(
    tmp_path: Path,
) -> None:
    create_identity(tmp_path / "id", SK, passphrase="open sesame", cost=CHEAP)
    fd = pipe_with("open sesame\n")
    options = KeyOptions(key_file=tmp_path / "id", passphrase_fd=fd)
    assert options.secret_key() == SK
    os.close(fd)


def test_a_key_comes_from_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for options in (KeyOptions(key_stdin=True), KeyOptions(key_file=Path("-"))):
        with standard_input(SECRET):
            assert options.secret_key() == SK


class standard_input:  # noqa: N801 - reads as a statement
    """Put a pipe in the place of file descriptor 0 for a block."""

    def __init__(self, content: str) -> None:
        self._near = pipe_with(content)

    def __enter__(self) -> None:
        self._before = os.dup(0)
        os.dup2(self._near, 0)

    def __exit__(self, *_: object) -> None:
        os.dup2(self._before, 0)
        os.close(self._before)
        os.close(self._near)


def test_a_terminal_would_show_the_key() -> None:
    ours, its = os.openpty()
    before = os.dup(0)
    os.dup2(its, 0)
    try:
        with pytest.raises(IdentityError, match="a terminal, which would show the key"):
            KeyOptions(key_stdin=True).secret_key()
    finally:
        os.dup2(before, 0)
        for fd in (before, ours, its):
            os.close(fd)


def test_a_key_comes_from_the_environment_and_does_not_stay_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DMSG_SK", SECRET)
    assert KeyOptions().secret_key() == SK
    assert "DMSG_SK" not in os.environ


def test_a_variable_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMSG_SK", SECRET)
    monkeypatch.setenv("SERVER_KEY", OTHER.reveal().hex())
    assert KeyOptions(key_env="SERVER_KEY").secret_key() == OTHER
    with pytest.raises(ConfigError, match=r"^--key-env: the variable SERVER_KEY is not set$"):
        KeyOptions(key_env="SERVER_KEY").secret_key()


def test_a_named_source_counts_more_than_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    create_identity(tmp_path / "id", SK)
    monkeypatch.setenv("DMSG_SK", OTHER.reveal().hex())
    assert KeyOptions(key_file=tmp_path / "id").secret_key() == SK


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", "variable DMSG_SK: empty"),
        (SECRET[:-1], "variable DMSG_SK: a secret key is 64 hex digits, not 63"),
        ("0" * 64, "variable DMSG_SK: not a secret key of secp256k1: zero or too large"),
        ("\udcff", "variable DMSG_SK: neither JSON nor hex digits: byte 0 is no text"),
    ],
)
def test_a_wrong_key_in_the_environment_is_never_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch, value: str, fault: str
) -> None:
    monkeypatch.setenv("DMSG_SK", value)
    with pytest.raises(IdentityError) as caught:
        KeyOptions().secret_key()
    assert str(caught.value) == fault


def test_two_sources_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^one key is enough, but --key-file and --key-fd name"):
        KeyOptions(key_file=tmp_path, key_fd=3).secret_key()


def test_a_key_is_never_an_argument() -> None:
    done = subprocess.run(
        [DMSG, "ping", "--sk", SECRET], env=environment(), capture_output=True, check=False
    )
    assert done.returncode == 2
    assert SECRET.encode() not in done.stdout + done.stderr


def test_a_descriptor_that_is_not_open_is_named() -> None:
    with pytest.raises(IdentityError, match=r"^cannot read file descriptor 999: Bad file"):
        KeyOptions(key_fd=999).secret_key()
    with pytest.raises(IdentityError, match=r"^cannot read file descriptor 999: Bad file"):
        PassphraseOptions(passphrase_fd=999).passphrase()


@pytest.mark.parametrize(
    ("command", "variable"),
    [("server start none.json", "DMSG_SERVER_AUTH"), ("discovery", "DMSG_DISCOVERY_AUTH")],
)
async def test_a_passphrase_on_the_command_line_is_refused_and_not_repeated(
    command: str, variable: str
) -> None:
    done = await dmsg(*command.split(), "--auth", "open-sesame")
    assert (done.code, done.out) == (1, b"")
    assert done.err.startswith("error: --auth: everybody on this machine can read a command line")
    assert variable in done.err
    assert "open-sesame" not in done.err
