"""dmsg cat: bytes go both ways unchanged, each direction to its own end."""

import secrets
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from tests.cli.running import DMSG, NOBODY, PATIENCE, dmsg, environment, line_of, network

MUCH = 10_000_000

pytestmark = pytest.mark.network


@dataclass(frozen=True)
class Listening:
    """A `dmsg cat --listen` in a process of its own."""

    address: str
    process: trio.Process
    stdin: trio.abc.SendStream
    stdout: trio.abc.ReceiveStream


@asynccontextmanager
async def listening(discovery: str, *options: str) -> AsyncIterator[Listening]:
    process = await trio.lowlevel.open_process(
        [DMSG, "cat", "--listen", "1234", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(discovery),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    async with process.stdin, process.stdout, process.stderr:
        try:
            with trio.fail_after(PATIENCE):
                line = (await line_of(process.stderr)).decode()
                before, address = line.split("listening on ")
                assert not before
                yield Listening(address.strip(), process, process.stdin, process.stdout)
        finally:
            process.kill()
            await process.wait()


async def test_much_goes_both_ways_at_once_and_arrives_unchanged() -> None:
    question, answer = secrets.token_bytes(MUCH), secrets.token_bytes(MUCH + 1)
    heard: list[bytes] = []
    async with network() as up, listening(up.ready.discovery) as far:

        async def talk_there() -> None:
            await far.stdin.send_all(answer)
            await far.stdin.aclose()

        async def hear_there() -> None:
            heard.extend([bytes(piece) async for piece in far.stdout])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk_there)
            nursery.start_soon(hear_there)
            near = await dmsg("cat", far.address, stdin=question, discovery=up.ready.discovery)
        assert await far.process.wait() == 0
    assert (near.code, near.err) == (0, "")
    assert near.out == answer
    assert b"".join(heard) == question


async def test_one_direction_ends_and_the_other_goes_on() -> None:
    async with network() as up, listening(up.ready.discovery) as far:
        done = []

        async def ask() -> None:
            done.append(
                await dmsg("cat", far.address, stdin=b"question\n", discovery=up.ready.discovery)
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            assert await line_of(far.stdout) == b"question\n"
            # The input of who asks has ended; the answer comes after that.
            await far.stdin.send_all(b"answer\n")
            await far.stdin.aclose()
        assert await far.process.wait() == 0
    assert (done[0].code, done[0].out) == (0, b"answer\n")


async def test_what_is_sent_to_an_echo_comes_back() -> None:
    data = secrets.token_bytes(100_000)
    async with network() as up:
        done = await dmsg("cat", up.ready.echo, stdin=data, discovery=up.ready.discovery)
    assert (done.code, done.out, done.err) == (0, data, "")


async def test_who_is_not_allowed_is_sent_away_and_told_so_by_the_exit_code() -> None:
    async with network() as up, listening(up.ready.discovery, "--allow", NOBODY) as far:
        done = await dmsg("cat", far.address, discovery=up.ready.discovery)
    assert done.code == 1
    assert done.err.startswith("error: the stream broke: ")


@pytest.mark.parametrize(
    ("whom", "said"),
    [
        ("{client}:99", "refused: nobody listens on this port (306)"),
        (f"{NOBODY}:80", "no client of this key is registered at the discovery"),
        ("{client}", "lacks a port"),
    ],
)
async def test_a_stream_that_does_not_open_is_one_clear_line(whom: str, said: str) -> None:
    async with network() as up:
        address = whom.format(client=up.ready.client)
        done = await dmsg("cat", address, discovery=up.ready.discovery)
    assert (done.code, done.out) == (1, b"")
    assert said in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "either PK:PORT or --listen PORT"),
        (["--listen", "1", f"{NOBODY}:1"], "either PK:PORT or --listen PORT"),
        ([f"{NOBODY}:1", "--key-stdin"], "both the key and what is sent"),
    ],
)
async def test_wrong_usage_is_said_before_anything_is_done(options: list[str], said: str) -> None:
    done = await dmsg("cat", *options, discovery="http://127.0.0.1:1")
    assert done.code in (1, 2)
    assert said in done.err + done.out.decode()
