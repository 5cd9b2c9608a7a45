"""Listings: for programs exact, for people harmless."""

import gzip
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio.apps.files import FilesApp, UploadOptions
from dmsg_trio.apps.files._listing import (
    MAX_ENTRIES,
    ON_A_PAGE,
    View,
    html_listing,
    human_size,
    json_listing,
    shown,
)
from dmsg_trio.apps.files._target import target_untrusted
from dmsg_trio.apps.files._tree import Entry
from tests.apps.files.asking import ask

ODD = [
    b"<script>alert(1)<",
    b"a&b \"quoted\" 'x'.txt",
    b"latin-1 \xe9.txt",
    b"new\nline.txt",
    b"esc\x1b[31mred.txt",
    "rtl \u202egnp.exe".encode(),
    b"javascript:alert(1)",
    b"100% real#hash?query.txt",
    b"back\\slash.txt",
    "日本語 🚀.md".encode(),
    b"  spaces  ",
    b"http:",
    b"x" * 255,
]


class Page(HTMLParser):
    """What a browser makes of a page: its links, with their text."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self.tags: list[str] = []
        self.text = ""
        self._link: str | None = None
        self.feed(html.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "a":
            self._link = dict(attrs)["href"] or ""
            self.links[self._link] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._link = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._link is not None:
            self.links[self._link] += data

    @property
    def names(self) -> list[str]:
        return [text for link, text in self.links.items() if link.startswith("./") and link != "./"]


def write_odd_files(folder: Path) -> None:
    """Make a file for each odd name, with the name in it."""
    for name in ODD:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_odd_files(tmp_path)
    return tmp_path


async def test_each_link_leads_to_its_file_whatever_its_name(root: Path) -> None:
    app = FilesApp(str(root))
    page = Page((await ask(app, "/")).body)
    found = [
        (await ask(app, f"/{link.removeprefix('./')}")).body
        for link in page.links
        if link.startswith("./") and link != "./"
    ]
    assert sorted(found) == sorted(ODD)
    listing = json.loads((await ask(app, "/", headers={"Accept": "application/json"})).body)
    links = [entry["href"] for entry in listing["entries"]]
    found = [(await ask(app, f"/{link.removeprefix('./')}")).body for link in links]
    assert sorted(found) == sorted(ODD)


async def test_no_name_does_anything_to_the_page(root: Path) -> None:
    reply = await ask(FilesApp(str(root)), "/")
    page = Page(reply.body)
    assert "script" not in page.tags
    assert page.text.isprintable() or all(c.isprintable() or c == "\n" for c in page.text)
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_uploads_have_a_place_on_the_page_if_they_are_taken(root: Path) -> None:
    app = FilesApp(str(root), uploads=UploadOptions(max_size=10))
    assert "script" in Page((await ask(app, "/")).body).tags


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/json", True),
        ("application/json, */*;q=0.5", True),
        ("text/html, application/json;q=0.9", False),
        ("application/json;q=0", False),
    ],
)
async def test_programs_get_json_if_they_ask_for_it(root: Path, accept: str, is_json: bool) -> None:
    reply = await ask(FilesApp(str(root)), "/", headers={"Accept": accept})
    assert (reply.headers["content-type"] == "application/json") == is_json
    assert reply.headers["vary"] == "Accept, Accept-Encoding"


async def test_json_tells_all_of_an_entry(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("hello")
    (tmp_path / "sub" / "more").mkdir()
    for name in ("a.txt", "more"):
        os.utime(tmp_path / "sub" / name, (1_700_000_000, 1_700_000_000.5))
    reply = await ask(FilesApp(str(tmp_path)), "/sub/", headers={"Accept": "application/json"})
    modified = "2023-11-14T22:13:20.500+00:00"
    assert json.loads(reply.body) == {
        "path": "/sub/",
        "entries": [
            {
                "name": "more",
                "href": "./more/",
                "type": "folder",
                "size": None,
                "modified": modified,
            },
            {"name": "a.txt", "href": "./a.txt", "type": "file", "size": 5, "modified": modified},
        ],
        "complete": True,
    }


# ---- order ----

ENTRIES = [
    Entry(b"photo-10.jpg", False, 5, 100.0),
    Entry(b"photo-9.jpg", False, 7, 300.0),
    Entry(b"Alpha.txt", False, 5, 200.0),
    Entry(b"zoo", True, 4096, 50.0),
    Entry(b"beta.txt", False, 1, 400.0),
]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "zoo Alpha.txt beta.txt photo-9.jpg photo-10.jpg"),
        ("order=desc", "zoo photo-10.jpg photo-9.jpg beta.txt Alpha.txt"),
        ("sort=size", "zoo beta.txt Alpha.txt photo-10.jpg photo-9.jpg"),
        ("sort=size&order=desc", "zoo photo-9.jpg Alpha.txt photo-10.jpg beta.txt"),
        ("sort=time&order=desc", "zoo beta.txt photo-9.jpg Alpha.txt photo-10.jpg"),
        ("sort=nonsense&order=&page=-1", "zoo Alpha.txt beta.txt photo-9.jpg photo-10.jpg"),
    ],
)
def test_entries_have_the_order_that_is_asked_for(query: str, names: str) -> None:
    view = View.parse_untrusted(query)
    assert [os.fsdecode(entry.name) for entry in view.ordered(ENTRIES)] == names.split()
    page = Page(html_listing([b"x"], ENTRIES, view, uploads=False))
    assert [name.removesuffix("/") for name in page.names] == names.split()


def test_headings_and_crumbs_are_links() -> None:
    page = Page(html_listing([b"a b", b"c"], ENTRIES, View(), uploads=False))
    assert page.links["/"] == "home"
    assert page.links["/a%20b/"] == "a b"
    assert page.links["/a%20b/c/"] == "c"
    assert page.links["?order=desc"] == "Name"
    assert page.links["?sort=size&order=desc"] == "Size"
    assert "../" in page.links
    assert "../" not in Page(html_listing([], ENTRIES, View(), uploads=False)).links


def test_large_folders_come_in_pages() -> None:
    entries = [Entry(str(number).encode(), False, 1, 0.0) for number in range(ON_A_PAGE * 2 + 5)]
    seen: list[str] = []
    for number in (1, 2, 3):
        page = Page(html_listing([], entries, View(page=number), uploads=False))
        seen += page.names
        assert ("?page=2" in page.links) == (number != 2)
        assert ("?page=3" in page.links) == (number == 2)
    assert seen == [str(number) for number in range(len(entries))]
    beyond = Page(html_listing([], entries, View(page=99), uploads=False))
    assert len(beyond.names) == 5


def test_it_is_said_if_there_is_more() -> None:
    entries = [Entry(b"x", False, 1, 0.0)] * MAX_ENTRIES
    assert "and more" in Page(html_listing([], entries, View(), uploads=False)).text
    assert json.loads(json_listing([], entries, View()))["complete"] is False


def test_an_empty_folder_says_so() -> None:
    assert "empty" in Page(html_listing([], [], View(), uploads=False)).text


@given(st.text(max_size=50) | st.integers(0, 50).map(lambda count: "a=1&" * count))
def test_whatever_stands_in_a_query_is_a_view(query: str) -> None:
    view = View.parse_untrusted(query)
    assert View.parse_untrusted(view.query.removeprefix("?")) == view


@given(
    st.binary(min_size=1, max_size=30).filter(lambda name: b"/" not in name and b"\0" not in name),
    st.integers(0, 2**63),
    st.floats(-1e15, 1e15),
)
def test_any_entry_can_be_shown(name: bytes, size: int, modified: float) -> None:
    page = Page(html_listing([], [Entry(name, False, size, modified)], View(), uploads=False))
    (link,) = [link for link in page.links if link.startswith("./") and page.links[link]
               and link != "./"]  # fmt: skip
    if name not in (b".", b".."):
        assert target_untrusted(link.removeprefix(".").encode()).names == (name,)
    assert page.links[link] == shown(name)
    json_listing([], [Entry(name, False, size, modified)], View())


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (5 * 10**12, "5.0 TB"),
        (2**63, "9223.4 PB"),
    ],
)
def test_sizes_are_said_as_people_do(number: int, text: str) -> None:
    assert human_size(number) == text


async def test_a_listing_is_compressed_for_who_takes_that(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.txt").touch()
    app = FilesApp(str(tmp_path))
    for accept in ("text/html", "application/json"):
        plain = await ask(app, "/", headers={"accept": accept})
        packed = await ask(app, "/", headers={"accept": accept, "accept-encoding": "gzip"})
        assert gzip.decompress(packed.body) == plain.body
        assert len(packed.body) < len(plain.body) / 5
        assert plain.headers["vary"] == packed.headers["vary"] == "Accept, Accept-Encoding"
