"""What a folder has, for programs and for people.

Names come from whoever may write to the folder. In a page nothing of them is markup, and what
would move a cursor or turn a line round is replaced; in a link they are exact.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qs, urlencode

import msgspec

from ._conditions import utc
from ._target import path_of, quoted
from ._tree import Entry

MAX_ENTRIES: Final = 50_000  # of a folder; more are not shown
ON_A_PAGE: Final = 1000
MAX_FIELDS: Final = 20  # of a query
_DIGITS: Final = re.compile(r"([0-9]{1,18})")

SortKey = Callable[[Entry], object]


# ---- names and numbers for people ----


def shown(name: bytes) -> str:
    """Write a name so that it can do no harm."""
    text = name.decode("utf-8", "replace")
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def human_size(number: float) -> str:
    """Say how many bytes: ``812 B``, ``48.2 kB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 999.95:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} PB"


def _as_people_count(entry: Entry) -> list[tuple[int, int, str]]:
    """Order names without regard to case, and numbers in them by their value."""
    pieces = _DIGITS.split(shown(entry.name).casefold())
    return [(0, int(each), "") if i % 2 else (1, 0, each) for i, each in enumerate(pieces)]


_KEYS: Final[dict[str, Callable[[Entry], float]]] = {
    "size": lambda entry: entry.size,
    "time": lambda entry: entry.modified,
}


@dataclass(frozen=True, slots=True)
class View:
    """How a listing is looked at: its order, and which page of it."""

    sort: str = "name"
    descending: bool = False
    page: int = 1

    @classmethod
    def parse_untrusted(cls, query: str) -> View:
        """Read the query of a URL; what is not understood does not count."""
        try:
            fields = parse_qs(query, max_num_fields=MAX_FIELDS)
        except ValueError:  # there are more
            return cls()
        given = {name: values[-1] for name, values in fields.items()}
        page = given.get("page", "")
        return cls(
            sort=given["sort"] if given.get("sort") in _KEYS else "name",
            descending=given.get("order") == "desc",
            page=int(page) if re.fullmatch("[1-9][0-9]{0,5}", page) else 1,
        )

    @property
    def query(self) -> str:
        """The query that is read as this; ``.`` is the folder itself, in no order."""
        values = {
            **({"sort": self.sort} if self.sort != "name" else {}),
            **({"order": "desc"} if self.descending else {}),
            **({"page": self.page} if self.page > 1 else {}),
        }
        return f"?{urlencode(values)}" if values else "./"

    def ordered(self, entries: Sequence[Entry]) -> list[Entry]:
        """Put folders in front, and what is alike in the order of the names."""
        by_name = sorted(entries, key=_as_people_count, reverse=self._reverses("name"))
        if key := _KEYS.get(self.sort):
            by_name.sort(key=key, reverse=self.descending)
        return sorted(by_name, key=lambda entry: not entry.is_folder)

    def _reverses(self, key: str) -> bool:
        return self.sort == key and self.descending


# ---- for programs ----


class JsonEntry(msgspec.Struct):
    """A file or folder, as programs get it."""

    name: str  # for people; a name that is not UTF-8 is only in the link exact
    href: str  # relative to the folder
    type: str  # "file" or "folder"
    size: int | None  # bytes of a file
    modified: str


class JsonListing(msgspec.Struct):
    """A folder, as programs get it."""

    path: str
    entries: list[JsonEntry]
    complete: bool  # false if there is more than is told


def json_listing(names: Sequence[bytes], entries: Sequence[Entry], view: View) -> bytes:
    """Write a listing for programs."""
    listing = JsonListing(
        path_of(names, is_folder=True),
        [
            JsonEntry(
                name=each.name.decode("utf-8", "replace"),
                href=_link(each),
                type="folder" if each.is_folder else "file",
                size=None if each.is_folder else each.size,
                modified=utc(each.modified).isoformat(timespec="milliseconds"),
            )
            for each in view.ordered(entries)
        ],
        complete=len(entries) < MAX_ENTRIES,
    )
    return msgspec.json.encode(listing) + b"\n"


# ---- for people ----

_STATIC: Final = files(__package__).joinpath("static")
_STYLE: Final = _STATIC.joinpath("listing.css").read_text()
_SCRIPT: Final = _STATIC.joinpath("upload.js").read_text()


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


_SHARED_HEADERS: Final = {
    "cache-control": "no-cache",
    "vary": "Accept, Accept-Encoding",
    "x-content-type-options": "nosniff",
}
JSON_HEADERS: Final = {"content-type": "application/json", **_SHARED_HEADERS}
PAGE_HEADERS: Final = {
    **_SHARED_HEADERS,
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": (
        f"default-src 'none'; style-src {_digest(_STYLE)}; script-src {_digest(_SCRIPT)};"
        " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self';"
        " frame-ancestors 'none'"
    ),
    "referrer-policy": "same-origin",  # with less a form would not say from where it is posted
}


