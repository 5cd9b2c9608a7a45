"""The stores: what both do, and what the file is for."""

import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import SecretKey
from dmsg_trio.discovery import ClientInfo, Entry, ServerInfo
from dmsg_trio.discovery._rules import Refusal
from dmsg_trio.discovery._store import (
    MemoryStore,
    Record,
    Since,
    Store,
    StoreError,
    StoreFullError,
    _sqlite,
    default_store_path,
    open_store,
)

CLIENT, SERVER = (SecretKey(bytes([n]) * 32) for n in (1, 2))


@dataclass
class Clock:
    """A wall clock that stands still until it is set."""

    now: int = 1000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[Store]:
    url = "memory:" if request.param == "memory" else f"sqlite:{tmp_path / 'entries'}"
    async with open_store(url, clock) as store:
        yield store


def client(sequence: int = 0) -> Entry:
    info = ClientInfo((SERVER.pk,))
    return Entry(pk=CLIENT.pk, sequence=sequence, timestamp=1, client=info).signed(CLIENT)


def server() -> Entry:
    info = ServerInfo(address="203.0.113.7:1", available_sessions=1)
    return Entry(pk=SERVER.pk, timestamp=1, server=info).signed(SERVER)


def record_of(entry: Entry, expires_at: int | None = None) -> Record:
    return Record(entry, expires_at, Since.beginning(entry, 1000))


async def put(store: Store, entry: Entry, expires_at: int | None = None) -> None:
    await store.update(entry.pk, lambda old: record_of(entry, expires_at))


# ---- both ----


async def test_entries_are_found_by_key_and_by_kind(store: Store) -> None:
    assert await store.get(CLIENT.pk) is None
    await put(store, client())
    await put(store, server())
    assert await store.get(CLIENT.pk) == client()
    assert await store.clients() == [client()]
    assert await store.servers() == [server()]
    assert await store.records() == [record_of(server()), record_of(client())], "servers first"


async def test_an_entry_that_changes_its_kind_is_listed_as_the_new_one_alone(store: Store) -> None:
    await put(store, server())
    await put(store, Entry(pk=SERVER.pk, timestamp=2, client=ClientInfo()).signed(SERVER))
    assert await store.servers() == []
    assert [entry.pk for entry in await store.clients()] == [SERVER.pk]


async def test_an_update_sees_what_stands_and_may_remove_it(store: Store) -> None:
    seen: list[Record | None] = []
    await put(store, client())
    await store.update(CLIENT.pk, seen.append)
    await store.update(CLIENT.pk, seen.append)
    assert seen == [record_of(client()), None]
    assert await store.get(CLIENT.pk) is None


async def test_an_update_that_refuses_leaves_all_as_it_is(store: Store) -> None:
    def refuse(old: Record | None) -> Record | None:
        raise Refusal(422, "no")

    await put(store, client())
    with pytest.raises(Refusal):
        await store.update(CLIENT.pk, refuse)
    assert await store.get(CLIENT.pk) == client()


async def test_of_many_updates_at_once_each_sees_the_one_before(store: Store) -> None:
    def one_on(old: Record | None) -> Record:
        return record_of(client(old.entry.sequence + 1 if old else 0))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(store.update, CLIENT.pk, one_on)
    entry = await store.get(CLIENT.pk)
    assert entry is not None
    assert entry.sequence == 19


async def test_an_expired_entry_is_not_there_and_then_forgotten(store: Store, clock: Clock) -> None:
    await put(store, client(), expires_at=1010)
    await put(store, server(), expires_at=None)
    clock.now = 1009
    assert await store.remove_expired() == 0
    assert await store.get(CLIENT.pk) == client()
    clock.now = 1010
    assert await store.get(CLIENT.pk) is None
    assert await store.clients() == []
    assert await store.records() == [record_of(server())]
    seen: list[Record | None] = []
    await store.update(CLIENT.pk, seen.append)
    assert seen == [None]
    await put(store, client(), expires_at=1010)
    assert await store.remove_expired() == 1
    assert await store.servers() == [server()]


