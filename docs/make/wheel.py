"""Put the manual pages into the wheel: hatchling calls this when it builds one.

They land in ``share/man`` of the environment that the wheel is installed to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface[BuilderConfig]):
    """Makes the pages anew for each wheel, from the same source as ``make man``."""

    def initialize(self, version: str, build_data: dict[str, dict[str, str]]) -> None:
        """Make the pages, and name the places where they belong; a checkout needs none."""
        if version == "editable":
            return
        pages = Path(self.root, "build", "man")
        shutil.rmtree(pages, ignore_errors=True)  # among them may be one of a command that is gone
        subprocess.run(  # noqa: S603 - our own program
            [sys.executable, Path(self.root, "docs", "make", "man.py"), pages],
            env={**os.environ, "PYTHONPATH": self.root},
            check=True,
        )
        for page in sorted(pages.glob("man1/*.1")):
            build_data["shared_data"][str(page)] = f"share/man/man1/{page.name}"
