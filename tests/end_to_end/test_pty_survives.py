"""Remote shells on bad networks: whatever is lost on the way, no byte is missing or there twice."""

from __future__ import annotations

import hashlib
import random
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from tests.cli.pty_programs import cli_running
from tests.cli.running import line_of
from tests.end_to_end.deployment import Deployment
from tests.end_to_end.test_pty import GUEST, Guest, registered
from tests.end_to_end.wires import open_wire
from tests.waiting import PATIENCE, Log, answered

pytestmark = pytest.mark.network

LINES = 300_000
NUMBERS = b"".join(b"%d\n" % number for number in range(1, LINES + 1))  # 2 MB
COUNTING = "i=0; while [ $i -lt {} ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 9"


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(piece) async for piece in stream])


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_wire_that_is_cut_again_and_again_loses_and_repeats_nothing(
    tmp_path: Path, seed: int
) -> None:
    """Both ways at once."""
    typed = random.Random(seed).randbytes(1_000_000)
    script = f"seq 1 {LINES} & sha256sum >&2; wait; exit 7"
    deployment = Deployment(tmp_path, behind_wires=True)
    async with (
        deployment.discovery(),
        deployment.server(),
        open_wire(deployment.wires[0], deployment.ports[0]) as wire,
        registered(tmp_path, deployment, GUEST.pk) as host,
    ):
        # The host's connection is there already, and is left alone.
        wire.cut_every(100_000, 600_000, seed=seed, spared=wire.connections)
        guest = Guest(tmp_path, GUEST, deployment.url)
        async with cli_running(
            *guest.options, str(host.pk), "sh", "-c", script, discovery=deployment.url, stdin=-1
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            said = Log("the CLI")
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(type_all, process.stdin, typed)
                    nursery.start_soon(said.read, process.stderr)
                    assert await read_all(process.stdout) == NUMBERS
                assert await process.wait() == 7
        await said.said(hashlib.sha256(typed).hexdigest())
        assert wire.cuts >= 3


async def type_all(stream: trio.abc.SendStream, data: bytes) -> None:
    async with stream:
        await stream.send_all(data)


async def test_a_network_that_falls_silent_is_gone_on_with_when_it_is_back(tmp_path: Path) -> None:
    """Nobody hears that it is gone; it is back while that has just been found out."""
    deployment = Deployment(tmp_path, behind_wires=True)
    async with (
        deployment.discovery(),
        deployment.server(),
        open_wire(deployment.wires[0], deployment.ports[0]) as wire,
        registered(tmp_path, deployment, GUEST.pk) as host,
        trio.open_nursery() as nursery,
    ):
        guest = Guest(tmp_path, GUEST, deployment.url)
        async with cli_running(
            *guest.options, str(host.pk), "seq", "1", str(LINES), discovery=guest.discovery
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            said = Log("the CLI")
            nursery.start_soon(said.read, process.stderr)
            output = bytearray()

            async def read(stream: trio.abc.ReceiveStream) -> None:
                async for piece in stream:
                    if not output:
                        wire.fall_silent()
                    output.extend(piece)

            with trio.fail_after(2 * PATIENCE):
                async with trio.open_nursery() as reading:
                    reading.start_soon(read, process.stdout)
                    await said.said("connection lost, trying again")
                    assert len(output) < len(NUMBERS)
                    wire.be_heard_again()
                assert await process.wait() == 0
        assert output == NUMBERS
        await said.said("the connection is back")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_another_server_takes_over_from_one_that_ends(
    tmp_path: Path, how: signal.Signals
) -> None:
    deployment = Deployment(tmp_path, servers=2, behind_wires=True)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(deployment.discovery())
        servers = [await stack.enter_async_context(deployment.server(n)) for n in range(2)]
        wires = [
            await stack.enter_async_context(open_wire(*ports))
            for ports in zip(deployment.wires, deployment.ports, strict=True)
        ]
        host = await stack.enter_async_context(
            registered(tmp_path, deployment, GUEST.pk, dmsgsessions=2)
        )

        async def is_at_both() -> bool:
            await trio.lowlevel.checkpoint()
            return all(wire.connections for wire in wires)

        assert await answered(is_at_both, within=PATIENCE)
        guest = Guest(tmp_path, GUEST, deployment.url)
        nursery = await stack.enter_async_context(trio.open_nursery())
        process = await stack.enter_async_context(
            cli_running(
                *guest.options,
                str(host.pk),
                "sh",
                "-c",
                COUNTING.format(400),
                discovery=guest.discovery,
            )
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = Log("the CLI")
        nursery.start_soon(said.read, process.stderr)
        with trio.fail_after(PATIENCE):
            first = await line_of(process.stdout)
            before = [wire.carried for wire in wires]
            for _ in range(40):  # so many that whatever else goes over a wire is less
                first += await line_of(process.stdout)
            grown = [wire.carried - was for wire, was in zip(wires, before, strict=True)]
            servers[grown.index(max(grown))].send_signal(how)
            rest = await read_all(process.stdout)
            assert await process.wait() == 9
        assert first + rest == b"".join(b"line %d\n" % number for number in range(400))
        if how is signal.SIGKILL:
            await said.said("the connection is back")
        else:  # one that is asked to end carries those on who are there
            assert "the connection is back" not in said.text
