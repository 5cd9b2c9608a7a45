"""What a configuration file may say, and what is said about one that is wrong."""

import json
import os
import traceback
from pathlib import Path

import pytest

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import MAX_SETTINGS
from dmsg_trio._keys import SecretKey
from dmsg_trio.server._config import (
    Peer,
    ServerConfig,
    form_of_config,
    load_config,
    parse_config,
)

KEY, OTHER = (SecretKey(bytes([n]) * 32) for n in (1, 2))
SECRET = KEY.reveal().hex()


def file(**settings: object) -> bytes:
    """A file as the reference makes it, with some settings changed; None leaves one out."""
    members = {**json.loads(form_of_config(KEY, discovery="http://discovery.test")), **settings}
    return json.dumps(
        {name: value for name, value in members.items() if value is not None}
    ).encode()


def fault(data: bytes, key: SecretKey | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(data, where="server.json", key=key)
    text = str(caught.value)
    assert text.startswith("server.json: ")
    return text.removeprefix("server.json: ")


# ---- what is right ----


def test_the_reference_file_is_read_as_it_is() -> None:
    assert parse_config(file()) == ServerConfig(
        secret_key=KEY,
        discovery="http://discovery.test",
        public_address="127.0.0.1:8081",
        local_address=":8081",
        health_endpoint_address=":8082",
        log_level="info",
        update_interval=60,
        max_sessions=2048,
    )


def test_a_new_file_has_the_form_of_the_reference() -> None:
    assert form_of_config(KEY, discovery="http://dmsgd.skywire.dev").decode() == (
        "{\n"
        f'\t"public_key": "{KEY.pk}",\n'
        f'\t"secret_key": "{SECRET}",\n'
        '\t"discovery": "http://dmsgd.skywire.dev",\n'
        '\t"public_address": "127.0.0.1:8081",\n'
        '\t"local_address": ":8081",\n'
        '\t"health_endpoint_address": ":8082",\n'
        '\t"log_level": "info",\n'
        '\t"update_interval": 0,\n'
        '\t"max_sessions": 2048\n'
        "}"
    )


def test_an_interval_is_in_nanoseconds() -> None:
    assert parse_config(file(update_interval=90_500_000_000)).update_interval == 90.5


def test_a_key_from_elsewhere_does_for_one_in_the_file() -> None:
    assert parse_config(file(secret_key=None), key=KEY).secret_key == KEY
    assert parse_config(file(secret_key="", public_key=""), key=OTHER).secret_key == OTHER
    assert parse_config(file(), key=KEY).secret_key == KEY


def test_settings_that_are_empty_or_null_are_none() -> None:
    config = parse_config(
        b'{"secret_key":"%s","discovery":"http://a.test","local_address":"","peers":null,'
        b'"health_endpoint_address":"","public_address":null}' % SECRET.encode()
    )
    assert config == ServerConfig(secret_key=KEY, discovery="http://a.test")


@pytest.mark.parametrize(
    ("theirs", "ours"), [("trace", "debug"), ("warn", "warning"), ("Error", "error")]
)
def test_levels_of_the_reference_become_ours(theirs: str, ours: str) -> None:
    assert parse_config(file(log_level=theirs)).log_level == ours


def test_peers_are_other_servers() -> None:
    peer = {"public_key": str(OTHER.pk), "address": "203.0.113.1:8081"}
    assert parse_config(file(peers=[peer])).peers == (Peer(OTHER.pk, "203.0.113.1:8081"),)


def test_links_are_kept_with_all_servers_unless_wanted_on_demand() -> None:
    assert not parse_config(file()).peer_links_on_demand
    assert parse_config(file(peer_links_on_demand=True)).peer_links_on_demand


def test_an_address_of_ipv6_is_a_setting_of_its_own() -> None:
    config = parse_config(file(public_address_v6="[2001:db8::1]:8081"))
    assert config.public_address_v6 == "[2001:db8::1]:8081"


# ---- what is odd ----


@pytest.mark.parametrize(
    "urls", ["http://a.test, http://b.test", ["http://a.test", "http://b.test"]]
)
def test_several_discoveries_are_all_used(urls: object) -> None:
    config = parse_config(file(discovery=urls))
    assert config.discovery == "http://a.test,http://b.test"
    assert not config.warnings


def test_unknown_settings_are_named() -> None:
    peer = {"public_key": str(OTHER.pk), "address": "a.test:1", "weight": 3}
    config = parse_config(file(enable_dht=True, max_session=1, peers=[peer]))
    assert config.warnings == (
        "unknown settings, ignored: enable_dht, max_session, peers[0].weight",
    )


def test_an_interval_longer_than_an_entry_lives_is_odd() -> None:
    (warning,) = parse_config(file(update_interval=300 * 10**9)).warnings
    assert "update_interval" in warning
    assert "300 s" in warning


def test_a_key_that_others_can_read_is_odd(tmp_path: Path) -> None:
    path = tmp_path / "a server.json"
    path.write_bytes(file())
    path.chmod(0o644)
    (warning,) = load_config(path).warnings
    assert f"chmod 600 '{path}'" in warning
    path.chmod(0o600)
    assert load_config(path).warnings == ()
    path.write_bytes(file(secret_key=None))
    path.chmod(0o644)
    assert load_config(path, key=KEY).warnings == ()


# ---- what is wrong ----


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_sessions": 0}, "max_sessions: Expected `int` >= 1"),
        ({"max_sessions": "2048"}, "max_sessions: Expected `int`, got `str`"),
        ({"update_interval": "1m"}, "update_interval: Expected `int`, got `str`"),
        ({"update_interval": -1}, "update_interval: Expected `int` >= 0"),
        ({"update_interval": 60}, "update_interval: 60 nanoseconds are less than a second"),
        ({"secret_key": 5}, "secret_key: Expected `str`, got `int`"),
        ({"secret_key": SECRET[1:]}, "secret_key: a secret key is 64 hex digits, not 63"),
        ({"secret_key": "0" * 64}, "secret_key: not a secret key of secp256k1: zero or too large"),
        ({"secret_key": None}, "secret_key: missing, and no --key-file or other source gives one"),
        ({"public_key": "02"}, "public_key: a public key is 66 hex digits, not 2: '02'"),
        (
            {"public_key": str(OTHER.pk)},
            f"public_key: {OTHER.pk}, but the secret key is of {KEY.pk}",
        ),
        ({"discovery": None}, "discovery: missing"),
        ({"discovery": " , "}, "discovery: missing"),
        ({"discovery": [1]}, "discovery[0]: Expected `str`, got `int`"),
        ({"discovery": "a.test"}, "discovery: an http:// or https:// URL, not 'a.test'"),
        (
            {"discovery": ["http://a.test", "dmsg://b"]},
            "discovery: an http:// or https:// URL, not 'dmsg://b'",
        ),
        (
            {"discovery": "http://me:word@a.test"},
            "discovery: a password in a URL would show in the logs",
        ),
        ({"local_address": "8081"}, "local_address: '8081' is not host:port"),
        ({"local_address": ":80810"}, "local_address: ':80810': a port is 0 to 65535"),
        ({"public_address": "a.test:0"}, "public_address: 'a.test:0': nobody can dial port 0"),
        ({"public_address_v6": "::1:80"}, "public_address_v6: '::1:80': an IPv6 address stands"),
        ({"health_endpoint_address": "x"}, "health_endpoint_address: 'x' is not host:port"),
        ({"log_level": "loud"}, "log_level: 'loud' is none of trace, debug"),
        ({"peers": {}}, "peers: Expected `array`, got `object`"),
        ({"peers": [{"address": "a.test:1"}]}, "peers[0]: Object missing required field `public"),
        (
            {"peers": [{"public_key": "ab", "address": "a.test:1"}]},
            "peers[0].public_key: a public key is 66 hex digits, not 2: 'ab'",
        ),
        (
            {"peers": [{"public_key": str(OTHER.pk), "address": "a.test"}]},
            "peers[0].address: 'a.test' is not host:port",
        ),
    ],
)
def test_an_error_names_the_setting_and_what_is_wrong(
    settings: dict[str, object], expected: str
) -> None:
    assert fault(file(**settings)).startswith(expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "Input data was truncated"),
        (b'{"secret_key": "x",}', "JSON is malformed"),
        (b"[]", "not a JSON object with settings"),
        (b"[" * 100_000, "not a JSON object with settings"),
        (b'{"a": "\xff"}', "not a JSON object with settings"),
        (b" " * (MAX_SETTINGS + 1), f"larger than {MAX_SETTINGS} bytes"),
    ],
)
def test_what_is_no_configuration_is_refused(data: bytes, expected: str) -> None:
    assert fault(data).startswith(expected)


