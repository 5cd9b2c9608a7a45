"""The local socket: only its owner gets through it, and nobody else can put one in its place."""

# ruff: noqa: ASYNC240 - a test may wait for a small file

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio.apps.pty._local import check_socket
from dmsg_trio.apps.pty.host import _listening
from dmsg_trio.apps.pty.host._config import HostOptions
from dmsg_trio.apps.pty.host._listening import open_local_listeners


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pty.sock"


def at(path: Path) -> HostOptions:
    return HostOptions(address=str(path))


async def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        async with open_local_listeners(at(path)):
            pass
    return str(caught.value)


async def test_a_connection_comes_through_and_the_socket_is_gone_afterwards(path: Path) -> None:
    async with open_local_listeners(at(path)) as (listener,):
        check_socket(path)
        near = await trio.open_unix_socket(str(path))
        far = await listener.accept()
        await near.send_all(b"hello")
        assert await far.receive_some() == b"hello"
        await near.aclose()
        await far.aclose()
    assert not path.exists()


async def test_the_socket_is_for_its_owner_from_the_first_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    bind = socket.socket.bind

    class Watched(socket.socket):
        def bind(self, address: str) -> None:  # type: ignore[override]
            bind(self, address)
            modes.append(stat.S_IMODE(os.stat(address).st_mode))

    monkeypatch.setattr("dmsg_trio.apps.pty.host._listening.socket.socket", Watched)
    before = os.umask(0)
    try:
        async with open_local_listeners(at(path)):
            assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert modes == [0o600]


async def test_the_socket_of_a_host_that_is_gone_is_taken_away(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with open_local_listeners(at(path)) as listeners:
        assert len(listeners) == 1


async def test_a_host_that_runs_is_left_alone(path: Path) -> None:
    async with open_local_listeners(at(path)) as (listener,):
        assert await refusal(path) == f"cliaddr: another host runs, it answers at {path}"
        await (await listener.accept()).aclose()
        check_socket(path)


async def test_a_host_that_is_busy_is_left_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        assert "another host runs" in await refusal(path)


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
async def test_what_is_no_socket_is_left_alone(path: Path, kind: str) -> None:
    match kind:
        case "file":
            path.write_text("precious")
        case "link":
            path.symlink_to("/nowhere")
        case _:
            path.mkdir()
    assert await refusal(path) == f"cliaddr: {path} is there and is not a socket"
    assert path.lstat()


async def test_the_socket_of_another_user_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
    if os.geteuid():
        monkeypatch.setattr(_listening, "_check_folder", lambda _: None)
        monkeypatch.setattr("dmsg_trio.apps.pty.host._listening.os.geteuid", lambda: 4_000_000)
    else:
        os.chown(path, 4_000_000, -1)
    assert "is a socket of another user" in await refusal(path)
    with pytest.raises(ConfigError, match="another user"):
        check_socket(path)
    assert path.exists()


@pytest.mark.parametrize("mode", [0o777, 0o775])
async def test_a_folder_where_others_can_replace_the_socket_is_refused(
    path: Path, mode: int
) -> None:
    path.parent.chmod(mode)
    assert "others could replace the socket" in await refusal(path)
    path.parent.chmod(mode | stat.S_ISVTX)
    async with open_local_listeners(at(path)):
        pass
    path.parent.chmod(0o700)


async def test_a_folder_that_is_not_there_is_said(path: Path) -> None:
    assert "No such file" in await refusal(path.parent / "none" / "pty.sock")


async def test_a_socket_that_somebody_else_put_there_meanwhile_stays(path: Path) -> None:
    async with open_local_listeners(at(path)):
        path.unlink()
        path.write_text("not ours")
    assert path.read_text() == "not ours"


@pytest.mark.network
async def test_over_tcp_it_listens_where_it_should() -> None:
    options = HostOptions(network="tcp", address="127.0.0.1:0")
    async with open_local_listeners(options) as (listener,):
        port = listener.socket.getsockname()[1]
        async with await trio.open_tcp_stream("127.0.0.1", port):
            pass
        taken = HostOptions(network="tcp", address=f"127.0.0.1:{port}")
        with pytest.raises(ConfigError, match=r"cliaddr: 127.0.0.1:"):
            async with open_local_listeners(taken):
                pass


def test_what_is_no_socket_is_not_connected_to(path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        check_socket(path)
    path.touch()
    with pytest.raises(ConfigError, match="is not a socket"):
        check_socket(path)
