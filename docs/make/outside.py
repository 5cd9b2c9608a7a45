"""Make pages of the site from what lies outside of docs/ and is linked: examples, programs, sources.

So one link leads somewhere on the repository's page and in the site. MkDocs calls the functions
whose names begin with ``on_``.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = "docs/"
# What the menu names.
MENU: Final = ("CHANGELOG.md", "bench/README.md", "cmd/README.md", "examples")
LINK: Final = re.compile(r"(\]\()([^)\s]+)(\))")
FENCE: Final = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for all that is linked, and for what these pages link in turn."""
    known = {_source_of(each.src_uri) for each in files.documentation_pages()}
    waiting = [*MENU, *(target for source in sorted(known) for target in _links_of(source))]
    while waiting:
        source = waiting.pop()
        if source not in known and not source.startswith(DOCS):
            known.add(source)
            files.append(File.generated(config, _uri_of(source), content=_page_of(source)))
            waiting += _links_of(source)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages of the site, and the search find what was written to be read first."""
    if page.file.src_uri.startswith("api/"):
        page.meta["search"] = {"boost": 0.5}
    elif page.file.src_uri.endswith(".py.md"):
        page.meta["search"] = {"exclude": True}
    return _rewritten(markdown, page.file.src_uri)


# ---- paths in the repository, and the pages of the site that show them ----


def _uri_of(source: str) -> str:
    path = source.removeprefix(DOCS)
    if (ROOT / source).is_dir():
        return f"{path}/index.md"
    return path if path.endswith(".md") or source.startswith(DOCS) else f"{path}.md"


def _source_of(uri: str) -> str:
    """Undo `_uri_of`."""
    if (ROOT / DOCS / uri).exists():
        return DOCS + uri
    if (ROOT / uri).exists():
        return uri
    return uri.removesuffix("/index.md") if uri.endswith("/index.md") else uri.removesuffix(".md")


def _page_of(source: str) -> str:
    path = ROOT / source
    if path.is_dir():
        return _list_of(path)
    if path.suffix == ".md":
        return path.read_text()
    return f"# {path.name}\n\n`{source}`\n\n```python\n{path.read_text()}```\n"


def _list_of(folder: Path) -> str:
    """List the programs of a folder, each with the first line that it says about itself."""
    lines = [
        f"- [{path.name}]({path.name}): {(ast.get_docstring(ast.parse(path.read_text())) or '').splitlines()[0]}"
        for path in sorted(folder.glob("*.py"))
    ]
    return f"# {folder.name.capitalize()}\n\n" + "\n".join(lines) + "\n"


# ---- links ----


def _links_of(source: str) -> Iterator[str]:
    """Name what a page links, by its path in the repository."""
    path = ROOT / source
    if path.is_dir() or path.suffix != ".md":
        text = _page_of(source)
    else:
        text = FENCE.sub("", path.read_text())
    for _, link, _ in LINK.findall(text):
        if target := _target_of(link, _uri_of(source)):
            yield target


def _rewritten(markdown: str, uri: str) -> str:
    def rewrite(match: re.Match[str]) -> str:
        before, link, after = match.groups()
        target = _target_of(link, uri)
        if target is None:
            return match.group()
        _, mark, anchor = link.partition("#")
        relative = posixpath.relpath(_uri_of(target), posixpath.dirname(uri) or ".")
        return f"{before}{relative}{mark}{anchor}{after}"

    parts = FENCE.split(markdown)
    return "".join(
        part if number % 2 else LINK.sub(rewrite, part) for number, part in enumerate(parts)
    )


def _target_of(link: str, uri: str) -> str | None:
    """Find what a link on a page leads to, or None if that is not a file of the repository."""
    path = link.partition("#")[0]
    if not path or "://" in link or link.startswith("mailto:"):
        return None
    source = _source_of(uri)
    folder = source if (ROOT / source).is_dir() else posixpath.dirname(source)
    target = posixpath.normpath(posixpath.join(folder, path))
    return target if (ROOT / target).exists() else None
