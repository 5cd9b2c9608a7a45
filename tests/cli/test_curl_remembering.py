"""What dmsgcurl knows from before, and keeps for later."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dmsg_trio._errors import ConfigError
from dmsg_trio.apps.curl import Cookies, ExitCode, TransferError, parse_url
from dmsg_trio.cli._curl_more_options import RememberingOptions
from dmsg_trio.cli._curl_remembering import (
    conditions,
    cookie_line,
    cookies_of,
    keep_cookies,
    login,
)
from tests.cli.running import NOBODY

URL = parse_url(f"dmsg://{NOBODY}/")
JAR = f"{NOBODY}.dmsg\tFALSE\t/\tFALSE\t0\ta\t1\n"


def test_cookies_are_named_or_read(tmp_path: Path) -> None:
    (tmp_path / "jar").write_text(JAR)
    options = RememberingOptions(cookie=["x=1", str(tmp_path / "jar"), "y=2"])
    assert cookie_line(options) == "x=1; y=2"
    cookies = cookies_of([options])
    assert cookies is not None
    assert cookies.header_for(URL) == "a=1"


def test_cookies_are_kept_only_if_that_was_asked_for(tmp_path: Path) -> None:
    assert cookies_of([RememberingOptions(cookie=["x=1"])]) is None
    assert cookies_of([RememberingOptions(cookie=[""])]) is not None
    assert cookies_of([RememberingOptions(cookie_jar="jar")]) is not None
    assert cookies_of([RememberingOptions(cookie=[str(tmp_path / "none yet")])]) is not None


def test_a_file_of_cookies_is_for_nobody_else(tmp_path: Path) -> None:
    cookies = Cookies()
    cookies.load(JAR)
    keep_cookies(cookies, str(tmp_path / "jar"))
    assert (tmp_path / "jar").read_text().endswith(JAR)
    assert stat.S_IMODE((tmp_path / "jar").stat().st_mode) == 0o600
    with pytest.raises(TransferError, match="no/jar") as caught:
        keep_cookies(cookies, str(tmp_path / "no" / "jar"))
    assert caught.value.code is ExitCode.WRITE_ERROR
    assert os.listdir(tmp_path) == ["jar"]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("2024-01-02", ("If-Modified-Since", "Tue, 02 Jan 2024 00:00:00 GMT")),
        ("-2024-01-02 03:04:05", ("If-Unmodified-Since", "Tue, 02 Jan 2024 03:04:05 GMT")),
        ("Tue, 02 Jan 2024 04:00:00 +0100", ("If-Modified-Since", "Tue, 02 Jan 2024 03:00:00 GMT")),
    ],
)
def test_a_time_is_a_condition(text: str, header: tuple[str, str]) -> None:
    assert list(conditions(RememberingOptions(time_cond=text))) == [header]


def test_the_time_of_a_file_is_a_condition(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.utime(file, (0, 0))
    [(_, date)] = conditions(RememberingOptions(time_cond=str(file)))
    assert date == "Thu, 01 Jan 1970 00:00:00 GMT"


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="-z: neither a file nor a date"):
        list(conditions(RememberingOptions(time_cond="soon")))


def test_the_tag_of_a_file_is_a_condition(tmp_path: Path) -> None:
    (tmp_path / "tag").write_text('"one"\n')
    for file, tag in ("tag", '"one"'), ("none", '""'):
        options = RememberingOptions(etag_compare=str(tmp_path / file))
        assert list(conditions(options)) == [("If-None-Match", tag)]


def test_a_password_stands_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "netrc"
    file.write_text(f"machine {NOBODY} login me password secret\n")
    assert login(RememberingOptions(netrc_file=file), URL) == "me:secret"
    assert login(RememberingOptions(), URL) == ""
    with pytest.raises(ConfigError, match="is not there"):
        login(RememberingOptions(netrc_file=tmp_path / "none"), URL)
    (tmp_path / "binary").write_bytes(b"machine \xff login me password secret\n")
    with pytest.raises(ConfigError, match=r"reading .*binary: .* can't decode byte 0xff"):
        login(RememberingOptions(netrc_file=tmp_path / "binary"), URL)
