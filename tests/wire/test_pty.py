"""What dmsgpty's services are called with."""

import pytest

from dmsg_trio._wire import gob
from dmsg_trio._wire.pty import (
    COMMAND,
    KEYS,
    MAX_REQUEST,
    PROXY_URI,
    PTY_SERVICE,
    WHITELIST_SERVICE,
    WINDOW_SIZE,
    WindowSize,
)

PK = bytes.fromhex("02f835723d78968f82edbaf09ad16ed98080a11824980f32c7cbb322e5d9ce3d6f")


def test_every_method_has_a_name_in_its_service() -> None:
    assert {method.name.partition(".")[0] for method in PTY_SERVICE} == {"pty"}
    assert {method.name.partition(".")[0] for method in WHITELIST_SERVICE} == {"whitelist"}


def test_every_method_knows_what_go_calls_its_argument() -> None:
    assert all(method.go_argument for method in (*PTY_SERVICE, *WHITELIST_SERVICE))


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (COMMAND, {"Name": "/bin/sh", "Arg": ["-c", "exit 3"], "Size": None}),
        (KEYS, [PK]),
        (WINDOW_SIZE, {"X": 640, "Y": 480, "Rows": 50, "Cols": 132}),
    ],
)
def test_arguments_come_back_as_they_were(declared: gob.Type, value: gob.Value) -> None:
    assert gob.decode_alone_untrusted(declared, gob.encode_alone(declared, value)) == value


def test_a_terminal_has_no_size_until_it_is_told_one() -> None:
    assert WindowSize() == WindowSize(rows=0, columns=0, width=0, height=0)


def test_the_longest_request_for_another_host_fits_into_a_line() -> None:
    assert len(f"{PROXY_URI}?pk={PK.hex()}&port=65535") <= MAX_REQUEST
