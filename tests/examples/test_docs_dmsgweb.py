"""The lines of the page about dmsgweb work when they are pasted."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from tests.cli.running import DMSG, environment, network
from tests.examples.test_docs_commands import ROOT, SHELL

PATIENCE = 120  # seconds for all of it: a dozen programs start

pytestmark = pytest.mark.network


async def test_lines_about_the_web_work(tmp_path: Path) -> None:
    lines = "".join(SHELL.findall((ROOT / "docs/dmsgweb.md").read_text()))
    said, faults = tmp_path / "said", tmp_path / "faults"
    (home := tmp_path / "home").mkdir()
    async with network() as up:
        env = environment(up.ready.discovery)
        env |= {"PATH": f"{Path(DMSG).parent}:{os.environ['PATH']}", "HOME": str(home)}
        with said.open("wb") as out, faults.open("wb") as err:
            process = await trio.lowlevel.open_process(
                ["sh", "-euc", lines],
                stdout=out,
                stderr=err,
                cwd=home,
                env=env,
                start_new_session=True,
            )
        try:
            with trio.fail_after(PATIENCE):
                code = await process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what the lines left behind
    assert code == 0, faults.read_text()
    text = said.read_text()
    assert text.count("hello from a key\n") == 5
    assert text.count("401 Unauthorized") == 1
    assert "function FindProxyForURL" in text
    assert "pac      http://127.0.0.1:4445/proxy.pac" in text
