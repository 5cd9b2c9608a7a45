"""`make docs` makes a site of which nothing is missing, and which needs no network."""

import dataclasses
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import is_dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from dmsg_trio import DmsgError, DmsgStream

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MENU = (ROOT / "mkdocs.yml").read_text()
REFERENCE = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
# What a browser loads on its own.
LOADED = re.compile(r"""<(?:script|img|iframe)[^>]*src="([^"]*)|<link[^>]*href="([^"]*)""")


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.name))
def test_each_page_is_in_the_menu_once(page: Path) -> None:
    assert MENU.count(f": {page.relative_to(DOCS)}\n") == 1


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: str(page.name))
def test_each_page_has_one_title_and_no_gap_between_its_headings(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("package", ["", ".http", ".discovery", ".server", ".testing"])
def test_each_public_name_is_in_the_reference(package: str) -> None:
    module = import_module(f"dmsg_trio{package}")
    for name in module.__all__:
        assert f"::: dmsg_trio{package}.{name}\n" in REFERENCE


@pytest.mark.parametrize("name", re.findall(r"^::: (\S+)", REFERENCE, re.MULTILINE))
def test_each_public_member_is_described_in_the_reference(name: str) -> None:
    module, _, last = name.rpartition(".")
    thing = getattr(import_module(module), last)
    described = inspect.getdoc(thing)
    assert described
    if not isinstance(thing, type):
        return
    for member in (value for key, value in vars(thing).items() if not key.startswith("_")):
        if inspect.isroutine(member) or isinstance(member, property):
            assert inspect.getdoc(member), member
    fields = [each.name for each in dataclasses.fields(thing)] if is_dataclass(thing) else []
    tells = issubclass(thing, DmsgError | DmsgStream) and "__init__" in vars(thing)
    made = inspect.getsource(thing) if tells else ""
    after = REFERENCE.split(f"::: {name}\n")[1].split(":::")[0]
    for field in [*fields, *re.findall(r"self\.([a-z]\w*) =", made)]:
        assert re.search(rf"\b{field}\b", described + after), field


def test_the_layers_are_drawn_as_they_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    checked = [
        name.strip().removeprefix("dmsg_trio.")
        for layer in contracts["contracts"][0]["layers"]
        for name in layer.split("|")
    ]
    drawing = (DOCS / "design.md").read_text().split("```")[1]
    drawn = re.findall(r"^ (\w+) ", drawing, re.MULTILINE)
    assert [*drawn[:-1], "_address", "_keys", "_errors"] == checked
    assert drawn[-1] == "values"


def test_the_site_can_be_made_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None:
        pytest.skip("MkDocs comes with `make docs`")
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert tmp_path / "api" / "dmsg_trio.html" in pages
    assert tmp_path / "examples" / "hello.py.html" in pages
    for page in pages:
        loaded = ["".join(found) for found in LOADED.findall(page.read_text())]
        assert loaded
        assert not [each for each in loaded if "//" in each], page
    client = (tmp_path / "api" / "dmsg_trio.html").read_text()
    assert "Be a client for the block" in client  # of a name that is imported when it is first used
