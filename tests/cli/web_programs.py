"""dmsgweb as a program, and what others bring: curl, Chromium, git, pip."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import trio

from dmsg_trio._net.nurseries import open_service_nursery
from tests.cli.running import DMSG, PATIENCE, Done, command, environment, line_of
from tests.waiting import Log


def program(*names: str) -> str:
    """Where a program is that goes by one of these names; without it the test is skipped."""
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.skip(f"there is no {names[0]} on this machine")


@dataclass
class Running:
    """A dmsgweb that is ready."""

    process: trio.Process
    log: Log
    places: list[dict[str, str]]

    @property
    def place(self) -> str:
        """Where its proxy is, host:port."""
        return self.places[0]["proxy"].removeprefix("http://")


@asynccontextmanager
async def dmsgweb(
    *arguments: str | Path, discovery: str, lines: int = 1, env: dict[str, str] | None = None
) -> AsyncIterator[Running]:
    """Run `dmsg web` for the block; it is ready when it has said so many lines."""
    process = await trio.lowlevel.open_process(
        [DMSG, "web", *map(str, arguments), "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment(discovery), **(env or {})},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    log = Log("dmsg web")
    try:
        async with open_service_nursery() as nursery:
            nursery.start_soon(log.read, process.stderr)
            with trio.fail_after(PATIENCE):
                said = [await line_of(process.stdout) for _ in range(lines)]
            places = [cast("dict[str, str]", json.loads(line)) for line in said]
            yield Running(process, log, places)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()


async def curl(*arguments: str) -> Done:
    """Run curl to its end."""
    return await command([program("curl"), "-sS", "--max-time", "30", *arguments])


async def chromium(folder: Path, *arguments: str) -> Done:
    """Run a browser without a screen to its end."""
    browser = program("chromium", "google-chrome", "chromium-browser")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    # Or it asks its maker's sites for this and that, by the proxy as well.
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    words = [*options, *quiet, "--no-first-run", "--window-size=1000,900", *arguments]
    return await command([browser, *words])
