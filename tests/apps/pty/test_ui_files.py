"""The files of the page: they are there, they are what they say, and they load nothing else."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import pytest

from dmsg_trio.apps.pty import ui
from dmsg_trio.apps.pty.ui._files import PREFIX, read_files

STATIC = files(ui).joinpath("static")
SUMS = STATIC.joinpath("xterm/SHA256SUMS").read_text().splitlines()


@pytest.mark.parametrize("line", SUMS)
def test_files_of_others_are_unchanged(line: str) -> None:
    digest, name = line.split()
    assert hashlib.sha256(STATIC.joinpath("xterm", name).read_bytes()).hexdigest() == digest


def test_each_file_of_others_has_its_licence() -> None:
    folder = STATIC.joinpath("xterm")
    names = {each.name for each in folder.iterdir()}
    for name in (each for each in names if each.endswith(".mjs")):
        licence = folder.joinpath(name.replace(".mjs", ".LICENSE")).read_text()
        assert "The xterm.js authors" in licence


def test_what_the_page_names_is_there() -> None:
    served = read_files()
    page = served[""].body.decode()
    named = set(re.findall(r'(?:href|src)="([^"]+)"', page))
    assert named
    assert named <= served.keys()
    script = served[PREFIX + "page.js"].body.decode()
    imported = {PREFIX + name for name in re.findall(r'from "\./([^"]+)"', script)}
    assert imported
    assert imported <= served.keys()
    assert not [path for path in served if path.endswith((".py", ".md", "LICENSE"))]
