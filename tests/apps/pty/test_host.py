"""A host as those see it who may enter, and those who may not: a network in memory, real commands."""

from __future__ import annotations

import json
import logging
import os
import pwd
import shlex
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from dmsg_trio import Client
from dmsg_trio._address import Address
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.carrying import reset_when_closed
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.file_copy import FILES_URI
from dmsg_trio._wire.forward import FORWARD_URI
from dmsg_trio._wire.pty import PTY_URI, READ, START, WHITELIST, WHITELIST_URI
from dmsg_trio._wire.shell import SHELL_URI, Output, ShellReader, Start, Started, encode
from dmsg_trio.apps.pty import _requests
from dmsg_trio.apps.pty._local import LocalSocket
from dmsg_trio.apps.pty._requests import (
    PtyRefusedError,
    accept,
    receive_request_untrusted,
    request,
)
from dmsg_trio.apps.pty._routes import DirectRoute, HostUnreachedError, LocalRoute, Route
from dmsg_trio.apps.pty._rpc import RpcError, open_rpc
from dmsg_trio.apps.pty.copy import CopyError, CopyOptions, put
from dmsg_trio.apps.pty.copy._progress import Progress
from dmsg_trio.apps.pty.host import _host
from dmsg_trio.apps.pty.host._allow import AllowList
from dmsg_trio.apps.pty.host._audit import Audit, AuditedSession
from dmsg_trio.apps.pty.host._config import HostOptions
from dmsg_trio.apps.pty.host._forwards import Forwards
from dmsg_trio.apps.pty.host._host import MAX_REFUSED, PtyHost
from dmsg_trio.apps.pty.remote._choosing import open_remote_shell
from dmsg_trio.apps.pty.remote._forwarding import forward_here
from dmsg_trio.apps.pty.remote._remote import (
    CommandEnded,
    ConnectionLost,
    GivenUp,
    RemoteShell,
    ShellRefusedError,
    Wanted,
)
from dmsg_trio.client import DmsgStream
from dmsg_trio.testing import Network
from tests.waiting import PATIENCE, answered

GUEST, STRANGER = SecretKey(b"\x01" * 32), SecretKey(b"\x02" * 32)
FOR_EVER = ("sh", "-c", "echo $$; exec sleep 1000")


@dataclass
class Scene:
    """A host, somebody who may enter and somebody who may not."""

    host: PtyHost
    guest: Client
    stranger: Client
    address: Address
    folder: Path

    @property
    def route(self) -> Route:
        return DirectRoute(self.guest, self.address)

    @property
    def local(self) -> LocalSocket:
        return LocalSocket("unix", str(self.folder / "socket"))

    async def dial(self, client: Client | None = None) -> DmsgStream:
        return await (client or self.guest).open_stream(self.address.pk, self.address.port)

    def allow(self, *keys: SecretKey) -> None:
        """Write the list anew, as `whitelist-remove` does it."""
        (self.folder / "new").write_text(json.dumps({"wl": [str(key.pk) for key in keys]}))
        (self.folder / "new").rename(self.folder / "allow.json")

    def audited(self) -> list[dict[str, object]]:
        path = self.folder / "audit"
        return [json.loads(line) for line in path.read_text().splitlines()]

    async def runs(self) -> None:
        """See that a guest is served."""
        async with open_remote_shell(self.route, Wanted(argv=("echo", "served"))) as shell:
            assert await told(shell) == b"served\n"


@asynccontextmanager
async def scene(folder: Path, **options: object) -> AsyncIterator[Scene]:
    path = folder / "allow.json"
    path.write_text(json.dumps({"wl": [str(GUEST.pk)]}))
    with trio.fail_after(PATIENCE):
        async with (
            Network() as network,
            network.client() as server,
            network.client(GUEST) as guest,
            network.client(STRANGER) as stranger,
            open_service_nursery() as nursery,
        ):
            allow, audit = AllowList(path), Audit(folder / "audit")
            given = HostOptions(address=str(folder / "socket"), **options)  # type: ignore[arg-type]
            host = PtyHost(server, given, allow, audit)
            await nursery.start(allow.watch)
            await nursery.start(host.serve)
            yield Scene(host, guest, stranger, Address(server.pk, given.port), folder)


async def told(shell: RemoteShell) -> bytes:
    """Hear a command to its end."""
    return b"".join([event.data async for event in shell if isinstance(event, Output)])


async def pid_of(shell: RemoteShell) -> int:
    """Read the first line of a command that tells its number."""
    line = b""
    while b"\n" not in line:
        event = await anext(shell)
        assert isinstance(event, Output)
        line += event.data
    return int(line)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def is_gone(pid: int) -> bool:
    async def look() -> bool:
        await trio.lowlevel.checkpoint()
        return not lives(pid)

    return await answered(look, within=PATIENCE)


