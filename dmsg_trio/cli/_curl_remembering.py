"""What dmsgcurl knows from before: cookies, versions, passwords of ~/.netrc."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Final

import httpx

from dmsg_trio._errors import ConfigError
from dmsg_trio.apps.curl import Cookies, saying

from ._curl_bodies import STANDARD, content_of
from ._curl_more_options import RememberingOptions

_FORMATS: Final = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y%m%d", "%d %b %Y")


# ---- cookies ----


def cookie_line(options: RememberingOptions) -> str:
    """Give the cookies that are named on the command line."""
    return "; ".join(each for each in options.cookie or () if "=" in each)


def cookies_of(parts: Sequence[RememberingOptions]) -> Cookies | None:
    """Read the files of cookies, if cookies are to be kept at all."""
    cookies = None
    for part in parts:
        files = [each for each in part.cookie or () if "=" not in each]
        if files or part.cookie_jar:
            cookies = cookies or Cookies()
        for file in filter(None, files):
            if cookies is not None and (file == STANDARD or Path(file).exists()):
                text = content_of(file).decode(errors="replace")
                cookies.load(text, ends_sessions=part.junk_session_cookies)
    return cookies


def keep_cookies(cookies: Cookies, file: str) -> None:
    """Write a file of cookies, for nobody else to read."""
    if file == STANDARD:
        print(cookies.dump(), end="", flush=True)
        return
    path = Path(file)
    new = path.with_name(f"{path.name}.{os.getpid()}~")
    with saying(f"writing {path}"):
        try:
            new.unlink(missing_ok=True)
            new.touch(0o600, exist_ok=False)
            new.write_text(cookies.dump())
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


# ---- versions ----


def conditions(options: RememberingOptions) -> Iterator[tuple[str, str]]:
    """Give the headers that make a request depend on what is there already."""
    if text := options.time_cond:
        is_older = text.startswith("-")
        moment = _moment(text.removeprefix("-") if is_older else text)
        header = "If-Unmodified-Since" if is_older else "If-Modified-Since"
        yield header, format_datetime(moment, usegmt=True)
    if options.etag_compare:
        path = Path(options.etag_compare)
        tag = content_of(str(path)).decode("latin-1").strip() if path.exists() else ""
        yield "If-None-Match", tag or '""'


def _moment(text: str) -> datetime:
    """Read a date, or take the time of a file that is called so."""
    path = Path(text)
    if path.exists():
        return datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            pass
    try:
        read = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        raise ConfigError(f"-z: neither a file nor a date as 2026-11-23: {text!r}") from None
    return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)


# ---- passwords ----


def login(options: RememberingOptions, url: httpx.URL) -> str:
    """Find ``name:password`` for who is asked; an empty text if there is none."""
    if not options.netrc and options.netrc_file is None:
        return ""
    path = options.netrc_file or Path.home() / ".netrc"
    try:
        hosts = _hosts(path)
    except FileNotFoundError:
        if options.netrc_file is None:
            return ""
        raise ConfigError(f"--netrc-file: {path} is not there") from None
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError) as error:
        raise ConfigError(f"reading {path}: {error}") from None
    key = url.host.removesuffix(".dmsg")
    found = hosts.get(key) or hosts.get(f"{key}.dmsg")
    return f"{found[0]}:{found[2]}" if found else ""


@cache
def _hosts(path: Path) -> Mapping[str, tuple[str, str, str]]:
    """Read a file of passwords, once for however many URLs."""
    return netrc.netrc(path).hosts
