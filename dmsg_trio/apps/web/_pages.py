"""What is answered here: pages for people, plain text for curl, JSON for programs, and the PAC file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import Final

import h11
import trio

from dmsg_trio._address import Address

from ._book import Book
from ._errors import WebError
from ._names import SUFFIX, shown_authority
from ._near import Answer
from ._ways import Kind, Ways

PAC_TYPE: Final = "application/x-ns-proxy-autoconfig"
MAX_ROWS: Final = 200  # of a table on the status page

# No other site may frame or read these, and nothing on them runs.
_SAFE: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
_HTML: Final = ("Content-Type", "text/html; charset=utf-8")
_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
_JSON: Final = ("Content-Type", "application/json")
_ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7"'
    ' fill="#3451d1"/><path d="M7 21l6-10 6 10 6-10" fill="none" stroke="#fff" stroke-width="3.2"'
    ' stroke-linecap="round" stroke-linejoin="round"/></svg>'
)
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


# ---- errors ----


def error_answer(error: WebError, request: h11.Request | None) -> Answer:
    """Tell in a form that who asked can show."""
    if not _wants(request, "text/html"):
        lines = [error.title, error.detail, *_attempts(error)]
        text = "\n".join(line for line in lines if line) + "\n"
        return Answer(error.status, text.encode(), (_TEXT, *_SAFE))
    attempts = "".join(f"<li>{escape(each)}</li>" for each in _attempts(error))
    body = f'<p class="code">{error.status} {escape(error.status.phrase)}</p>'
    body += f"<h1>{escape(error.title)}</h1><p>{escape(error.detail[:1].upper() + error.detail[1:])}</p>"
    body += f"<h2>What was tried</h2><ol>{attempts}</ol>" if attempts else ""
    return Answer(error.status, _page(error.title, body), (_HTML, *_SAFE))


def _attempts(error: WebError) -> list[str]:
    return [
        f"through server {each.server}: {each.reason or 'the key answered'} ({each.seconds:.1f} s)"
        for each in error.attempts
    ]


def _wants(request: h11.Request | None, kind: str) -> bool:
    headers = request.headers if request is not None else ()
    accepted = b",".join(value for name, value in headers if name == b"accept")
    return kind in accepted.decode("latin-1").lower()


def _page(title: str, body: str) -> bytes:
    template = Template((files(__package__) / "page.html").read_text())
    return template.substitute(title=escape(title), body=body).encode()


# ---- the proxy's own pages ----


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of a proxy."""

    ways: Ways
    book: Book

    def answer(self, request: h11.Request, path: str, host: str, port: int) -> Answer:
        """Answer a request to the proxy itself, which it was asked as ``host:port``."""
        if request.method not in (b"GET", b"HEAD"):
            allow = ("Allow", "GET, HEAD")
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n", (_TEXT, allow))
        place = shown_authority(host, port, default_port=0)
        match path:
            case "/proxy.pac":
                pac = self.pac(place).encode()
                return Answer(HTTPStatus.OK, pac, (("Content-Type", PAC_TYPE), *_SAFE))
            case "/favicon.ico":
                icon = ("Content-Type", "image/svg+xml")
                return Answer(HTTPStatus.OK, _ICON.encode(), (icon, *_SAFE))
            case "/" if _wants(request, "application/json"):
                data = json.dumps(self.facts(place)).encode()
                return Answer(HTTPStatus.OK, data, (_JSON, ("Vary", "Accept"), *_SAFE))
            case "/":
                page = _page("dmsgweb", self._status(place, host, port))
                return Answer(HTTPStatus.OK, page, (_HTML, ("Vary", "Accept"), *_SAFE))
        return Answer(HTTPStatus.NOT_FOUND, b"there is / and /proxy.pac\n", (_TEXT, *_SAFE))

    def pac(self, place: str) -> str:
        """Write the file by which a browser knows what goes through the proxy at ``place``."""
        here = f"PROXY {place}; SOCKS5 {place}"
        suffixes = sorted({self.ways.names.suffix, SUFFIX})
        is_dmsg = " || ".join(f"dnsDomainIs(host, {json.dumps(each)})" for each in suffixes)
        others = here if self.ways.only_dmsg or self.ways.upstream else "DIRECT"
        return (
            "function FindProxyForURL(url, host) {\n"
            "  host = host.toLowerCase();\n"
            # Never "; DIRECT": a name of dmsg is nothing for the system's DNS.
            f"  if ({is_dmsg}\n"
            f"      || /^0[23][0-9a-f]{{64}}$/.test(host)) return {json.dumps(here)};\n"
            '  if (isPlainHostName(host) || host === "127.0.0.1" || host === "[::1]" || host === "::1")'
            ' return "DIRECT";\n'
            f"  return {json.dumps(others)};\n"
            "}\n"
        )

    def facts(self, place: str) -> dict[str, object]:
        """Say all that the status page says."""
        now, names = trio.current_time(), self.ways.names
        return {
            "proxy": place,
            "pac": f"http://{place}/proxy.pac",
            "suffix": names.suffix,
            "others": self._others(),
            "aliases": {name: _shown(to) for name, to in names.aliases.table.items()},
            "aliases_fault": names.aliases.fault or None,
            "seconds": round(now - self.book.began, 1),
            "done": dict(self.book.done),
            "bytes_out": self.book.to_far,
            "bytes_in": self.book.to_near,
            "open": [
                {
                    "kind": line.kind,
                    "target": line.target,
                    "way": line.way,
                    "seconds": round(now - line.began, 1),
                    "bytes_out": line.carried.to_far,
                    "bytes_in": line.carried.to_near,
                }
                for line in self.book.open.values()
            ],
            "faults": [
                {
                    "seconds_ago": round(now - each.at, 1),
                    "target": each.target,
                    "reason": each.reason,
                }
                for each in self.book.faults
            ],
        }

    def _others(self) -> str:
        if self.ways.only_dmsg:
            return "refused"
        return f"through {self.ways.upstream}" if self.ways.upstream else "direct"

    # ---- the status page ----

    def _status(self, place: str, host: str, port: int) -> str:
        now, book, names = trio.current_time(), self.book, self.ways.names
        lines = sorted(book.open.values(), key=lambda line: line.began, reverse=True)
        parts = [
            "<h1>dmsgweb</h1>",
            f"<p>Sites of dmsg open here as <code>http://&lt;key&gt;{escape(names.suffix)}/</code>.",
            f" Others: {escape(self._others())}. Running for {_duration(now - book.began)}.</p>",
            "<h2>Set up a browser</h2>",
            _table(
                ("", "paste this"),
                (
                    ("Automatic configuration (PAC)", f"http://{place}/proxy.pac"),
                    (
                        "HTTP proxy, also for HTTPS",
                        f"{shown_authority(host, 0, default_port=0)} port {port}",
                    ),
                    (
                        "SOCKS v5, with 'Proxy DNS'",
                        f"{shown_authority(host, 0, default_port=0)} port {port}",
                    ),
                    ("Chromium", f"chromium --proxy-pac-url=http://{place}/proxy.pac"),
                    ("curl", f"curl -x http://{place} http://KEY{names.suffix}/"),
                ),
                code=(1,),
            ),
            f"<h2>Open now <small>{len(lines)}</small></h2>",
            _table(
                ("", "target", "way", "since", "out", "in"),
                (
                    (
                        *(line.kind, line.target, line.way, _duration(now - line.began)),
                        *(_size(line.carried.to_far), _size(line.carried.to_near)),
                    )
                    for line in lines[:MAX_ROWS]
                ),
                code=(1,),
                empty="Nothing is open.",
            ),
            f"<p>{sum(book.done.values())} before, of them {book.done[Kind.DMSG]} over dmsg;"
            f" {_size(book.to_far)} out, {_size(book.to_near)} in.</p>",
            "<h2>Went wrong of late</h2>",
            _table(
                ("ago", "target", "why"),
                ((_duration(now - each.at), each.target, each.reason) for each in book.faults),
                code=(1,),
                empty="Nothing.",
            ),
            f"<h2>Aliases <small>{len(names.aliases.table)}</small></h2>",
            self._aliases(),
        ]
        return "".join(parts)

    def _aliases(self) -> str:
        aliases, suffix = self.ways.names.aliases, self.ways.names.suffix
        fault = f'<p class="fault">{escape(aliases.fault)}</p>' if aliases.fault else ""
        rows = [(f"{name}{suffix}", _shown(to)) for name, to in sorted(aliases.table.items())]
        hint = "None; <code>--aliases FILE</code> names a file with lines <code>name = KEY</code>."
        return fault + (_table(("name", "address"), rows[:MAX_ROWS], code=(0, 1)) if rows else hint)


def _shown(to: Address) -> str:
    """Write where an alias leads as its file does: an address, or a key alone."""
    return str(to if to.port else to.pk)


def _table(
    head: Iterable[str], rows: Iterable[Iterable[str]], *, code: Iterable[int] = (), empty: str = ""
) -> str:
    columns = set(code)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td><code>{escape(cell)}</code></td>" if i in columns else f"<td>{escape(cell)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    if not body:
        return f"<p>{escape(empty)}</p>"
    top = "".join(f"<th>{escape(each)}</th>" for each in head)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _size(number: float) -> str:
    for unit in _UNITS:
        if number < 1000 or unit == _UNITS[-1]:
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