def html_listing(
    names: Sequence[bytes], entries: Sequence[Entry], view: View, *, uploads: bool
) -> bytes:
    """Write a listing for a browser, without anything from elsewhere."""
    title = "/" + "".join(f"{shown(name)}/" for name in names)
    pages = max(1, -(-len(entries) // ON_A_PAGE))
    view = replace(view, page=min(view.page, pages))
    first = (view.page - 1) * ON_A_PAGE
    page = view.ordered(entries)[first : first + ON_A_PAGE]
    pieces = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n',
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n",
        f"<h1>{''.join(_crumbs(names))}</h1>\n",
        f"<table>\n<thead><tr>{''.join(_headings(view))}</tr></thead>\n<tbody>\n",
        *([_UP] if names else []),
        *map(_row, page),
        "</tbody>\n</table>\n",
        *(["<p class=empty>This folder is empty.</p>\n"] if not entries else []),
        *(_pager(view, pages) if pages > 1 else []),
        f"<footer>{_summary(entries)}</footer>\n",
        *([f"{_UPLOAD}<script>{_SCRIPT}</script>\n"] if uploads else []),
        "</main>\n</body>\n</html>\n",
    ]
    return "".join(pieces).encode()


_UP: Final = '<tr class=up><td colspan=3><a href="../">Parent folder</a></td></tr>\n'
_UPLOAD: Final = (
    '<form id=upload method=post enctype="multipart/form-data"><label>Upload files'
    " <input type=file name=file multiple></label> <button>Upload</button>"
    " <span hidden>or drop them on this page</span><ul aria-live=polite></ul></form>\n"
)


def _crumbs(names: Sequence[bytes]) -> Iterator[str]:
    yield '<a href="/">home</a>'
    for count, name in enumerate(names, start=1):
        link = escape(path_of(names[:count], is_folder=True))
        yield f'<span>/</span><a href="{link}">{escape(shown(name))}</a>'


def _headings(view: View) -> Iterator[str]:
    for key, label in (("name", "Name"), ("size", "Size"), ("time", "Modified (UTC)")):
        is_sorted = view.sort == key
        # What a first click shows is what one looks for: the largest, the newest.
        turned = not view.descending if is_sorted else key != "name"
        order = ' aria-sort="descending"' if view.descending else ' aria-sort="ascending"'
        link = escape(View(key, turned).query)
        yield f'<th class={key}{order if is_sorted else ""}><a rel=nofollow href="{link}">{label}</a></th>'


def _row(entry: Entry) -> str:
    kind, slash = ("folder", "/") if entry.is_folder else ("file", "")
    size = "" if entry.is_folder else human_size(entry.size)
    exact = "" if entry.is_folder else f' title="{entry.size} bytes"'
    when = utc(entry.modified)
    return (
        f'<tr class={kind}><td class=name><a href="{escape(_link(entry))}">'
        f"{escape(shown(entry.name))}{slash}</a></td><td class=size{exact}>{size}</td>"
        f'<td class=time><time datetime="{when:%Y-%m-%dT%H:%M:%SZ}">{when:%Y-%m-%d %H:%M}</time></td></tr>\n'
    )


def _link(entry: Entry) -> str:
    # With "./" in front no name can be taken for the scheme of a URL.
    return f"./{quoted(entry.name)}{'/' if entry.is_folder else ''}"


def _pager(view: View, pages: int) -> Iterator[str]:
    yield "<nav>"
    if view.page > 1:
        yield f'<a rel=prev href="{escape(replace(view, page=view.page - 1).query)}">Previous</a> '
    yield f"<span>page {view.page} of {pages}</span>"
    if view.page < pages:
        yield f' <a rel=next href="{escape(replace(view, page=view.page + 1).query)}">Next</a>'
    yield "</nav>\n"


def _summary(entries: Sequence[Entry]) -> str:
    found = [entry for entry in entries if not entry.is_folder]
    parts = []
    if folders := len(entries) - len(found):
        parts.append(f"{folders} folder" + ("s" if folders != 1 else ""))
    if found:
        size = human_size(sum(entry.size for entry in found))
        parts.append(f"{len(found)} file" + ("s" if len(found) != 1 else "") + f", {size}")
    more = " and more" if len(entries) >= MAX_ENTRIES else ""
    return (" · ".join(parts) or "nothing") + more
