"""What a hostile client may send to a host, and a hostile host to a client."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import memory_stream_pair

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.file_copy import (
    At,
    Complete,
    CopyReader,
    Data,
    Done,
    Event,
    Failed,
    File,
    Finished,
    Folder,
    Get,
    Have,
    Link,
    Put,
    Ready,
    Refused,
    Up,
    Violated,
    encode,
)
from dmsg_trio.apps.pty.copy import CopyError, CopyOptions, Outcome, get, put, serve_files
from tests.apps.pty.copying import Notes, entries

CONTENT = b"content"
WHOLE = Complete(hashlib.sha256(CONTENT).digest())
SIZE = len(CONTENT)


def file(name: bytes) -> list[Event]:
    return [File(name, SIZE, 0o644, 0), Data(CONTENT), WHOLE]


async def get_from(
    said: list[Event], sources: list[bytes], target: Path, *, recursive: bool = False
) -> tuple[Outcome, Notes]:
    """Be a host that says so, whatever it is asked."""
    near, far = memory_stream_pair()
    notes = Notes()

    async def be_host() -> None:
        with suppress(trio.BrokenResourceError):
            await far.receive_some()
            await far.send_all(b"".join(map(encode, said)))
            await far.send_eof()

    async def opener(_: str) -> trio.abc.HalfCloseableStream:
        return near

    async with open_service_nursery() as nursery:
        nursery.start_soon(be_host)
        options = CopyOptions(recursive=recursive)
        outcome = await get(opener, sources, os.fsencode(target), options=options, progress=notes)
    return outcome, notes


async def answers_to(said: list[Event], home: Path) -> list[Event]:
    """Be a client that says so, and give what the host answers."""
    near, far = memory_stream_pair()
    wire = bytearray()

    async def serve() -> None:
        with suppress(RemoteProtocolError, CopyError):
            await serve_files(far, home=home)

    async with open_service_nursery() as nursery:
        nursery.start_soon(serve)
        await near.send_all(b"".join(map(encode, said)))
        with suppress(trio.BrokenResourceError), trio.fail_after(5):
            while data := await near.receive_some():
                wire += data
                if Finished() in CopyReader().receive_data(wire):
                    await near.send_eof()
    events = CopyReader().receive_data(wire)
    return [event for event in events if not isinstance(event, Violated)]


async def test_a_host_sends_what_was_asked_for(tmp_path: Path) -> None:
    outcome, _ = await get_from([Ready(), *file(b"asked"), Done()], [b"x/asked"], tmp_path)
    assert outcome.is_complete
    assert (tmp_path / "asked").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "said",
    [
        file(b".bashrc"),
        file(b"asked") + file(b"asked"),
        [Folder(b"asked", 0o755, 0), *file(b"within"), Up()],
        [Folder(b"", 0o755, 0), *file(b".bashrc"), Up()],
        [Link(b"asked", b"/", 0)],
        [Up()],
        [Finished()],
        [Have(0, 0, bytes(32))],
    ],
    ids=["other", "twice", "folder", "target", "link", "up", "finished", "have"],
)
async def test_a_host_that_sends_something_else_is_refused(
    said: list[Event], tmp_path: Path
) -> None:
    with pytest.raises(RemoteProtocolError):
        await get_from([Ready(), *said, Done()], [b"x/asked"], tmp_path)
    assert entries(tmp_path) <= {"asked"}


async def test_names_that_lead_out_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    honest = encode(File(b"xx_out", SIZE, 0o644, 0))
    for name in (b"../out", b"xx/out", b"xxx\0xx"):
        near, far = memory_stream_pair()
        wire = encode(Ready()) + honest.replace(b"xx_out", name)

        async def opener(
            _: str, stream: trio.abc.HalfCloseableStream = near
        ) -> trio.abc.HalfCloseableStream:
            return stream

        await far.send_all(wire)
        with pytest.raises(RemoteProtocolError, match=r"NUL|no name of a file"):
            await get(
                opener, [b"asked"], os.fsencode(target), options=CopyOptions(), progress=Notes()
            )
    assert (entries(tmp_path), entries(target)) == ({"target"}, set())


async def test_a_link_that_a_sender_made_is_not_gone_through(tmp_path: Path) -> None:
    """The link comes first, and then what would be written through it."""
    (tmp_path / "outside").mkdir()
    target = tmp_path / "target"
    target.mkdir()
    said: list[Event] = [
        Put(target=b"target"),
        Link(b"way", os.fsencode(tmp_path / "outside"), 0),
        Folder(b"way", 0o755, 0),
        *file(b"planted"),
        Up(),
        Link(b"file", os.fsencode(tmp_path / "outside" / "new"), 0),
        *file(b"file"),
        Done(),
    ]
    answers = await answers_to(said, tmp_path)
    assert [type(answer) for answer in answers] == [Ready, Failed, Finished]
    assert list((tmp_path / "outside").iterdir()) == []
    assert not (target / "file").is_symlink()


async def test_wrong_content_gets_no_name(tmp_path: Path) -> None:
    said: list[Event] = [
        Put(target=b""),
        File(b"f", SIZE, 0o644, 0),
        Data(b"CONTENT"),
        WHOLE,
        *file(b"g"),
        Done(),
    ]
    answers = await answers_to(said, tmp_path)
    [failed] = [answer for answer in answers if isinstance(answer, Failed)]
    assert "digests differ" in failed.reason
    assert entries(tmp_path) == {"g"}


@pytest.mark.parametrize(
    "said",
    [
        [Up()],
        [Done()],
        [Put(target=b""), Up()],
        [Put(target=b""), File(b"f", 1, 0, 0), Data(b"xx")],
        [Put(target=b""), File(b"f", 1, 0, 0, asks=True), At(1)],
        [Put(target=b""), Put(target=b"")],
        [Put(target=b"one"), *file(b"a"), *file(b"b")],
        [Put(target=b""), *[Folder(b"d", 0o755, 0)] * 129],
        [Get(sources=(b"f",)), Have(0, 0, bytes(32))],
        [Get(sources=(b"f",)), Failed(0, b"", "no"), Failed(0, b"", "no"), Failed(0, b"", "no")],
    ],
    ids=["up", "done", "early", "long", "at", "twice", "two", "deep", "have", "failures"],
)
async def test_a_client_that_breaks_the_rules_is_told_so(said: list[Event], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "f").write_bytes(bytes(5_000_000))
    before = len(os.listdir("/dev/fd"))
    answers = await answers_to(said, home)
    assert isinstance(answers[-1], Refused)
    assert len(os.listdir("/dev/fd")) == before
    assert entries(tmp_path) == {"home"}


async def test_what_cannot_be_asked_for_is_told_to_the_user(tmp_path: Path) -> None:
    with pytest.raises(CopyError, match="257 sources"):
        await get_from([], [b"x"] * 257, tmp_path)


async def test_a_host_that_fails_more_than_it_was_sent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    near, far = memory_stream_pair()
    said: list[Event] = [Ready(), Failed(7, b"p", "no")]
    await far.send_all(b"".join(map(encode, said)))

    async def opener(_: str) -> trio.abc.HalfCloseableStream:
        return near

    with pytest.raises(RemoteProtocolError, match="of item 7"):
        source = os.fsencode(tmp_path / "f")
        await put(opener, [source], b"", options=CopyOptions(), progress=Notes())