def test_two_keys_are_one_too_many() -> None:
    expected = f"secret_key: of {KEY.pk}, but the key given beside it is of {OTHER.pk}"
    assert fault(file(), key=OTHER) == expected
    expected = f"public_key: {KEY.pk}, but the secret key is of {OTHER.pk}"
    assert fault(file(secret_key=None), key=OTHER) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"secret_key": SECRET[:-1]},
        {"public_key": SECRET},
        {"secret_key": SECRET, "public_key": "1"},
    ],
)
def test_no_error_shows_a_secret(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(file(**settings))
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=False).format()
    )
    assert SECRET[:-1] not in shown
    assert caught.value.__context__ is None


def test_no_configuration_shows_a_secret() -> None:
    config = parse_config(file())
    assert SECRET not in repr(config)
    assert "sesame" not in repr(
        ServerConfig(secret_key=KEY, discovery="http://a.test", server_type="sesame")
    )


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    missing, folder, pipe = tmp_path / "none", tmp_path, tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match=f"cannot read {missing}: No such file"):
        load_config(missing)
    with pytest.raises(ConfigError, match=f"cannot read {folder}: Is a directory"):
        load_config(folder)
    with pytest.raises(ConfigError, match=f"{pipe} is not a regular file; --stdin reads a pipe"):
        load_config(pipe)
