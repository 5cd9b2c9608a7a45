"""Wherever a download is killed, the next one makes the right file of what it left."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import pytest

from dmsg_trio.apps.curl import Retries, ToFile, _fetching, _intake, _side_by_side
from tests.apps.curl.sites import Site, code, names, transfer

OLD: Final = random.Random(1).randbytes(9_500)
NEW: Final = random.Random(2).randbytes(9_400)
BEFORE: Final = b"what was there"
STEPS: Final = ("pwrite", "ftruncate", "unlink", "replace")  # all that changes a folder

P = ParamSpec("P")
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fetching, "FIRST_PART", 2_000)
    monkeypatch.setattr(_side_by_side, "SHORTEST_PART", 1_500)
    monkeypatch.setattr(_intake, "REMEMBER_EVERY", -1.0)  # a note after each piece


class Killed:
    """What a folder was before each step, which is all that a killed program leaves."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self.seen: list[dict[str, bytes]] = []
        for name in STEPS:
            monkeypatch.setattr(os, name, self._looking_first(getattr(os, name)))

    def _looking_first(self, step: Callable[P, T]) -> Callable[P, T]:
        def look_and_step(*args: P.args, **options: P.kwargs) -> T:
            self.seen.append({each.name: each.read_bytes() for each in self._folder.iterdir()})
            return step(*args, **options)

        return look_and_step


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("content", [OLD, NEW], ids=["same", "changed"])
async def test_what_a_killed_download_leaves_becomes_the_right_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    streams: int,
    content: bytes,
    autojump_clock: object,
) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "it").write_bytes(BEFORE)
    with monkeypatch.context() as patch:
        killed = Killed(folder, patch)
        site = Site(OLD, breaks_after=[-1 if streams > 1 else 3000, 700, 1200, 300])
        output = ToFile(path=folder / "it")
        report = await transfer(site, output, streams=streams, retries=Retries(times=9))
        assert code(report) == 0
    assert len(killed.seen) > 10
    for number, left in enumerate(killed.seen):
        assert left["it"] in (BEFORE, OLD)
        for others in 1, 4:
            folder = tmp_path / f"{number}-{others}"
            folder.mkdir()
            for name, data in left.items():
                (folder / name).write_bytes(data)
            now = Site(content, etag='"one"' if content is OLD else '"two"')
            output = ToFile(path=folder / "it", goes_on=True)
            assert code(await transfer(now, output, streams=others)) == 0, left
            assert (folder / "it").read_bytes() == content, (number, others)
            assert names(folder) == ["it"]
            shutil.rmtree(folder)
