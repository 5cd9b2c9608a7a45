"""What -w prints when a transfer is over: a text with ``%{variables}`` in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from dmsg_trio.apps.curl import ExitCode, Report

from ._stdio import STDERR, STDOUT

_VARIABLE = re.compile(r"%(?:\{(\w+)\}|header\{([^}]*)\}|%)|\\(.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


def written_out(text: str, report: Report, number: int) -> Iterator[tuple[int, str]]:
    """Yield what is to be printed, and to which descriptor; %{stderr} and %{stdout} change it."""
    values = variables(report, number)
    at, fd = 0, STDOUT
    for found in _VARIABLE.finditer(text):
        yield fd, text[at : found.start()]
        at = found.end()
        name = found[1]
        if name in ("stderr", "stdout"):
            fd = STDERR if name == "stderr" else STDOUT
        elif name == "onerror":
            if report.error is None:
                return
        elif name and name not in (*values, "json", "header_json"):
            yield STDERR, f"dmsgcurl: -w: there is no variable {name}\n"
        else:
            yield fd, _value(found, values, report)
    yield fd, text[at:]


def _value(found: re.Match[str], values: dict[str, str | int | float], report: Report) -> str:
    if found[3] is not None:
        return _ESCAPES.get(found[3], f"\\{found[3]}")
    if found[2] is not None:
        return report.response.headers.get(found[2], "") if report.response else ""
    match found[1]:
        case None:
            return "%"
        case "json":
            return json.dumps(values)
        case "header_json":
            headers = report.response.headers if report.response else {}
            return json.dumps({name: headers[name] for name in headers})
        case name:
            value = values[name]
            if name in ("http_code", "response_code"):
                return f"{value:03}"
            return f"{value:.6f}" if isinstance(value, float) else str(value)


def variables(report: Report, number: int) -> dict[str, str | int | float]:
    """Give the variables that curl has, as far as they mean something here."""
    response, url = report.response, report.url
    status = response.status_code if response else 0
    version = response.extensions.get("http_version", b"HTTP/1.1") if response else b"HTTP/0"
    seconds = report.ended or 1e-9
    error = report.error
    return {
        "content_type": response.headers.get("content-type", "") if response else "",
        "errormsg": error.reason if error else "",
        "exitcode": int(error.code if error else ExitCode.DONE),
        "filename_effective": report.filename,
        "http_code": status,
        "http_version": version.decode("latin-1").removeprefix("HTTP/"),
        "method": report.method,
        "num_connects": report.connects,
        "num_headers": len(response.headers.raw) if response else 0,
        "num_redirects": report.redirects,
        "num_retries": max(0, report.tries - 1),
        "redirect_url": report.redirect_url,
        "remote_ip": url.host.removesuffix(".dmsg"),
        "remote_port": url.port or 80,
        "response_code": status,
        "scheme": url.scheme,
        "size_download": report.downloaded,
        "size_header": report.head_size,
        "size_upload": report.uploaded,
        "speed_download": int(report.downloaded / seconds),
        "speed_upload": int(report.uploaded / seconds),
        "time_appconnect": report.connected,
        "time_connect": report.connected,
        "time_namelookup": 0.0,
        "time_pretransfer": report.connected,
        "time_redirect": report.redirected,
        "time_starttransfer": report.first_byte,
        "time_total": report.ended,
        "url": str(report.asked),
        "url_effective": str(url),
        "urlnum": number,
    }
