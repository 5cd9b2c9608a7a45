"""The public interface is what `__all__` says, and nothing else."""

import inspect
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest

import dmsg_trio

ROOT = Path(__file__).parents[2]
PACKAGES = ["client", "discovery", "http", "server", "testing"]


def test_every_public_name_is_there_and_listed_once() -> None:
    assert len(set(dmsg_trio.__all__)) == len(dmsg_trio.__all__)
    for name in dmsg_trio.__all__:
        assert hasattr(dmsg_trio, name)


def test_names_come_from_one_place_each() -> None:
    listed = [name for names in dmsg_trio._PLACES.values() for name in names.split()]
    assert sorted(listed) == sorted(dmsg_trio.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(dmsg_trio, "nonsense")  # noqa: B009 - it is not there for mypy either


@pytest.mark.parametrize("package", PACKAGES)
def test_all_of_a_public_package_is_there(package: str) -> None:
    module = import_module(f"dmsg_trio.{package}")
    for name in module.__all__:
        assert hasattr(module, name)


USED = (property, FunctionType, classmethod, staticmethod)


def own_members(cls: type) -> set[str]:
    """Name what our code lets others do with a class, inherited or not."""
    ours = [vars(base) for base in cls.__mro__ if base.__module__.startswith("dmsg_trio")]
    return {
        name
        for members in ours
        for name, value in members.items()
        if isinstance(value, USED) and not name.startswith("_")
    }


@pytest.mark.parametrize("package", ["", *PACKAGES])
def test_everything_public_says_what_it_does(package: str) -> None:
    module = import_module(f"dmsg_trio.{package}".rstrip("."))
    for name in module.__all__:
        public = getattr(module, name)
        assert public.__doc__, f"{name} has no docstring"
        # What dataclasses without one get is their signature.
        assert not public.__doc__.startswith(f"{name}("), f"{name} has no docstring"
        for member in own_members(public) if isinstance(public, type) else ():
            # Or that of the abstract class which it is one of.
            assert inspect.getdoc(getattr(public, member)), f"{name}.{member} has no docstring"


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
