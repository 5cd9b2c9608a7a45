"""The manual says what the programs say, in a form that the readers of manuals understand."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from typer.core import TyperOption

from docs.make import man

SCRIPTS = tomllib.loads((man.ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMSG_CONFIG", "")  # set by `main`, so put back afterwards
        man.main(folder)
    return folder / "man1"


def test_each_program_and_each_command_has_a_page(pages: Path) -> None:
    names = {page.stem for page in pages.iterdir()}
    assert names >= SCRIPTS.keys()
    assert names >= {"dmsg-ping", "dmsg-keys", "dmsg-status", "dmsg-up"}
    assert "dmsg-curl" not in names  # which is dmsgcurl


def test_a_wheel_carries_all_pages(pages: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=man.ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        carried = {
            Path(name).name: file.read(name).decode()
            for name in file.namelist()
            if ".data/data/share/man/man1/" in name
        }
    assert carried == {page.name: page.read_text() for page in pages.iterdir()}


def test_all_options_are_there_with_their_variables(pages: Path) -> None:
    for program in man.all_programs():
        page = (pages / f"{program.name}.1").read_text()
        for each in program.command.params:
            if isinstance(each, TyperOption) and not each.hidden:
                for option in each.opts:
                    assert man.text(option) in page, (program.name, option)
                if isinstance(each.envvar, str):
                    assert man.text(each.envvar) in page


def test_variables_with_keys_are_named(pages: Path) -> None:
    assert r"\fBDMSGIP_SK\fR" in (pages / "dmsgip.1").read_text()
    assert r"\fBDMSGSK\fR" in (pages / "dmsg-socks5.1").read_text()
    for name in ("dmsg-ping", "dmsg-server", "dmsgpty-cli", "dmsgweb"):
        assert r"\fBDMSG_SK\fR" in (pages / f"{name}.1").read_text()
    assert "_SK" not in (pages / "dmsg-up.1").read_text()


def test_no_page_has_to_guess_what_it_is(pages: Path) -> None:
    for page in pages.iterdir():
        text = page.read_text()
        for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "FILES", "SEE ALSO"):
            assert f".SH {heading}\n" in text, page.name
        assert text.isascii()


def exit_status(page: Path) -> str:
    return page.read_text().split(".SH EXIT STATUS\n")[1].split(".SH ")[0]


def test_exit_codes_are_those_of_the_program(pages: Path) -> None:
    assert "Wrong usage" in exit_status(pages / "dmsg-up.1")
    assert "3 if they see different" in exit_status(pages / "dmsgip.1")
    assert exit_status(pages / "dmsgcurl.1") == "Options and exit codes are those of curl.\n"


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("--help", r"\-\-help"),
        (".so /etc/passwd", r"\&.so /etc/passwd"),
        ("one\n.two", "one\n\\&.two"),
        ("'dmsg keys'", r"\(aqdmsg keys\(aq"),
        ("C:\\new", r"C:\enew"),
        ("PK,…", r"PK,\[u2026]"),
        ("~ ^ `", r"\(ti \(ha \(ga"),
    ],
)
def test_words_stay_words(words: str, written: str) -> None:
    assert man.text(words) == written


def test_the_formatter_has_nothing_to_say_against_the_pages(pages: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff on this machine")
    for page in sorted(pages.iterdir()):
        made = subprocess.run(
            ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", page],
            capture_output=True,
            text=True,
            check=True,
        )
        assert made.stderr == ""
        assert "--help" in made.stdout