async def test_a_store_has_room_for_so_many_entries_and_bytes(clock: Clock) -> None:
    store = MemoryStore(clock, max_entries=1)
    await put(store, client())
    await put(store, client(1))
    with pytest.raises(StoreFullError, match="1 entries"):
        await put(store, server())
    store = MemoryStore(clock, max_bytes=len(client().to_json()) + 10)
    await put(store, client())
    await put(store, client(1))
    with pytest.raises(StoreFullError, match="bytes of"):
        await put(store, server())
    await store.update(CLIENT.pk, lambda old: None)
    await put(store, server())


# ---- the file ----


async def test_entries_are_still_there_after_the_store_was_closed(
    tmp_path: Path, clock: Clock
) -> None:
    url = f"sqlite:{tmp_path / 'folder' / 'entries'}"
    async with open_store(url, clock) as store:
        await put(store, client())
        await put(store, server(), expires_at=1010)
    clock.now = 1010
    async with open_store(url, clock) as store:
        assert await store.get(CLIENT.pk) == client()
        assert await store.servers() == []


async def test_since_when_an_entry_stands_is_known_after_the_store_was_closed(
    tmp_path: Path, clock: Clock
) -> None:
    url = f"sqlite:{tmp_path / 'entries'}"
    long_ago = Record(client(), None, Since(client=7, delegated=(8,)))
    async with open_store(url, clock) as store:
        await store.update(CLIENT.pk, lambda old: long_ago)
    for _ in range(2):
        async with open_store(url, clock) as store:
            assert await store.records() == [long_ago]


def write_as_version_1(path: Path, *entries: Entry) -> None:
    """Write a file as this program did before it knew since when an entry stands."""
    database = sqlite3.connect(path)
    with database:
        database.execute(
            "CREATE TABLE entries (pk BLOB PRIMARY KEY, json BLOB NOT NULL, expires_at INTEGER)"
            " WITHOUT ROWID"
        )
        rows = [(entry.pk.raw, entry.to_json(), 5000) for entry in entries]
        database.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
        database.execute("PRAGMA user_version = 1")
    database.close()


