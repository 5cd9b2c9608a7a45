"""Resolve the newest versions of all that the project needs, and write them down with hashes.

`pip-compile` knows no dependency groups, so the names are gathered here from pyproject.toml. The
lock names no index and no path: it says the same wherever it was made.
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LOCKS: Final = Path(__file__).parent
PROJECT: Final = tomllib.loads((LOCKS.parent / "pyproject.toml").read_text())
GROUPS: Final = PROJECT["dependency-groups"]

OPTIONS: Final = [
    "--quiet", "--upgrade", "--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-header",
    "--no-annotate", "--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links",
    "--no-emit-options",
]  # fmt: skip


def group(name: str) -> Iterator[str]:
    """List what a dependency group asks for, with the groups that it includes."""
    for item in GROUPS[name]:
        if isinstance(item, str):
            yield item
        else:
            yield from group(item["include-group"])


def main() -> None:
    """Write the locks anew, with tools in an environment that is thrown away."""
    everything = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["redis"],
        *group("dev"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "pip-tools")
        lists = {"dev": everything, "fuzz": [*group("fuzz")], "docs": [*group("docs")]}
        for name, wanted in lists.items():
            source = Path(folder) / f"{name}.in"
            source.write_text("\n".join(wanted) + "\n")
            run(python, "-m", "piptools", "compile", *OPTIONS, "-o", LOCKS / f"{name}.txt", source)


def run(*words: str | Path) -> None:
    """Run a tool, and end where it fails."""
    if code := subprocess.run(words, check=False).returncode:  # noqa: S603 - our own words
        sys.exit(code)


if __name__ == "__main__":
    main()
