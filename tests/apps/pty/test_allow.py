"""The allow list: what the file says counts, at once, and nothing of the file is ever lost."""

# ruff: noqa: ASYNC240 - a test may wait for a small file

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import MAX_SETTINGS
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio.apps.access import _changes
from dmsg_trio.apps.pty.host._allow import AllowList, AlreadyAllowedError
from tests.waiting import PATIENCE

A, B, C = (SecretKey(bytes([n]) * 32).pk for n in (1, 2, 3))
OLD = 10**18  # nanoseconds; a file of that time was not written just now


def write(path: Path, *keys: PublicKey | str, **others: object) -> None:
    path.write_text(json.dumps({**others, "wl": [str(pk) for pk in keys]}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    write(path, A)
    return path


# ---- reading ----


@pytest.mark.parametrize("content", ["{}", '{"wl": null}', '{"wl": []}'])
def test_an_empty_list_is_nobody(path: Path, content: str) -> None:
    path.write_text(content)
    allow = AllowList(path)
    assert allow.keys == ()
    assert A not in allow


def test_a_file_that_is_not_there_is_nobody(tmp_path: Path) -> None:
    assert AllowList(tmp_path / "none.json").keys == ()


def test_each_question_reads_a_file_that_changed(path: Path) -> None:
    allow = AllowList(path)
    assert A in allow
    write(path, B)
    assert A not in allow
    assert B in allow
    write(path)
    assert allow.keys == ()


def test_a_change_within_one_tick_of_the_clock_is_seen(path: Path) -> None:
    allow = AllowList(path)
    before = path.stat()
    path.write_text(path.read_text().replace(str(A), str(B)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert allow.keys == (B,)


def test_a_settled_file_is_not_read_for_each_question(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow = AllowList(path, wall_clock=lambda: 10 * OLD)

    def no_open(*_: object) -> int:
        raise AssertionError("read again")

    monkeypatch.setattr("os.open", no_open)
    assert A in allow


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "Input data was truncated"),
        ('{"wl"', "truncated"),
        ("[1]", "Expected `object`"),
        ('{"wl": [1]}', "wl[0]: Expected `str`, got `int`"),
        ('{"wl": "a"}', "wl: Expected `array | null`"),
        (f'{{"wl": ["{A}", "02"]}}', "wl[1]: a public key is 66 hex digits, not 2"),
        ('{"a":' + "[" * 10**5 + "]" * 10**5 + "}", "not a JSON object"),
        (" " * (MAX_SETTINGS + 1), f"larger than {MAX_SETTINGS} bytes"),
    ],
)
def test_a_broken_file_keeps_the_last_good_list_and_says_so_once(
    path: Path, caplog: pytest.LogCaptureFixture, content: str, fault: str
) -> None:
    allow = AllowList(path)
    path.write_text(content)
    for _ in range(3):
        assert allow.keys == (A,)
    (said,) = [each.getMessage() for each in caplog.records]
    assert said.startswith(str(path))
    assert fault in said
    assert said.endswith("the 1 keys read before still count")
    write(path, B)
    assert allow.keys == (B,)
    with pytest.raises(ConfigError, match=r"config.json"):
        path.write_text(content)
        AllowList(path)


def test_a_file_that_went_away_keeps_the_list_until_it_is_back(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    allow = AllowList(path)
    caplog.set_level(logging.INFO)
    aside = path.rename(path.with_name("aside"))
    assert allow.keys == (A,)
    assert "No such file" in caplog.text
    aside.rename(path)
    assert allow.keys == (A,)
    assert "understood again: 1 keys" in caplog.text


def test_a_secret_key_in_a_broken_file_is_not_repeated(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    allow = AllowList(path)
    path.write_text('{"sk": "' + "ab" * 32 + '", "wl": ["' + "ab" * 32 + '"]}')
    assert allow.keys == (A,)
    assert "wl[0]" in caplog.text
    assert "abab" not in caplog.text


def test_a_list_that_others_can_write_to_does_not_count(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    allow = AllowList(path)
    write(path, A, B)
    path.chmod(0o666)
    assert allow.keys == (A,)
    assert "others can write" in caplog.text
    assert "chmod go-w" in caplog.text
    path.chmod(0o644)
    assert B in allow


# ---- changing ----


async def test_keys_are_added_and_removed_in_the_file(path: Path) -> None:
    allow = AllowList(path)
    await allow.add([B, C])
    assert list(allow.keys) == list(AllowList(path).keys) == [A, B, C]
    await allow.remove([A, C])
    assert list(allow.keys) == list(AllowList(path).keys) == [B]
    await allow.remove([C])
    assert list(allow.keys) == [B]


async def test_a_key_that_is_there_is_an_error_and_the_others_are_added(path: Path) -> None:
    allow = AllowList(path)
    await allow.add([B])
    with pytest.raises(AlreadyAllowedError) as caught:
        await allow.add([A, C, B])
    assert str(caught.value) == f"skipping append for {A},{B}. Already exists"
    assert allow.keys == (A, B, C)


async def test_all_else_in_the_file_stays_as_it_is(path: Path) -> None:
    path.write_text('{"sk":"x","odd":[1.50,{"a":1e2}],"wl":null,"\\u00e9":"\\u00e9"}')
    path.chmod(0o640)
    await AllowList(path).add([A])
    assert path.read_text() == (
        '{\n  "sk": "x",\n  "odd": [\n    1.50,\n    {\n      "a": 1e2\n    }\n  ],\n'
        f'  "wl": [\n    "{A}"\n  ],\n  "é": "\\u00e9"\n}}'
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == [path.name]


async def test_a_file_that_is_missing_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    allow = AllowList(path)
    await allow.add([A])
    assert json.loads(path.read_text()) == {"wl": [str(A)]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert allow.keys == (A,)


async def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "a.json", tmp_path / "config.json"
    write(target, A)
    link.symlink_to(target)
    await AllowList(link).add([B])
    assert link.is_symlink()
    assert AllowList(target).keys == (A, B)


async def test_a_broken_file_is_not_written_over(path: Path) -> None:
    allow = AllowList(path)
    path.write_text('{"sk": "precious"')
    with pytest.raises(ConfigError, match="truncated"):
        await allow.add([B])
    assert path.read_text() == '{"sk": "precious"'
    assert allow.keys == (A,)


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    allow = AllowList(tmp_path / "none" / "config.json")
    with pytest.raises(ConfigError, match=r"cannot change .*No such file"):
        await allow.add([A])


async def test_without_a_file_the_list_lives_in_memory() -> None:
    allow = AllowList(given=[A])
    await allow.add([B])
    with pytest.raises(AlreadyAllowedError):
        await allow.add([A])
    await allow.remove([A])
    assert allow.keys == (B,)


async def test_a_key_that_was_given_can_be_removed_too(path: Path) -> None:
    allow = AllowList(path, given=[A, B])
    await allow.remove([A, B])
    assert allow.keys == AllowList(path).keys == ()


WRITER = """
import sys, trio
from pathlib import Path
from dmsg_trio._keys import SecretKey
from dmsg_trio.apps.pty.host._allow import AllowList
async def main():
    allow = AllowList(Path(sys.argv[1]))
    for pk in keys:
        await allow.add([pk])
keys = [SecretKey(bytes([int(sys.argv[2]), n + 1]) * 16).pk for n in range(40)]
print("ready", flush=True)
sys.stdin.read()
trio.run(main)
"""


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for n in (5, 6, 7)
    ]
    for each in writers:
        assert each.stdout is not None
        assert each.stdout.readline() == b"ready\n"
    for each in writers:
        assert each.stdin is not None
        each.stdin.close()
    for each in writers:
        with each:
            assert each.wait(PATIENCE) == 0
    assert len(AllowList(path).keys) == 1 + 3 * 40


# ---- sessions ----


async def until_shut_out(allow: AllowList, pk: PublicKey, act: Callable[[], object]) -> bool:
    """Run a session that acts and waits; tell whether it was cancelled."""
    with trio.fail_after(PATIENCE), allow.while_allowed(pk) as scope:
        act()
        await trio.Event().wait()
    return scope.cancelled_caught


async def test_a_key_that_may_not_enter_has_no_session(path: Path) -> None:
    with AllowList(path).while_allowed(B):
        await trio.lowlevel.checkpoint()
        raise AssertionError("let in")


async def test_a_session_ends_when_its_key_is_removed_by_command(
    path: Path, nursery: trio.Nursery
) -> None:
    allow = AllowList(path, given=[B])
    for pk in (A, B):
        assert await until_shut_out(allow, pk, partial(nursery.start_soon, allow.remove, [pk]))


def replaced(path: Path) -> None:
    write(new := path.with_name("new"), B)
    new.rename(path)


@pytest.mark.parametrize("change", [write, replaced])
async def test_a_session_ends_when_its_key_is_taken_out_by_hand(
    path: Path, nursery: trio.Nursery, change: Callable[[Path], None]
) -> None:
    allow = AllowList(path)
    await nursery.start(allow.watch)
    assert await until_shut_out(allow, A, lambda: change(path))


async def test_a_file_behind_a_link_is_watched(tmp_path: Path, nursery: trio.Nursery) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    link = folders[0] / "config.json"
    for folder in folders[1:]:
        write(folder / "config.json", A)
    link.symlink_to(folders[1] / "config.json")
    allow = AllowList(link)
    await nursery.start(allow.watch)
    other = folders[0] / "other"
    other.symlink_to(folders[2] / "config.json")
    other.rename(link)
    assert await until_shut_out(allow, A, lambda: write(folders[2] / "config.json"))


async def test_where_nobody_tells_of_changes_the_file_is_looked_at(
    path: Path,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    def none_left(**_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(_changes, "INotify", none_left)
    allow = AllowList(path)
    await nursery.start(allow.watch)
    assert "no inotify: Too many open files" in caplog.text
    began = trio.current_time()
    assert await until_shut_out(allow, A, lambda: write(path))
    assert trio.current_time() - began <= _changes.LOOK_INTERVAL


async def test_sessions_of_other_keys_go_on(path: Path, nursery: trio.Nursery) -> None:
    write(path, A, B)
    allow = AllowList(path)
    await nursery.start(allow.watch)
    with allow.while_allowed(B) as other:
        assert await until_shut_out(allow, A, lambda: write(path, B))
        assert not other.cancel_called


async def test_nothing_is_kept_of_sessions_that_ended(path: Path) -> None:
    allow = AllowList(path)
    for _ in range(3):
        with allow.while_allowed(A), allow.while_allowed(A):
            await trio.lowlevel.checkpoint()
    assert allow._scopes == {}