async def test_entries_of_an_older_file_stand_since_their_owners_last_wrote(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "entries"
    fast = replace(server(), timestamp=clock.now + 1).signed(SERVER)
    write_as_version_1(path, client(), fast)
    since = {CLIENT.pk: Since(client=1, delegated=(1,)), SERVER.pk: Since(server=clock.now)}
    for _ in range(2):  # the file is a new one from then on
        async with open_store(f"sqlite:{path}", clock) as store:
            assert await store.get(CLIENT.pk) == client()
            assert {each.entry.pk: each.since for each in await store.records()} == since
    async with open_store(f"sqlite:{path}", clock) as store:
        await store.update(
            CLIENT.pk,
            lambda old: replace(old, entry=client(1)) if old else pytest.fail("not there"),
        )
    clock.now += 1
    async with open_store(f"sqlite:{path}", clock) as store:
        [record] = [each for each in await store.records() if each.entry.client]
        assert record == Record(client(1), 5000, since[CLIENT.pk])


async def test_an_older_file_is_brought_up_to_date_wholly_or_not_at_all(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "entries"
    write_as_version_1(path, client())
    with monkeypatch.context() as patch:
        patch.setattr(_sqlite, "_SCHEMA", "nonsense")  # which comes after the new column
        with pytest.raises(ConfigError, match="syntax error"):
            async with open_store(f"sqlite:{path}", clock):
                pytest.fail("opened a file that is neither old nor new")
    async with open_store(f"sqlite:{path}", clock) as store:
        assert await store.get(CLIENT.pk) == client()


@pytest.mark.parametrize(
    "text", [b"", b"[", b'{"server":5}', b'{"client":"x"}', b'{"client":5,"delegated":[5,6]}']
)
async def test_a_since_that_is_not_of_the_entry_is_as_good_as_none(
    tmp_path: Path, clock: Clock, text: bytes
) -> None:
    path = tmp_path / "entries"
    async with open_store(f"sqlite:{path}", clock) as store:
        await put(store, client())
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE entries SET since = ?", (text,))
    database.close()
    async with open_store(f"sqlite:{path}", clock) as store:
        assert await store.records() == [Record(client(), None, Since.beginning(client(), 1))]


KILLED = """
import os, signal, sys, trio
from dmsg_trio._wire.entries import Entry
from dmsg_trio.discovery._store import Record, Since, open_store

async def main():
    async with open_store(sys.argv[1], lambda: 0) as store:
        entry = Entry.parse_untrusted(sys.argv[2].encode())
        record = Record(entry, None, Since.beginning(entry, 1000))
        await store.update(entry.pk, lambda old: record)
        os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, clock: Clock) -> None:
    url = f"sqlite:{tmp_path / 'entries'}"
    command = [sys.executable, "-c", KILLED, url, client().to_json().decode()]
    done = await trio.run_process(command, check=False)
    assert done.returncode == -9
    async with open_store(url, clock) as store:
        assert await store.get(CLIENT.pk) == client()


async def test_a_second_process_cannot_open_the_file(tmp_path: Path, clock: Clock) -> None:
    url = f"sqlite:{tmp_path / 'entries'}"
    async with open_store(url, clock) as store:
        await put(store, client())
        with pytest.raises(ConfigError, match="locked"):
            async with open_store(url, clock):
                pytest.fail("the file has two owners")


async def test_a_row_that_is_no_entry_is_left_out(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "entries"
    async with open_store(f"sqlite:{path}", clock) as store:
        await put(store, client())
        await put(store, server())
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE entries SET json = ? WHERE pk = ?", (b"{}", SERVER.pk.raw))
    database.close()
    async with open_store(f"sqlite:{path}", clock) as store:
        assert await store.get(CLIENT.pk) == client()
        assert await store.get(SERVER.pk) is None
    assert "no version" in caplog.text


async def test_a_file_that_is_no_store_is_said_to_be_none(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "entries"
    path.write_text("something else entirely, and long enough to be looked at" * 20)
    with pytest.raises(ConfigError, match="not a database"):
        async with open_store(f"sqlite:{path}", clock):
            pytest.fail("opened a file that is no store")
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute("PRAGMA user_version = 9")
    newer.close()
    with pytest.raises(ConfigError, match="version 9, not 2"):
        async with open_store(f"sqlite:{tmp_path / 'newer'}", clock):
            pytest.fail("opened a store of the future")


async def test_a_failing_file_is_a_store_error_and_memory_does_not_run_ahead(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "entries"
    async with open_store(f"sqlite:{path}", clock) as store:
        await put(store, client())
    database = sqlite3.connect(path)
    with database:
        database.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON entries BEGIN SELECT RAISE(FAIL, 'no'); END"
        )
    database.close()
    async with open_store(f"sqlite:{path}", clock) as store:
        with pytest.raises(StoreError, match="no"):
            await put(store, server())
        assert await store.servers() == []
        assert await store.clients() == [client()]


async def test_a_cancelled_update_is_done_in_file_and_memory_or_in_neither(
    tmp_path: Path, clock: Clock
) -> None:
    url = f"sqlite:{tmp_path / 'entries'}"
    async with open_store(url, clock) as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await put(store, client())
        in_memory = await store.get(CLIENT.pk)
    async with open_store(url, clock) as store:
        assert await store.get(CLIENT.pk) == in_memory


@pytest.mark.parametrize("url", ["", "memory", "memory:x", "redis://localhost", "file"])
async def test_an_unknown_kind_of_store_is_a_wrong_setting(url: str, clock: Clock) -> None:
    with pytest.raises(ConfigError, match="'memory:' or 'sqlite:PATH'"):
        async with open_store(url, clock):
            pytest.fail("opened a store of no kind")


def test_the_usual_file_is_in_the_users_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_store_path() == Path("/data/dmsg-trio/discovery.sqlite")
    monkeypatch.setenv("HOME", "/home/me")
    for not_absolute in ("", "data"):
        monkeypatch.setenv("XDG_DATA_HOME", not_absolute)
        expected = Path("/home/me/.local/share/dmsg-trio/discovery.sqlite")
        assert default_store_path() == expected
