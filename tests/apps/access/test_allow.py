"""A list of keys in a file that changes, and those who are cut off."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import MAX_SETTINGS
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio.apps.access import AllowList, WatchedFile, admission
from tests.waiting import PATIENCE, hearing

ADA, BOB = SecretKey.generate().pk, SecretKey.generate().pk
LOG = "dmsg_trio.access"


def listed(folder: Path, text: str) -> Path:
    path = folder / "keys"
    path.touch(0o600)
    path.write_text(text)
    return path


# ---- what a list says ----


def test_keys_are_of_the_file_or_given(tmp_path: Path) -> None:
    allow = AllowList(listed(tmp_path, f"\n# friends\n {ADA} # Ada\n\n"), given=[BOB, ADA])
    assert ADA in allow
    assert BOB in allow
    assert SecretKey.generate().pk not in allow
    assert len(allow) == 2
    assert ADA not in AllowList()


def test_keys_on_one_line_have_commas_between_them(tmp_path: Path) -> None:
    assert AllowList(listed(tmp_path, f"{ADA}, {BOB},\n")).keys == (ADA, BOB)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{ADA}\n{ADA}x\n", "line 2: "),
        ("\udcff\0".encode(errors="surrogateescape").decode(errors="replace"), "line 1: "),
        ("#" * (MAX_SETTINGS + 1), "is larger than"),
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
    with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
        AllowList(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        AllowList(tmp_path / "pipe")


# ---- a list that changes ----


async def test_who_is_taken_out_is_cut_off_at_once_and_nobody_else_is(tmp_path: Path) -> None:
    path = listed(tmp_path, f"{ADA}\n{BOB}\n")
    allow = AllowList(path, given=[BOB])
    ended: list[str] = []

    async def stay(
        name: str, pk: PublicKey, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with allow.while_allowed(pk) as scope:
            task_status.started()
            await trio.Event().wait()
        assert scope.cancelled_caught
        ended.append(name)
        if len(ended) == 2:
            both.set()

    both = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(allow.watch)
        for name, pk in ("Ada", ADA), ("Ada again", ADA), ("Bob", BOB):
            await nursery.start(stay, name, pk)
        path.write_text("")
        with trio.fail_after(PATIENCE):
            await both.wait()
        assert sorted(ended) == ["Ada", "Ada again"]
        with allow.while_allowed(ADA) as scope:
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_a_file_that_goes_away_or_wrong_changes_nothing(tmp_path: Path) -> None:
    path = listed(tmp_path, f"{ADA}\n")
    allow = AllowList(path)
    with hearing(LOG) as log:
        async with trio.open_nursery() as nursery:
            await nursery.start(allow.watch)
            path.rename(tmp_path / "away")
            await log.said("cannot read .*No such file.*; the 1 keys read before still count")
            assert ADA in allow
            (tmp_path / "away").rename(path)
            await log.said("is understood again: 1 keys")
            path.write_text(f"{BOB}\nnobody\n")
            await log.said("line 2: .*; the 1 keys read before still count")
            assert BOB not in allow
            path.write_text(f"{BOB}\n")
            await log.said(f"{ADA} may not come any more")
            assert ADA not in allow
            assert BOB in allow
            nursery.cancel_scope.cancel()
    assert log.text.count("cannot read") == 1


async def test_keys_that_were_given_can_be_taken_back(tmp_path: Path) -> None:
    allow = AllowList(listed(tmp_path, f"{ADA}\n"))
    allow.give([ADA, BOB])
    with allow.while_allowed(ADA) as here, allow.while_allowed(BOB) as gone:
        allow.take_back([ADA, BOB])
        assert gone.cancel_called
        assert not here.cancel_called  # the file names her
        await trio.lowlevel.checkpoint()
    assert gone.cancelled_caught
    assert allow.keys == (ADA,)


async def test_a_list_without_a_file_waits_for_nothing() -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(AllowList(given=[ADA]).watch)
        nursery.cancel_scope.cancel()


# ---- other files ----


def words(data: bytes) -> list[bytes]:
    if b"!" in data:
        raise ConfigError("no exclamations")
    return data.split()


async def test_any_file_is_followed_as_it_changes(tmp_path: Path) -> None:
    path = listed(tmp_path, "one two")
    file = WatchedFile(path, words, things="words")
    with hearing(LOG) as log:
        async with trio.open_nursery() as nursery:
            await nursery.start(file.watch)
            path.write_text("three!")
            await log.said("no exclamations; the 2 words read before still count")
            assert (file.value, file.fault) == ([b"one", b"two"], "no exclamations")
            path.write_text("three")
            await log.said("is understood again: 1 words")
            assert (file.value, file.fault) == ([b"three"], "")
            nursery.cancel_scope.cancel()


def test_a_file_may_come_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    nothing: list[bytes] = []
    file = WatchedFile(tmp_path / "keys", words, things="words", absent=nothing)
    file.reload()
    assert (file.value, file.fault, caplog.text) == ([], "", "")
    listed(tmp_path, "one")
    file.reload()
    assert file.value == [b"one"]


# ---- what apps ask ----


async def test_keys_are_a_list_and_nothing_is_everybody() -> None:
    few, all_, nobody = admission([ADA]), admission(None), admission(())
    assert [[pk in each for pk in (ADA, BOB)] for each in (few, all_, nobody)] == [
        [True, False],
        [True, True],
        [False, False],
    ]
    with all_.while_allowed(BOB):
        await trio.lowlevel.checkpoint()
    assert admission(few) is few
