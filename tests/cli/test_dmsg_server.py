"""dmsg-server's commands: what they write, and what they refuse."""

import json
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import SecretKey
from dmsg_trio.cli import dmsg_server
from dmsg_trio.server._config import load_config, parse_config

KEY = SecretKey(b"\x06" * 32)


def output(*arguments: str, stdin: bytes = b"") -> str:
    result = CliRunner().invoke(
        dmsg_server.app, list(arguments), input=stdin, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return str(result.output)


def refusal(*arguments: str, stdin: bytes = b"") -> str:
    with pytest.raises(ConfigError) as caught:
        output(*arguments, stdin=stdin)
    return str(caught.value)


# ---- config gen ----


def test_a_new_file_is_for_its_owner_alone_and_its_public_key_is_told(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    told = output("config", "gen", "-o", str(path))
    assert stat.filemode(path.stat().st_mode) == "-rw-------"
    config = load_config(path)
    assert told == f"{config.secret_key.pk}\n"
    assert config.discovery == "http://dmsgd.skywire.skycoin.com"
    assert config.warnings == ()


@pytest.mark.parametrize("option", [(), ("-o", "-")])
def test_without_a_file_all_of_it_is_printed(option: tuple[str, ...]) -> None:
    first, second = (output("config", "gen", "-t", *option) for _ in range(2))
    config = parse_config(first.encode())
    assert config.discovery == "http://dmsgd.skywire.dev"
    assert config.secret_key != parse_config(second.encode()).secret_key


def test_a_file_is_overwritten_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    path.write_text("{}")
    assert "--force" in refusal("config", "gen", "-o", str(path))
    assert path.read_text() == "{}"
    told = output("config", "gen", "-o", str(path), "--force")
    assert json.loads(path.read_text())["public_key"] == told.strip()
    assert stat.filemode(path.stat().st_mode) == "-rw-------"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    assert "exists" in refusal("config", "gen", "-o", str(link))
    assert not target.exists()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    path = tmp_path / "none" / "server.json"
    for force in ((), ("--force",)):
        assert refusal("config", "gen", "-o", str(path), *force) == (
            f"cannot create {path}: No such file or directory"
        )


# ---- start ----


@pytest.mark.parametrize(
    ("arguments", "count"),
    [((), 0), (("a", "-c", "b"), 2), (("a", "--stdin"), 2), (("-c", "a", "--stdin"), 2)],
)
def test_one_configuration_is_needed(arguments: tuple[str, ...], count: int) -> None:
    assert f"{count} are named" in refusal("start", *arguments)


def test_standard_input_gives_one_thing() -> None:
    for key in ("--key-stdin", "--key-file=-"):
        assert "cannot be both" in refusal("start", "--stdin", key)


def test_a_fault_in_standard_input_is_told_as_one_in_a_file() -> None:
    assert refusal("start", "--stdin", stdin=b'{"peers": 1}') == (
        "standard input: peers: Expected `array`, got `int`"
    )


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--listen=8081", "local_address: '8081' is not host:port"),
        ("--public-address=a.test:0", "public_address: 'a.test:0': nobody can dial port 0"),
        ("--metrics=x", "metrics_address: 'x' is not host:port"),
    ],
)
def test_options_are_checked_as_the_file_is(option: str, expected: str) -> None:
    file = {"discovery": "http://a.test", "secret_key": KEY.reveal().hex()}
    assert refusal("start", "--stdin", option, stdin=json.dumps(file).encode()) == expected


def test_the_key_in_the_environment_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = {"discovery": "http://a.test", "public_key": str(SecretKey(b"\x07" * 32).pk)}
    monkeypatch.setenv("DMSG_SK", KEY.reveal().hex())
    said = refusal("start", "--stdin", stdin=json.dumps(file).encode())
    assert said.endswith(f"but the secret key is of {KEY.pk}")


# ---- files that a process may open ----


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_as_many_files_are_allowed_as_sessions_need(limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    dmsg_server._raise_file_limit(200)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (200, hard)
    dmsg_server._raise_file_limit(150)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (200, hard)


def test_a_limit_that_is_too_low_is_said(
    limits: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    _, hard = limits
    if hard == resource.RLIM_INFINITY:
        pytest.skip("no limit here is too low")
    dmsg_server._raise_file_limit(hard + 1)
    assert f"may open {hard} files, for 'max_sessions' it needs {hard + 1}" in caplog.text
