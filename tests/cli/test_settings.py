"""What options are when the command line does not say: flags over variables over the file."""

# ruff: noqa: ASYNC240 - a test may wait for a small file

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer._click import Command
from typer.main import get_command

from dmsg_trio._errors import ConfigError
from dmsg_trio.cli._settings import prepare
from tests.cli.running import dmsg, network

app = typer.Typer()
seen: dict[str, object] = {}


@app.command()
def greet(
    *,
    discovery: str = "nowhere",
    times: int = 1,
    key_file: Path | None = None,
    loud: bool = False,
    names: Annotated[list[str] | None, typer.Option("--name", "-n")] = None,
    connect: Annotated[float, typer.Option("--connect-timeout", envvar="GREET_CONNECT")] = 1.0,
    secret: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    seen.update(locals())


@pytest.fixture
def command() -> Command:
    seen.clear()
    return get_command(app)


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "dmsg" / "config.toml"
    path.parent.mkdir()
    return path


def call(command: Command, *words: str) -> dict[str, object]:
    prepare(command, ("ping",), words)
    command.main(list(words), standalone_mode=False)
    return seen


def refusal(command: Command) -> str:
    with pytest.raises(ConfigError) as caught:
        prepare(command, ("ping",), ())
    return str(caught.value)


def test_without_a_file_and_variables_the_defaults_hold(command: Command) -> None:
    assert call(command)["times"] == 1


def test_the_file_stands_in_for_what_was_not_said(command: Command, file: Path) -> None:
    file.write_text(
        'discovery = "http://d"\n[ping]\ntimes = 3\nloud = true\nname = ["a", "b c"]\n'
        "connect_timeout = 0.5\nkey-file = '/k'\n"
    )
    assert call(command) == {
        "discovery": "http://d",
        "times": 3,
        "loud": True,
        "names": ["a", "b c"],
        "connect": 0.5,
        "key_file": Path("/k"),
        "secret": "",
    }


def test_a_variable_counts_more_than_the_file_and_a_flag_more_than_both(
    command: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[ping]\ntimes = 3\nconnect-timeout = 3\nloud = true\n")
    monkeypatch.setenv("DMSG_PING_TIMES", "4")
    monkeypatch.setenv("GREET_CONNECT", "4")  # the name of its own that the option has
    found = call(command, "--connect-timeout", "5")
    assert (found["times"], found["connect"], found["loud"]) == (4, 5, True)
    assert call(command, "--times", "6", "--no-loud") | {"times": 6, "loud": False} == seen


def test_who_asks_for_help_gets_it_whatever_the_file_says(
    command: Command, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("[pign]\n")
    call(command, "--help")
    assert "--times" in capsys.readouterr().out
    assert "is 'ping' meant?" in refusal(command)


def test_a_value_of_the_table_counts_more_than_the_common_one(command: Command, file: Path) -> None:
    file.write_text('discovery = "a"\n[ping]\ndiscovery = "b"\n')
    assert call(command)["discovery"] == "b"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[ping]\ntime = 1", "[ping] unknown setting 'time', is 'times' meant?"),
        ("[ping]\nsecret = 'x'", "[ping] unknown setting 'secret'"),
        ("[pong]\ntimes = 1", "[pong]: unknown setting 'pong', is 'ping' meant?"),
        ("times = 1", "unknown setting 'times'; what is for one command is in its table"),
        ("[ping]\ntimes = 'x'", "ping.times: "),
        ("[ping]\ntimes = [1]", "ping.times: one value is wanted"),
        ("[ping]\ntimes = true", "ping.times: a text or a number is wanted"),
        ("[ping]\nloud = 1", "ping.loud: true or false is wanted"),
        ("[ping]\nname = [[]]", "ping.name: one value is wanted"),
        ("ping = 1", "unknown setting 'ping'; what is for one command is in its table"),
        ("[ping", "Expected ']'"),
        ("a = " + "[" * 5000, "recursion"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    command: Command, file: Path, text: str, complaint: str
) -> None:
    file.write_text(text)
    said = refusal(command)
    assert said.startswith(f"{file}: ")
    assert complaint in said


def test_a_word_where_a_table_belongs_is_named(command: Command, file: Path) -> None:
    file.write_text("[pty]\nhost = 1\n")
    with pytest.raises(ConfigError, match=r"pty.host is a table: \[pty.host\]"):
        prepare(command, ("pty", "host"), ())


def test_bytes_that_are_no_text_and_files_without_end_are_refused(
    command: Command, file: Path
) -> None:
    file.write_bytes(b"\xff")
    assert "can't decode" in refusal(command)
    file.write_bytes(b"#" * (1 << 21))
    assert "larger than" in refusal(command)


def test_a_file_that_was_named_has_to_be_there(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMSG_CONFIG", str(tmp_path / "none.toml"))
    assert refusal(command).startswith("DMSG_CONFIG: ")


@pytest.mark.network
async def test_programs_and_the_commands_of_dmsg_read_the_same(file: Path) -> None:
    async with network("--servers", "2") as up:
        file.write_text(f'discovery = "{up.ready.discovery}"\n[ip]\nall = true\n')
        env = {"DMSG_CONFIG": str(file)}
        done = await dmsg("ip", env=env)
        overruled = await dmsg("ip", env={**env, "DMSG_IP_ALL": "0"})
    assert (done.code, len(done.lines)) == (0, 2)
    assert overruled.lines == ["127.0.0.1"]


def test_a_password_in_a_file_that_others_can_read_is_refused_and_not_repeated(file: Path) -> None:
    app = typer.Typer()

    @app.command()
    def fetch(
        *,
        proxy: str = "",
        user: str = "",
        header: Annotated[list[str] | None, typer.Option()] = None,
    ) -> None: ...

    command = get_command(app)
    for secret in (
        'proxy = "http://me:hunter2@there:1"',
        'proxy = "me:hunter2@there:1"',
        'user = "me:hunter2"',
        'header = ["X: y", "Authorization: Bearer hunter2"]',
    ):
        file.write_text(f"[ping]\n{secret}")
        file.chmod(0o640)
        said = refusal(command)
        assert said.startswith(f"ping.{secret.split()[0]} is a secret, and others can read {file}")
        assert said.endswith(f"chmod 600 {file}")
        assert "hunter2" not in said
        file.chmod(0o600)
        prepare(command, ("ping",), ())
    file.write_text('[ping]\nproxy = "http://there:1"\nuser = "me"\nheader = ["X: y"]')
    file.chmod(0o644)
    prepare(command, ("ping",), ())
