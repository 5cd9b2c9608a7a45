"""The public interface is what `__all__` says, and nothing else."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import dmsg_trio

ROOT = Path(__file__).parents[2]


def test_every_public_name_is_there_and_listed_once() -> None:
    assert len(set(dmsg_trio.__all__)) == len(dmsg_trio.__all__)
    for name in dmsg_trio.__all__:
        assert getattr(dmsg_trio, name).__doc__, f"{name} has no docstring"


def test_names_come_from_one_place_each() -> None:
    listed = [name for names in dmsg_trio._PLACES.values() for name in names.split()]
    assert sorted(listed) == sorted(dmsg_trio.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(dmsg_trio, "nonsense")  # noqa: B009 - it is not there for mypy either


@pytest.mark.parametrize("package", ["client", "discovery", "http", "server", "testing"])
def test_all_of_a_public_package_is_there(package: str) -> None:
    module = import_module(f"dmsg_trio.{package}")
    for name in module.__all__:
        assert hasattr(module, name)


def test_importing_the_package_imports_nothing_slow() -> None:
    """Or `dmsg --help` would wait for it."""
    code = "import sys, dmsg_trio; print('trio' in sys.modules or 'httpx' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.strip() == b"False"


def test_the_version_of_the_changelog_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (
        project["version"] in (ROOT / "CHANGELOG.md").read_text()
        or "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
    )
