"""The list of keys that may go out, in a file that changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio.apps.socks5 import AllowList
from dmsg_trio.apps.socks5._allow import LOOK_EVERY, MAX_FILE_SIZE
from tests.waiting import hearing

ADA, BOB = SecretKey.generate().pk, SecretKey.generate().pk


def listed(folder: Path, text: str) -> Path:
    path = folder / "keys"
    path.touch(0o600)
    path.write_text(text)
    return path


def test_keys_are_of_the_file_or_given(tmp_path: Path) -> None:
    allow = AllowList(listed(tmp_path, f"\n# friends\n {ADA} # Ada\n\n"), given=[BOB, ADA])
    assert ADA in allow
    assert BOB in allow
    assert SecretKey.generate().pk not in allow
    assert len(allow) == 2
    assert ADA not in AllowList()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{ADA}\n{ADA}x\n", "line 2: "),
        ("\udcff\0".encode(errors="surrogateescape").decode(errors="replace"), "line 1: "),
        ("#" * (MAX_FILE_SIZE + 1), "is larger than"),
    ],
)
def test_a_file_that_is_wrong_is_an_error(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        AllowList(listed(tmp_path, text))


def test_what_others_can_write_to_is_no_list(tmp_path: Path) -> None:
    path = listed(tmp_path, "")
    path.chmod(0o660)
    with pytest.raises(ConfigError, match=r"others can write to .*: chmod go-w "):
        AllowList(path)


def test_what_is_no_file_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        AllowList(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"cannot read|not a regular file"):
        AllowList(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        AllowList(tmp_path / "pipe")


async def test_who_is_taken_out_is_cut_off_soon_and_nobody_else_is(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = listed(tmp_path, f"{ADA}\n{BOB}\n")
    allow = AllowList(path, given=[BOB])
    ended: list[tuple[str, float]] = []

    async def stay(name: str, pk: PublicKey) -> None:
        with allow.while_allowed(pk):
            await trio.Event().wait()
        ended.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(allow.watch)
        for name, pk in ("Ada", ADA), ("Ada again", ADA), ("Bob", BOB):
            nursery.start_soon(stay, name, pk)
        await trio.sleep(10)
        began = trio.current_time()
        path.write_text("")
        await trio.sleep(10)
        assert sorted(name for name, _ in ended) == ["Ada", "Ada again"]
        assert all(when - began <= LOOK_EVERY for _, when in ended)
        with allow.while_allowed(ADA) as scope:
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_a_file_that_goes_away_or_wrong_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = listed(tmp_path, f"{ADA}\n")
    allow = AllowList(path)
    with hearing("dmsg_trio.socks5") as log:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(allow.watch)
            path.rename(tmp_path / "away")
            await trio.sleep(10)
            assert ADA in allow
            assert log.text.count("cannot read") == 1
            (tmp_path / "away").rename(path)
            await trio.sleep(10)
            path.write_text(f"{BOB}\n")
            await trio.sleep(10)
            assert ADA not in allow
            assert BOB in allow
            nursery.cancel_scope.cancel()
