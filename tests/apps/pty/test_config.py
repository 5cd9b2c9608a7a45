"""The host's configuration: what counts over what, and how each wrong value is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import MAX_SETTINGS
from dmsg_trio._keys import SecretKey
from dmsg_trio.apps.pty._places import default_socket
from dmsg_trio.apps.pty.host._config import HostConfig, host_config
from dmsg_trio.apps.pty.host._sources import (
    DISCOVERY,
    Source,
    allowed_in,
    form_of_config,
    from_bytes,
    from_common_variables,
    from_environment,
    from_file,
    from_flags,
)

KEY = SecretKey(b"\x06" * 32)
OTHER = SecretKey(b"\x07" * 32)
SECRET = KEY.reveal().hex()


@pytest.fixture(autouse=True)
def temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/var/tmp/of-mine")


def file(**settings: object) -> Source:
    return from_bytes(json.dumps({"sk": SECRET, **settings}).encode(), "host.json")


def config(
    *,
    settings: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> HostConfig:
    return host_config(
        [file(**(settings or {})), from_environment(environment or {}), from_flags(flags or {})]
    )


def refusal(*sources: Source, key: SecretKey | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        host_config(list(sources), key=key)
    return str(caught.value)


# ---- what counts ----


def test_what_the_file_lacks_has_its_default() -> None:
    """The reference would take 0 for a number and nothing for a text."""
    made = config()
    assert made.secret_key == KEY
    assert made.discovery == DISCOVERY
    assert made.min_sessions == 1
    assert made.options.port == 22
    assert (made.options.network, made.options.address) == ("unix", "/var/tmp/of-mine/dmsgpty.sock")
    assert (made.options.user, made.options.shell, made.audit_log) == (None, None, None)
    assert made.warnings == ()


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_is_as_good_as_no_setting(nothing: str | None) -> None:
    names = ("dmsgdisc", "dmsgport", "clinet", "cliaddr", "wl", "pk", "user", "max_sessions")
    assert config(settings=dict.fromkeys(names, nothing)) == config()


SETTINGS = [
    ("dmsgdisc", "http://a.test", "http://b.test", "http://c.test", DISCOVERY),
    ("dmsgsessions", 2, 3, 4, 1),
    ("dmsgport", 2022, 2023, 2024, 22),
    ("cliaddr", "/tmp/a/b", "/tmp/b/c", "/tmp/c/d", "/var/tmp/of-mine/dmsgpty.sock"),
]


def value_of(made: HostConfig, name: str) -> object:
    return {
        "dmsgdisc": made.discovery,
        "dmsgsessions": made.min_sessions,
        "dmsgport": made.options.port,
        "cliaddr": made.options.address,
    }[name]


@pytest.mark.parametrize(("name", "in_file", "variable", "flag", "default"), SETTINGS)
def test_flags_count_over_variables_over_the_file_over_defaults(
    name: str, in_file: object, variable: object, flag: object, default: object
) -> None:
    settings = {name: in_file}
    environment = {f"DMSGPTY_{name.upper()}": str(variable)}
    assert value_of(config(), name) == default
    assert value_of(config(settings=settings), name) == in_file
    assert value_of(config(settings=settings, environment=environment), name) == variable
    made = config(settings=settings, environment=environment, flags={name: flag})
    assert value_of(made, name) == flag


@pytest.mark.parametrize(("name", "in_file", "variable", "flag", "default"), SETTINGS)
def test_a_flag_that_says_the_default_says_nothing(
    name: str, in_file: object, variable: object, flag: object, default: object
) -> None:
    assert value_of(config(settings={name: in_file}, flags={name: default}), name) == in_file
    assert value_of(config(settings={name: in_file}, flags={name: None}), name) == in_file


def test_the_network_of_the_socket_comes_from_each_source() -> None:
    address = {"cliaddr": "127.0.0.1:7000"}
    for made in (
        config(settings={**address, "clinet": "tcp"}),
        config(settings=address, environment={"DMSGPTY_CLINET": "tcp"}),
        config(settings=address, flags={"clinet": "tcp"}),
    ):
        assert (made.options.network, made.options.address) == ("tcp", "127.0.0.1:7000")


def test_variables_have_the_prefix_that_was_asked_for() -> None:
    environment = {"MY_DMSGPORT": "7", "DMSGPTY_DMSGPORT": "8", "DMSGPTY_SK": "never"}
    assert from_environment(environment, "MY").settings == {"dmsgport": "7"}
    assert from_environment(environment).settings == {"dmsgport": "8"}


def test_settings_of_ours_come_from_the_file_and_from_flags() -> None:
    settings: dict[str, object] = {
        "user": "root",
        "no_new_privileges": True,
        "shell": "/bin/sh",
        "max_sessions": 5,
        "max_sessions_per_key": 2,
        "idle_time": 1.5,
        "keep_time": 0,
        "audit_log": "/var/log/pty.log",
    }
    made = config(settings=settings)
    assert made == config(flags=settings)
    options = made.options
    assert (options.user, options.no_new_privileges, options.shell) == ("root", True, "/bin/sh")
    assert (options.max_sessions, options.max_sessions_per_key) == (5, 2)
    assert (options.idle_time, options.keep_time) == (1.5, 0)
    assert made.audit_log == Path("/var/log/pty.log")


@pytest.mark.parametrize("folder", ["", None])
def test_the_socket_is_in_tmp_if_nothing_names_a_folder(folder: str | None) -> None:
    environment = {} if folder is None else {"TMPDIR": folder}
    assert default_socket(environment) == "/tmp/dmsgpty.sock"
    assert default_socket({"TMPDIR": "/run/me/"}) == "/run/me/dmsgpty.sock"


# ---- what is wrong ----


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("dmsgdisc", "ftp://a", "an http:// or https:// URL, not 'ftp://a'"),
        ("dmsgdisc", "http://u:p@a", "a password in a URL would show in the logs"),
        ("dmsgdisc", "http://[", "Invalid IPv6 URL"),
        ("dmsgdisc", 1, "Expected `str`, got `int`"),
        ("dmsgsessions", -1, "Expected `int` >= 0"),
        ("dmsgport", 0, "Expected `int` >= 1"),
        ("dmsgport", 65536, "Expected `int` <= 65535"),
        ("dmsgport", "22", "Expected `int`, got `str`"),
        ("clinet", "udp", "'unix' or 'tcp', not 'udp'"),
        ("cliaddr", "/" + "a" * 103, "the path of a socket has at most 103 bytes, not 104"),
        ("cliaddr", "a\0b", "a path has no zero byte: 'a\\x00b'"),
        ("pk", "02", "a public key is 66 hex digits, not 2: '02'"),
        ("pk", str(OTHER.pk), f"{OTHER.pk}, but the secret key is of {KEY.pk}"),
        ("user", "nobody-of-this-name", "there is no user 'nobody-of-this-name'"),
        ("user", "a\0b", "embedded null byte"),
        ("shell", "sh", "a path from / on, not 'sh'"),
        ("max_sessions", 0, "Expected `int` >= 1"),
        ("idle_time", -1, "Expected `float` >= 0"),
        ("no_new_privileges", "yes", "Expected `bool`, got `str`"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(name: str, value: object, fault: str) -> None:
    said = refusal(file(**{name: value}))
    assert said.startswith(f"host.json: {name}: ")
    assert fault in said


def test_a_wrong_key_in_the_list_is_named() -> None:
    assert refusal(file(wl=[str(KEY.pk), "xyz"])).startswith("host.json: wl[1]: a public key is 66")
    assert refusal(file(wl=[1])) == "host.json: wl[0]: Expected `str`, got `int`"


def test_a_wrong_variable_or_flag_is_named() -> None:
    assert refusal(file(), from_environment({"P_DMSGPORT": "x"}, "P")) == (
        "the variable P_DMSGPORT: Expected `int`, got `str`"
    )
    assert refusal(file(), from_environment({"DMSGPTY_CLINET": "x"})).startswith(
        "the variable DMSGPTY_CLINET: 'unix' or 'tcp'"
    )
    assert refusal(file(), from_flags({"max_sessions": 0})).startswith("--max-sessions: Expected")
    assert refusal(file(dmsgport=7), from_flags({"dmsgdisc": "x"})).startswith(
        "--dmsgdisc: an http"
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "truncated"),
        (b"[]", "not a JSON object"),
        (b"\xff", "malformed"),
        (b"[" * 10**5 + b"]" * 10**5, "not a JSON object"),
        (b" " * (MAX_SETTINGS + 1), f"larger than {MAX_SETTINGS} bytes"),
    ],
)
def test_what_is_no_file_of_settings_is_said(content: bytes, fault: str) -> None:
    with pytest.raises(ConfigError, match=f"^host.json: .*{fault}"):
        from_bytes(content, "host.json")


def test_unknown_settings_are_a_warning() -> None:
    made = config(settings={"dmsgprot": 1, "a": 2})
    assert made.warnings == ("unknown settings, ignored: host.json: a, host.json: dmsgprot",)


# ---- the secret key ----


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    path.write_text(json.dumps({"sk": SECRET}))
    for mode in (0o644, 0o640, 0o620, 0o604):
        path.chmod(mode)
        with pytest.raises(ConfigError, match=r"sk: others can read .*chmod 600") as caught:
            from_file(path)
        assert SECRET not in str(caught.value)
    path.chmod(0o600)
    assert host_config([from_file(path)]).secret_key == KEY


def test_a_file_without_a_key_may_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    path.write_text(json.dumps({"dmsgport": 7}))
    path.chmod(0o644)
    assert host_config([from_file(path)], key=KEY).options.port == 7


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none.json: No such file"):
        from_file(tmp_path / "none.json")
    with pytest.raises(ConfigError, match=r"cannot read|not a regular file"):
        from_file(tmp_path)
    with pytest.raises(ConfigError, match="not a regular file; --confstdin"):
        from_file(Path("/dev/null"))


def test_a_key_may_come_from_elsewhere_but_not_another_one() -> None:
    empty = from_bytes(b"{}", "host.json")
    assert host_config([empty], key=KEY).secret_key == KEY
    assert host_config([file()], key=KEY).secret_key == KEY
    assert "no secret key" in refusal(empty)
    assert refusal(file(), key=OTHER) == (
        f"host.json: sk: of {KEY.pk}, but the key given beside it is of {OTHER.pk}"
    )


@pytest.mark.parametrize("wrong", [SECRET[:-1], SECRET[:-1] + "x", "0" * 64])
def test_a_wrong_secret_key_is_in_no_error_and_no_traceback(wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        host_config([file(sk=wrong)])
    assert str(caught.value).startswith("host.json: sk: ")
    assert wrong not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


# ---- the local socket over TCP ----


@pytest.mark.parametrize("address", ["127.0.0.1:7000", "[::1]:7000", "localhost:7000"])
def test_tcp_on_this_machine_is_a_warning(address: str) -> None:
    (warning,) = config(settings={"clinet": "tcp", "cliaddr": address}).warnings
    assert "no access control: every user of this machine" in warning


@pytest.mark.parametrize("address", [":7000", "0.0.0.0:7000", "10.0.0.1:7000", "host.test:7000"])
def test_tcp_for_others_has_to_be_asked_for(address: str) -> None:
    settings: dict[str, object] = {"clinet": "tcp", "cliaddr": address}
    assert refusal(file(**settings)).startswith(
        f"host.json: cliaddr: whoever can connect to {address} would have a shell"
    )
    (warning,) = config(settings={**settings, "tcp_anywhere": True}).warnings
    assert "everybody who reaches it" in warning


def test_tcp_needs_an_address() -> None:
    assert "is not host:port" in refusal(file(clinet="tcp"))


# ---- a new file ----


def test_a_new_file_is_what_the_reference_writes() -> None:
    environment = from_environment({"DMSGPTY_DMSGPORT": "2022"})
    form = form_of_config(KEY, environment)
    assert form.decode().startswith('{\n    "dmsgdisc": "')
    assert json.loads(form) == {
        "dmsgdisc": DISCOVERY,
        "dmsgsessions": 1,
        "dmsgport": 2022,
        "clinet": "unix",
        "cliaddr": "/var/tmp/of-mine/dmsgpty.sock",
        "sk": SECRET,
        "pk": str(KEY.pk),
        "wl": None,
    }
    made = host_config([from_bytes(form, "new.json")])
    assert (made.secret_key, made.options.port) == (KEY, 2022)


def test_keys_of_standard_input_are_read_as_those_of_a_file() -> None:
    assert allowed_in(file(wl=[str(KEY.pk)])) == (KEY.pk,)
    assert allowed_in(file()) == ()
    with pytest.raises(ConfigError, match=r"host.json: wl\[0\]: a public key"):
        allowed_in(file(wl=["a"]))


def test_the_network_of_all_programs_counts_where_nothing_else_is_said() -> None:
    common = from_common_variables({"DMSG_DISCOVERY": "http://network"})
    other = from_environment({"DMSGPTY_DMSGDISC": "http://other"})
    assert json.loads(form_of_config(KEY, common))["dmsgdisc"] == "http://network"
    assert json.loads(form_of_config(KEY, common, other))["dmsgdisc"] == "http://other"
    assert json.loads(form_of_config(KEY, from_common_variables({})))["dmsgdisc"] == DISCOVERY
    wrong = from_common_variables({"DMSG_DISCOVERY": "network"})
    with pytest.raises(ConfigError, match="the variable DMSG_DISCOVERY"):
        host_config([wrong], key=KEY)
