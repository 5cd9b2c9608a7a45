"""dmsgpty-host's options and `confgen`: what they lead to, and what they refuse."""

from __future__ import annotations

import json
import os
import pwd
import signal
import stat
import sys
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest
import trio
from typer.testing import CliRunner

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import SecretKey
from dmsg_trio.apps.pty.host._allow import AllowList
from dmsg_trio.apps.pty.host._audit import Audit
from dmsg_trio.apps.pty.host._config import HostConfig, HostOptions, host_config
from dmsg_trio.apps.pty.host._sources import DISCOVERY, from_file
from dmsg_trio.cli import _pty_host_run, dmsgpty_host
from dmsg_trio.cli._options import HERE
from dmsg_trio.client import Client
from tests.waiting import PATIENCE, hearing

KEY = SecretKey(b"\x06" * 32)
A, B = (SecretKey(bytes([n]) * 32).pk for n in (1, 2))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run where nothing is, under an environment that says nothing."""
    for name in [name for name in os.environ if name.startswith("DMSG")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("dmsg_trio.cli._options.set_up_logging", lambda *_, **__: None)
    return tmp_path


def write(path: Path, **settings: object) -> None:
    path.touch(mode=0o600)
    path.write_text(json.dumps({"sk": KEY.reveal().hex(), **settings}))


def output(*arguments: str, stdin: bytes = b"") -> str:
    result = CliRunner().invoke(
        dmsgpty_host.app, list(arguments), input=stdin, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def refusal(*arguments: str, stdin: bytes = b"") -> str:
    with pytest.raises(ConfigError) as caught:
        output(*arguments, stdin=stdin)
    return str(caught.value)


class Start(Protocol):
    """Runs the program up to the point where it would be a host."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> HostConfig: ...


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Give the configuration that the program would run with."""

    def start(*arguments: str, stdin: bytes = b"") -> HostConfig:
        configs: list[HostConfig] = []

        def run(serve: partial[object], *, service: bool) -> None:
            assert service
            configs.extend(serve.args)

        monkeypatch.setattr(dmsgpty_host, "run", run)
        output(*arguments, stdin=stdin)
        (config,) = configs
        return config

    return start


# ---- confgen ----


def test_a_new_file_is_for_its_owner_alone_and_its_public_key_is_told() -> None:
    told = output("confgen")
    path = Path("config.json")
    assert stat.filemode(path.stat().st_mode) == "-rw-------"
    config = host_config([from_file(path)])
    assert told == f"{config.secret_key.pk}\n"
    assert config.warnings == ()
    assert AllowList(path).keys == ()


def test_a_file_is_overwritten_only_if_that_is_asked_for(folder: Path) -> None:
    path = folder / "a.json"
    path.write_text("{}")
    assert "--unsafe" in refusal("confgen", str(path))
    assert path.read_text() == "{}"
    told = output("confgen", str(path), "--unsafe")
    assert json.loads(path.read_text())["pk"] == told.strip()
    assert stat.filemode(path.stat().st_mode) == "-rw-------"
    assert list(folder.iterdir()) == [path]


def test_variables_count_for_a_new_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_DMSGPORT", "2022")
    output("confgen", "--envprefix", "X")
    assert json.loads(Path("config.json").read_text())["dmsgport"] == 2022


def test_a_folder_that_is_not_there_is_said() -> None:
    for option in ((), ("--unsafe",)):
        assert "none/a.json: No such file" in refusal("confgen", "none/a.json", *option)


# ---- what a host runs with ----


def test_the_file_of_the_folder_is_read(folder: Path, started: Start) -> None:
    write(folder / "config.json", dmsgport=2022)
    config = started()
    assert config.secret_key == KEY
    assert config.options.port == 2022
    assert config.allow_file == Path("config.json")


def test_arguments_with_a_slash_work(folder: Path, started: Start) -> None:
    """The reference ends without a word where it sees one."""
    (folder / "sub").mkdir()
    write(folder / "sub" / "x.json", dmsgport=2022)
    config = started("-c", "./sub/x.json", "--dmsgdisc", "http://a.test", "--cliaddr", "/tmp/x")
    assert config.options.port == 2022
    assert config.discovery == "http://a.test"
    assert config.options.address == "/tmp/x"


def test_flags_count_over_variables_over_the_file_over_standard_input(
    folder: Path, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = json.dumps({"dmsgport": 1, "dmsgsessions": 5}).encode()
    start = partial(started, "--confstdin", stdin=stdin)
    with pytest.raises(ConfigError, match="no secret key"):
        start()
    write(folder / "config.json")
    assert (start().options.port, start().min_sessions) == (1, 5)
    write(folder / "config.json", dmsgport=2)
    assert (start().options.port, start().min_sessions) == (2, 5)
    monkeypatch.setenv("DMSGPTY_DMSGPORT", "3")
    assert start().options.port == 3
    assert start("--dmsgport", "4").options.port == 4
    assert start("--dmsgport", "22").options.port == 3
    monkeypatch.setenv("X_DMSGPORT", "6")
    assert start("--envprefix", "X").options.port == 6


def test_without_a_file_all_comes_from_elsewhere(
    started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMSG_SK", KEY.reveal().hex())
    config = started()
    assert config.secret_key == KEY
    assert config.allow_file == Path("config.json")  # made when the first key is added
    monkeypatch.setenv("DMSG_SK", KEY.reveal().hex())
    stdin = json.dumps({"wl": [str(A)]}).encode()
    config = started("-c", "", "--confstdin", stdin=stdin)
    assert config.allow_file is None
    assert config.allowed == (A,)


@pytest.mark.parametrize(
    "options",
    [("--allow", str(A), "--allow", str(B)), ("--wl", f"{A},{B}"), ("--allow", f" {A} , {B}, ")],
)
def test_keys_are_allowed_by_option(folder: Path, started: Start, options: tuple[str, ...]) -> None:
    write(folder / "config.json")
    assert started(*options).allowed == (A, B)


def test_options_of_ours_reach_the_host(folder: Path, started: Start) -> None:
    write(folder / "config.json")
    me = pwd.getpwuid(os.geteuid()).pw_name
    config = started(
        "--user", me, "--no-new-privileges", "--shell", "/bin/sh", "--audit-log", "/a/b"
    )
    assert config.options.user == me
    assert config.options.no_new_privileges
    assert config.options.shell == "/bin/sh"
    assert config.audit_log == Path("/a/b")


# ---- what is refused ----


def test_without_a_key_it_says_how_to_get_one() -> None:
    assert "'dmsgpty-host confgen' makes a file" in refusal()


def test_a_file_that_was_named_must_be_there() -> None:
    assert refusal("-c", "other.json").startswith("cannot read other.json: No such file")


def test_standard_input_gives_one_thing() -> None:
    for key in ("--key-stdin", "--key-file=-"):
        assert "cannot be both" in refusal("--confstdin", key)


def test_wrong_options_are_named(folder: Path) -> None:
    write(folder / "config.json")
    assert refusal("--allow", "02").startswith("--allow: a public key is 66 hex digits")
    assert refusal("--dmsgport", "70000") == "--dmsgport: Expected `int` <= 65535"
    assert refusal("--clinet", "udp").startswith("--clinet: 'unix' or 'tcp'")


def test_only_root_runs_shells_of_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "config.json")
    monkeypatch.setattr("dmsg_trio.cli.dmsgpty_host.os.geteuid", lambda: 4_000_000)
    assert refusal("--user", "root") == "user: only root can run shells as root"


# ---- while it runs ----


class FakeHost:
    """What stands for a host here: it only waits, and remembers whom it would let in."""

    def __init__(self) -> None:
        self.allow = AllowList()
        self.has_ended = False
        self._drain_wanted = trio.Event()

    def made(
        self, _client: Client, _options: HostOptions, allow: AllowList, _audit: Audit
    ) -> FakeHost:
        self.allow = allow
        return self

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await self._drain_wanted.wait()
        self.has_ended = True

    def drain(self) -> None:
        self._drain_wanted.set()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    host = FakeHost()
    monkeypatch.setattr(_pty_host_run, "PtyHost", host.made)
    return host


class Printed:
    """Standard output, for who waits for it."""

    def __init__(self) -> None:
        self.text = ""
        self.came = trio.Event()

    def write(self, text: str) -> None:
        self.text += text
        self.came.set()

    def flush(self) -> None:
        pass


def a_config(path: Path) -> HostConfig:
    return HostConfig(secret_key=KEY, discovery="http://127.0.0.1:1", allow_file=path)


async def test_a_hangup_reads_the_allow_list_again(
    folder: Path, host: FakeHost, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "config.json")
    printed = Printed()
    monkeypatch.setattr(sys, "stdout", printed)
    with hearing("dmsg_trio.pty") as log:
        nursery.start_soon(_pty_host_run.serve, a_config(folder / "config.json"))
        await printed.came.wait()
        assert "allowed nobody" in printed.text
        write(folder / "config.json", wl=[str(A)])
        os.kill(os.getpid(), signal.SIGHUP)
        await log.said("SIGHUP: 1 keys may enter")
    assert A in host.allow
    assert not host.has_ended


async def test_it_ends_with_the_terminal_that_it_was_started_at(
    folder: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = Printed()
    monkeypatch.setattr(sys, "stdout", printed)
    monkeypatch.setattr(_pty_host_run, "has_terminal", lambda: not printed.came.is_set())
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pty_host_run.serve, a_config(folder / "config.json"))
            await printed.came.wait()
            os.kill(os.getpid(), signal.SIGHUP)
    assert host.has_ended


# ---- what it says ----


def test_it_says_how_to_get_in_and_that_nobody_may() -> None:
    config = HostConfig(
        secret_key=KEY,
        options=HostOptions(port=2022, address="/run/x.sock"),
        allow_file=Path("a.json"),
    )
    said = _pty_host_run.welcome(config, ())
    way = f"--key-file FILE --discovery {DISCOVERY}"
    assert f"enter   dmsgpty-cli {way} {KEY.pk}:2022\n" in said
    assert "socket  /run/x.sock" in said
    assert "allowed nobody" in said
    assert "dmsgpty-cli whitelist-add PK" in said
    assert '"wl" in a.json' in said
    assert KEY.reveal().hex() not in said


def test_what_the_client_takes_by_itself_need_not_be_typed() -> None:
    said = _pty_host_run.welcome(HostConfig(secret_key=KEY, discovery=HERE), (A, B))
    assert f"enter   dmsgpty-cli --key-file FILE {KEY.pk}\n" in said
    assert said.endswith("allowed 2 keys")
