"""The body of a request, from options as curl has them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote_plus

from dmsg_trio._errors import ConfigError
from dmsg_trio.apps.curl import (
    Body,
    BytesBody,
    ExitCode,
    Field,
    FileBody,
    FormBody,
    StreamBody,
    saying,
)

from ._curl_help import in_order
from ._curl_options import AskingOptions
from ._stdio import read_input

URL_ENCODED: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
STANDARD: Final = "-"  # input or output, in the place of a file's name
_OPTION = re.compile(r";\s*(type|filename)=(\"(?:[^\"\\]|\\.)*\"|[^;]*)")


@dataclass(frozen=True, slots=True)
class Sending:
    """What is sent, and as what."""

    body: Body | None = None
    content_type: str = ""
    query: str = ""  # in the URL; with -G all of it


def sending(options: AskingOptions, given: Sequence[str]) -> Sending:
    """Put together what the options say is sent with each request."""
    kinds = {
        "data": options.data or [],
        "data_raw": options.data_raw or [],
        "data_binary": options.data_binary or [],
        "data_urlencode": options.data_urlencode or [],
        "json": options.json or [],
    }
    data = [(name, str(value)) for name, value in in_order(given, kinds)]
    fields = in_order(given, {"form": options.form or [], "form_string": options.form_string or []})
    if bool(data) + bool(fields) + bool(options.upload_file) > 1:
        raise ConfigError("a request has one body: use one of -d, -F and -T")
    query = [_encoded(each).decode() for each in options.url_query or ()]
    if options.get:
        query += [_text(*each).decode("latin-1") for each in data]
        return Sending(query="&".join(query))
    if data and options.head:
        raise ConfigError("-I asks without a body: leave out -d, or add -G")
    in_url = "&".join(query)
    if fields:
        form = FormBody([_field(name, str(value)) for name, value in fields])
        return Sending(form, f"multipart/form-data; boundary={form.boundary}", in_url)
    if not data:
        return Sending(query=in_url)
    is_json = data[0][0] == "json"
    content_type = JSON if is_json else URL_ENCODED
    name, value = data[0]
    if len(data) == 1 and name == "data_binary" and value.startswith("@") and value != "@-":
        return Sending(FileBody.of(Path(value[1:])), content_type, in_url)
    joiner = b"" if is_json else b"&"
    body = BytesBody(joiner.join(_text(*each) for each in data))
    return Sending(body, content_type, in_url)


def upload(path: str) -> Body:
    """Send a file, or standard input as long as it goes on."""
    if path not in (STANDARD, "."):
        return FileBody.of(Path(path))
    return StreamBody(_standard_input)


async def _standard_input() -> AsyncIterator[bytes]:
    async for data in read_input():
        yield data


def _text(kind: str, value: str) -> bytes:
    match kind:
        case "data_raw":
            return os.fsencode(value)
        case "data_urlencode":
            return _encoded(value)
        case "data" if value.startswith("@"):
            return content_of(value[1:]).translate(None, b"\r\n\0")
        case _ if value.startswith("@"):
            return content_of(value[1:])
        case _:
            return os.fsencode(value)


def _encoded(value: str) -> bytes:
    """Encode ``text``, ``=text``, ``name=text``, ``@file`` or ``name@file`` for a form."""
    name, sign, rest = re.fullmatch(r"([^=@]*)([=@]?)(.*)", value, re.DOTALL).groups()  # type: ignore[union-attr]
    if not sign:
        name, rest = "", name
    content = content_of(rest) if sign == "@" else os.fsencode(rest)
    return (f"{name}=" if name else "").encode() + quote_plus(content).encode()


def content_of(path: str) -> bytes:
    """Read a file, or standard input where it is ``-``."""
    with saying(f"reading {path}", ExitCode.READ_ERROR):
        return sys.stdin.buffer.read() if path == STANDARD else Path(path).read_bytes()


def _field(kind: str, text: str) -> Field:
    """Read a field of a form: ``name=value``, ``name=@file;type=…;filename=…``, ``name=<file``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"-F: a field is NAME=VALUE, not {text!r}")
    if kind == "form_string":
        return Field(name, os.fsencode(value))
    options = {key: _unquoted(each) for key, each in _OPTION.findall(value)}
    value, content_type = _unquoted(_OPTION.sub("", value)), options.get("type", "")
    if value.startswith("<"):
        return Field(name, content_of(value[1:]), "", content_type)
    if not value.startswith("@"):
        return Field(name, os.fsencode(value), options.get("filename", ""), content_type)
    path = value[1:]
    filename = options.get("filename", Path(path).name)
    return Field(
        name,
        content_of(path) if path == STANDARD else Path(path),
        filename,
        content_type or _type_by(filename),
    )


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def _type_by(name: str) -> str:
    import mimetypes  # reads the system's tables

    return mimetypes.guess_type(name)[0] or "application/octet-stream"
