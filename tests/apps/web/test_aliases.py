"""Names for addresses, in a file."""

from pathlib import Path

import pytest

from dmsg_trio._address import Address
from dmsg_trio._errors import ConfigError
from dmsg_trio._files import MAX_SETTINGS
from dmsg_trio.apps.web import Aliases
from dmsg_trio.apps.web._aliases import parse_aliases
from tests.cli.running import NOBODY


@pytest.mark.parametrize(
    "line",
    [
        f"home = {NOBODY}:8080",
        f"  HOME={NOBODY}:8080  # mine",
        f'home = "{NOBODY}:8080"',
        f"\"home\" = '{NOBODY}:8080'# mine",
        f"home.dmsg = {NOBODY}:8080",
        f"[aliases]\n# mine\n\nhome = {NOBODY}:8080\r\n",
    ],
)
def test_a_line_is_a_name_and_an_address(line: str) -> None:
    assert parse_aliases(line.encode(), "f") == {"home": Address.parse(f"{NOBODY}:8080")}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("home", "line 1: not name = PK"),
        ("\n\nhome = x", "line 3: a public key is 66 hex digits"),
        (f"home = {NOBODY}:99999", "line 1: a port is 0 to 65535"),
        (f"ho me = {NOBODY}", "line 1"),
        (f"-home = {NOBODY}", "line 1: '-home' is no name of a host"),
        (f"höme = {NOBODY}", "is no name of a host"),
        (f"a = {NOBODY}\nA = {NOBODY}", "line 2: a was named before"),
        (f"{NOBODY} = {NOBODY}", "line 1: a key is no name"),
        (f"{NOBODY[:33]}.{NOBODY[33:]} = {NOBODY}", "line 1: a key is no name"),
        (f"home = {NOBODY} {NOBODY}", "line 1"),
    ],
)
def test_a_wrong_line_is_named(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        parse_aliases(text.encode(), "f")


def test_a_file_that_cannot_be_read_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        Aliases(tmp_path / "nothing")
    (path := tmp_path / "f").write_bytes(b"#" * (MAX_SETTINGS + 1))
    with pytest.raises(ConfigError, match="larger"):
        Aliases(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="no text"):
        Aliases(path)


def test_a_file_that_is_gone_later_on_changes_nothing(tmp_path: Path) -> None:
    (path := tmp_path / "f").write_text(f"home = {NOBODY}")
    aliases = Aliases(path)
    path.unlink()
    aliases.reload()
    assert "cannot read" in aliases.fault
    assert list(aliases.table) == ["home"]
    path.write_text("")
    aliases.reload()
    assert (aliases.fault, aliases.table) == ("", {})