async def has_audited(at: Scene, count: int) -> list[dict[str, object]]:
    """Wait for so many lines, and see that there are not more."""

    async def look() -> bool:
        await trio.lowlevel.checkpoint()
        return len(at.audited()) >= count

    assert await answered(look, within=PATIENCE)
    assert len(at.audited()) == count
    return at.audited()


async def everything(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(piece) async for piece in stream])


# ---- who may enter ----


async def test_a_key_that_is_not_on_the_list_is_told_so_before_it_has_said_anything(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as at:
        async with await at.dial(at.stranger) as stream:
            answer = await everything(stream)
        reason = f"the key {STRANGER.pk} is not allowed here".encode()
        assert answer == b"\x01" + bytes([len(reason)]) + reason
        (line,) = await has_audited(at, 1)
        assert (line["event"], line["key"]) == ("refusal", str(STRANGER.pk))


async def test_what_a_refused_key_says_all_the_same_starts_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        start = Start(
            session="0" * 32,
            client="1" * 32,
            attempt=0,
            keep=0,
            argv=("touch", str(tmp_path / "x")),
        )
        uri = SHELL_URI.encode()
        async with await at.dial(at.stranger) as stream:
            await stream.send_all(bytes([len(uri)]) + uri + encode(start))
            assert (await everything(stream)).startswith(b"\x01")
        with pytest.raises(PtyRefusedError, match="is not allowed here"):
            await DirectRoute(at.stranger, at.address).open(SHELL_URI)
        await at.runs()
        assert not (tmp_path / "x").exists()


async def test_a_key_is_let_in_as_soon_as_it_is_on_the_list(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        at.allow(GUEST, STRANGER)
        route = DirectRoute(at.stranger, at.address)
        async with open_remote_shell(route, Wanted(argv=("echo", "in"))) as shell:
            assert await told(shell) == b"in\n"


async def test_a_key_that_is_removed_loses_all_that_it_has_at_once(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        async with (
            open_remote_shell(at.route, Wanted(argv=FOR_EVER, keep=60)) as shell,
            open_remote_shell(at.route, Wanted(argv=FOR_EVER, terminal="xterm")) as other,
            await at.route.open(PTY_URI) as calls,
            await at.route.open(FORWARD_URI) as forward,
            await at.dial() as silent,
        ):
            async with open_rpc(calls) as rpc:
                await rpc.call(START, {"Name": "sleep", "Arg": ["1000"], "Size": None})
                pids = [await pid_of(shell), await pid_of(other)]
                at.allow()
                for pid in pids:
                    assert await is_gone(pid)
                events = [event async for event in shell]
                assert isinstance(events[0], ConnectionLost)
                assert events[-1] == GivenUp(f"the key {GUEST.pk} is not allowed here")
                for stream in calls, forward, silent:
                    with pytest.raises(trio.BrokenResourceError):
                        await everything(stream)
        lines = [line for line in at.audited() if line["event"] == "session"]
        commands = sorted(str(line["command"]) for line in lines)
        assert commands == sorted(
            map(str, ([*FOR_EVER], [*FOR_EVER], ["sleep", "1000"], ["(forward)"]))
        )
        assert {line["reason"] for line in lines if line["command"] == [*FOR_EVER]} == {
            "its key was removed"
        }


# ---- what is written down ----


async def test_each_command_leaves_one_line(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        argv = ("sh", "-c", "cat; exit 3")
        async with open_remote_shell(at.route, Wanted(argv=argv)) as shell:
            await shell.send_input(b"12345")
            await shell.end_input()
            events = [event async for event in shell]
        assert events == [Output(b"12345"), CommandEnded(3)]
        (line,) = await has_audited(at, 1)
        assert {name: line[name] for name in ("key", "command", "exit_code")} == {
            "key": str(GUEST.pk),
            "command": [*argv],
            "exit_code": 3,
        }
        assert (line["bytes_in"], line["bytes_out"]) == (5, 5)


# ---- limits ----


async def test_a_key_has_so_many_sessions_of_all_kinds_and_no_more(tmp_path: Path) -> None:
    async with scene(tmp_path, max_sessions_per_key=2) as at:
        async with (
            open_remote_shell(at.route, Wanted(argv=FOR_EVER)),
            await at.route.open(PTY_URI),
        ):
            with pytest.raises(
                ShellRefusedError, match="2 sessions of this key, which is the limit"
            ):
                async with open_remote_shell(at.route, Wanted(argv=FOR_EVER)):
                    pass
            for uri in PTY_URI, FILES_URI:
                with pytest.raises(PtyRefusedError, match="2 sessions of this key"):
                    await at.route.open(uri)
            at.allow(GUEST, STRANGER)
            async with open_remote_shell(
                DirectRoute(at.stranger, at.address), Wanted(argv=("echo", "in"))
            ) as shell:
                assert await told(shell) == b"in\n"
        await at.runs()


async def test_a_host_has_so_many_sessions_and_no_more(tmp_path: Path) -> None:
    async with scene(tmp_path, max_sessions=1) as at:
        async with open_remote_shell(at.route, Wanted(argv=FOR_EVER)):
            with pytest.raises(ShellRefusedError, match="1 sessions on this host"):
                async with open_remote_shell(LocalRoute(at.local), Wanted(argv=FOR_EVER)):
                    pass


async def test_sessions_in_which_nothing_happens_end(tmp_path: Path) -> None:
    async with scene(tmp_path, idle_time=0.3) as at:
        async with (
            open_remote_shell(at.route, Wanted(argv=FOR_EVER)) as shell,
            await at.route.open(PTY_URI) as calls,
            open_rpc(calls) as rpc,
        ):
            await rpc.call(START, {"Name": "sleep", "Arg": ["1000"], "Size": None})
            pid = await pid_of(shell)
            assert [event async for event in shell] == [CommandEnded(signal="HUP")]
            assert not lives(pid)
            with pytest.raises(RpcError):
                await rpc.call(READ, 100)
        for line in await has_audited(at, 2):
            assert line["reason"] == "idle for 0.3 s"


async def test_a_flood_of_strangers_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_requests, "READ_WITHIN", PATIENCE)  # so that all of them are told at once
    async with scene(tmp_path) as at:
        streams = [await at.dial(at.stranger) for _ in range(3 * MAX_REFUSED)]
        await at.runs()
        told_why = 0
        for stream in streams:
            try:
                told_why += bool(await stream.receive_some())
            except trio.BrokenResourceError:
                continue
            finally:
                stream.reset()
        assert MAX_REFUSED <= told_why <= 2 * MAX_REFUSED


async def test_a_key_has_so_many_connections_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_host, "MAX_CONNECTIONS", 2)
    async with scene(tmp_path) as at:
        async with await at.dial(), await at.dial():
            with pytest.raises(trio.BrokenResourceError):
                await everything(await at.dial())
            at.allow(GUEST, STRANGER)
            async with await at.dial(at.stranger) as stream:
                await request(stream, SHELL_URI)
        await at.runs()


# ---- what is nonsense ----


@pytest.mark.parametrize("said", [b"", b"\xff", b"\x05a\x00b%z", b"\x00", b"\x03\xff\xff\xff"])
async def test_nonsense_is_refused_and_others_are_served(tmp_path: Path, said: bytes) -> None:
    async with scene(tmp_path) as at:
        async with await at.dial() as stream:
            await stream.send_all(said)
            await stream.send_eof()
            assert (await everything(stream)).startswith(b"\x01")
        await at.runs()


@pytest.mark.parametrize("uri", [SHELL_URI, PTY_URI, FILES_URI, FORWARD_URI])
@pytest.mark.parametrize("said", [b"\xff" * 64, b"\x00" * 64, b"\x7f" + b"\xff" * 64], ids="abc")
async def test_nonsense_for_a_service_ends_that_connection_only(
    tmp_path: Path, uri: str, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene(tmp_path) as at:
        async with await at.dial() as stream:
            await request(stream, uri)
            with trio.move_on_after(1):
                await stream.send_all(said)
                await stream.send_eof()
                with suppress(trio.BrokenResourceError):
                    await everything(stream)
        await at.runs()
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_services_that_are_not_there_are_named(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        for uri in "dmsgpty/other", WHITELIST_URI, f"dmsgpty/connect?pk={GUEST.pk}&port=22":
            with pytest.raises(PtyRefusedError, match="there is no service 'dmsgpty/"):
                await at.route.open(uri)


@pytest.mark.faulty
async def test_a_fault_of_ours_ends_one_connection_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    monkeypatch.setattr(_host, "serve_pty", fail)
    async with scene(tmp_path) as at:
        with pytest.raises(trio.BrokenResourceError):
            await everything(await at.route.open(PTY_URI))
        await at.runs()
    assert "ended by a fault of ours" in caplog.text


# ---- the local socket ----


async def test_users_of_the_machine_have_shells_and_the_list(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        route = LocalRoute(at.local)
        async with open_remote_shell(route, Wanted(argv=("echo", "here"))) as shell:
            assert await told(shell) == b"here\n"
        async with await route.open(WHITELIST_URI) as stream, open_rpc(stream) as rpc:
            assert await rpc.call(WHITELIST, {}) == [GUEST.pk.raw]
        (line,) = await has_audited(at, 1)
        assert (line["key"], line["source"]) == (None, "local")


async def test_other_hosts_are_reached_under_the_key_of_this_one(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        async with at.guest.listen(22) as listener, open_service_nursery() as nursery:

            async def answer() -> None:
                async with await listener.accept() as stream:
                    assert stream.remote.pk == at.address.pk
                    await stream.send_all(b"\x00" + (await stream.receive_some(100)).upper())

            nursery.start_soon(answer)
            route = LocalRoute(at.local, Address(GUEST.pk, 22))
            async with await route.open("dmsgpty/x") as stream:
                assert await stream.receive_some() == b"\x09DMSGPTY/X"
        with pytest.raises(HostUnreachedError, match="nobody listens on this port"):
            await LocalRoute(at.local, Address(GUEST.pk, 22)).open("dmsgpty/x")


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("is_far", [True, False])
async def test_a_forwarded_connection_that_breaks_there_does_not_look_whole_here(
    tmp_path: Path, *, is_far: bool, is_whole: bool
) -> None:
    async def say_some(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"the first half")
            await everything(stream)
            if not is_whole:
                reset_when_closed(stream)

    async def be_a_host(stream: DmsgStream) -> None:
        async with stream:
            assert (await receive_request_untrusted(stream)).path == FORWARD_URI
            await accept(stream)
            await Forwards().serve(stream, None, AuditedSession())

    async with (
        scene(tmp_path) as at,
        at.guest.listen(22) as other_host,
        open_service_nursery() as nursery,
    ):
        targets = await trio.open_tcp_listeners(0, host="127.0.0.1")
        here = await trio.open_tcp_listeners(0, host="127.0.0.1")
        target, port = (each[0].socket.getsockname()[1] for each in (targets, here))
        route = LocalRoute(at.local, Address(GUEST.pk, 22) if is_far else None)
        nursery.start_soon(trio.serve_listeners, say_some, targets)
        nursery.start_soon(trio.serve_listeners, be_a_host, [other_host])
        nursery.start_soon(forward_here, route, here, "127.0.0.1", target, print)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await stream.receive_some() == b"the first half"
            await stream.send_eof()
            if is_whole:
                assert await stream.receive_some() == b""
            else:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()


# ---- the end ----


async def test_who_is_attached_is_told_when_the_host_ends(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        async with (
            open_remote_shell(at.route, Wanted(argv=FOR_EVER, keep=60)) as shell,
            open_remote_shell(at.route, Wanted(argv=FOR_EVER, keep=60, terminal="xterm")) as other,
        ):
            pids = [await pid_of(shell), await pid_of(other)]
            at.host.drain()
            for each in shell, other:
                assert [event async for event in each] == [CommandEnded(signal="HUP")]
            assert not any(map(lives, pids))
        assert {line["reason"] for line in await has_audited(at, 2)} == {
            "the host is shutting down"
        }
        assert not (tmp_path / "socket").exists()


async def test_sessions_without_a_client_do_not_hold_up_the_end(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        stream = await at.route.open(SHELL_URI)
        start = Start(session="0" * 32, client="1" * 32, attempt=0, keep=60, argv=FOR_EVER)
        await stream.send_all(encode(start))
        (first, *_) = ShellReader(client=True).receive_data(bytes(await stream.receive_some()))
        assert isinstance(first, Started)
        await trio.aclose_forcefully(stream)
        at.host.drain()
        (line,) = await has_audited(at, 1)
        assert line["signal"] == "HUP"


# ---- as somebody else ----


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder in which everybody can write, as the one of pytest is not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


async def copied(at: Scene, source: Path, target: Path) -> None:
    paths = (os.fsencode(source),), os.fsencode(target)
    outcome = await put(at.route.open, *paths, options=CopyOptions(), progress=Progress())
    assert outcome.is_complete


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run shells of others")
async def test_shells_and_files_are_of_the_user_that_was_named(
    tmp_path: Path, open_folder: Path
) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    async with scene(tmp_path, user="nobody") as at:
        script = f"id -u; id -G; touch {shlex.quote(str(open_folder / 'touched'))}"
        for terminal in None, "xterm":
            wanted = Wanted(argv=("sh", "-c", script), terminal=terminal)
            async with open_remote_shell(at.route, wanted) as shell:
                uid, groups = (await told(shell)).decode().split()
            assert int(uid) == nobody
            assert "0" not in groups.split()
        assert (open_folder / "touched").stat().st_uid == nobody
        (tmp_path / "a").write_bytes(b"12345")
        await copied(at, tmp_path / "a", open_folder / "b")
        assert (open_folder / "b").read_bytes() == b"12345"
        assert (open_folder / "b").stat().st_uid == nobody
        secret = tmp_path / "mine"
        secret.mkdir(mode=0o700)
        with pytest.raises(CopyError, match="Permission denied"):
            await copied(at, tmp_path / "a", secret / "b")
        assert not (secret / "b").exists()
