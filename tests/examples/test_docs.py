"""What README and docs show exists: names that are imported, files that are linked, tests that run."""

import ast
import re
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
import trio
import trio.testing

import dmsg_trio

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "cmd").rglob("*.md")])
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def python_of(page: Path) -> Iterator[ast.Module]:
    for indent, language, code in BLOCK.findall(page.read_text()):
        if language == "python":
            flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            tree = compile(textwrap.dedent(indent + code), name_of(page), "exec", flags)
            assert isinstance(tree, ast.Module)
            yield tree


def anchors_of(page: Path) -> set[str]:
    """The anchors of the headings, as they are made of their words."""
    words = (
        re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(page.read_text())
    )
    return {each.strip().replace(" ", "-") for each in words}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_is_valid_and_uses_names_that_exist(page: Path) -> None:
    for tree in python_of(page):
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=names):
                    for alias in names:
                        assert isinstance(import_module(alias.name), ModuleType)
                case ast.ImportFrom(module=str(module), names=names):
                    for alias in names:
                        assert hasattr(import_module(module), alias.name), (module, alias.name)
                        if module == "dmsg_trio":
                            assert alias.name in dmsg_trio.__all__
                case ast.Attribute(value=ast.Name(id="dmsg_trio"), attr=name):
                    assert hasattr(dmsg_trio, name), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert ROOT in target.parents, link
        if anchor:
            assert anchor in anchors_of(target), link


def shown_in(page: Path) -> dict[str, Callable[[trio.testing.MockClock], Awaitable[None]]]:
    """The tests that a page shows, as pytest would collect them."""
    found: dict[str, object] = {}
    for tree in python_of(page):
        if any(getattr(node, "name", "").startswith("test_") for node in tree.body):
            exec(compile(tree, name_of(page), "exec"), found)
    return {name: test for name, test in found.items() if name.startswith("test_")}  # type: ignore[misc]


SHOWN = shown_in(ROOT / "docs" / "testing.md")


@pytest.mark.parametrize("name", SHOWN)
def test_the_tests_that_are_shown_pass(name: str) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(SHOWN[name], clock, clock=clock)


def test_there_are_pages_and_tests_to_look_at() -> None:
    assert len(PAGES) > 5
    assert SHOWN
