"""Remote shells: our host under the reference's CLI and UI, and the reference's host under our CLI.

Their CLI needs a terminal, has the size of it only from a change on, and gives 0 however the command
ended. Their host never says why it refuses; its tools then print an `EOF`.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio

from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._wire.pty import WindowSize
from tests.interop.conftest import OURS, THEIRS, Network
from tests.interop.programs import Reference
from tests.interop.shells import (
    OUR_CLI,
    Host,
    at_terminal,
    at_their_cli,
    run_our_cli,
    start_host,
    whitelist,
)
from tests.ports import free_port
from tests.waiting import PATIENCE, answered

pytestmark = pytest.mark.parametrize("network", [OURS, THEIRS], indirect=True, ids=str)

OUTPUT = random.Random(1).randbytes(4_000_000)
USER = SecretKey.generate()  # a client of its own, on everybody's list


@dataclass(frozen=True, slots=True)
class Hosts:
    """One of each, which let each other in."""

    ours: Host
    theirs: Host


@pytest.fixture
async def hosts(network: Network, reference: Reference, tmp_path: Path) -> Hosts:
    a, b = SecretKey.generate(), SecretKey.generate()
    allowed = (a.pk, b.pk, USER.pk)
    (tmp_path / "output").write_bytes(OUTPUT)
    ours = await start_host(
        reference, tmp_path / "a", network.discovery, ours=True, allowed=allowed, sk=a
    )
    theirs = await start_host(
        reference, tmp_path / "b", network.discovery, ours=False, allowed=allowed, sk=b
    )
    return Hosts(ours, theirs)


# ---- their CLI ----


async def test_their_cli_runs_a_command_here_there_and_through_either_host(
    hosts: Hosts, reference: Reference
) -> None:
    ways: list[tuple[Host, PublicKey | None]] = [
        (hosts.ours, None),
        (hosts.theirs, hosts.ours.pk),
        (hosts.ours, hosts.theirs.pk),
    ]
    for host, far in ways:
        async with at_their_cli(
            reference, host, "-c", "/bin/sh", "-a", "-c,echo $((6*7))", far=far
        ) as cli:
            await cli.log.said("42\r\n")
            assert await cli.ended() == 0


async def test_their_cli_is_a_terminal_of_our_host_with_a_size_and_ctrl_c(
    hosts: Hosts, reference: Reference
) -> None:
    async with at_their_cli(reference, hosts.theirs, "-c", "/bin/sh", far=hosts.ours.pk) as cli:
        await cli.type("PS1=; stty -echo; echo rea''dy\r")
        await cli.log.said("ready")
        cli.process.resize(WindowSize(41, 117))
        while "41 117" not in cli.log.text:
            await cli.type("stty size\r")
            await trio.sleep(0.1)
        await cli.type("echo be''gun; sleep 1000; echo inter''rupted $?\r")
        await cli.log.said("begun")
        await cli.type("\x03")
        await cli.type("echo af''ter\r")
        await cli.log.said("after")
        await cli.type("exit 3\r")
        assert await cli.ended() == 0


async def test_their_cli_gets_some_megabytes_of_our_host_byte_by_byte(
    hosts: Hosts, reference: Reference, tmp_path: Path
) -> None:
    script = f"stty raw -echo; cat {tmp_path}/output; sleep 0.2"
    async with at_their_cli(
        reference, hosts.theirs, "-c", "/bin/sh", "-a", f"-c,{script}", far=hosts.ours.pk
    ) as cli:
        assert await cli.ended() == 0
        await cli.log.until(lambda: OUTPUT in cli.raw, "end of the output")


async def test_their_cli_hears_of_what_our_host_refuses(hosts: Hosts, reference: Reference) -> None:
    nobody = SecretKey.generate().pk
    async with at_their_cli(reference, hosts.ours, "-c", "/nonexistent") as cli:
        await cli.log.said("fork/exec /nonexistent: no such file or directory")
        await cli.ended()
    await whitelist(OUR_CLI, hosts.ours, "whitelist-remove", str(hosts.theirs.pk))
    for host, far in ((hosts.theirs, hosts.ours.pk), (hosts.ours, nobody)):
        async with at_their_cli(reference, host, far=far) as cli:
            await cli.log.said("EOF|reject")
            assert await cli.ended() != 0


# ---- our CLI ----


async def test_our_cli_runs_commands_on_their_host_as_if_it_had_pipes(
    hosts: Hosts, tmp_path: Path
) -> None:
    theirs = str(hosts.theirs.pk)
    ways = [
        (hosts.theirs, (), None),
        (hosts.ours, (theirs,), None),
        (hosts.ours, (theirs,), USER),
    ]
    for host, far, key in ways:
        given = ("--discovery", host_discovery(host)) if key else ()
        ended = await run_our_cli(
            host, *given, *far, "--", "sh", "-c", "cat; exit 3", stdin=OUTPUT[:300_000], key=key
        )
        assert ended.output == OUTPUT[:300_000], ended.errors
        assert ended.code == 3
        assert "keep errors apart from output" in ended.errors
    ended = await run_our_cli(hosts.ours, theirs, "--", "cat", str(tmp_path / "output"))
    assert hashlib.sha256(ended.output).digest() == hashlib.sha256(OUTPUT).digest()
    assert ended.code == 0


def host_discovery(host: Host) -> str:
    url: str = json.loads((host.folder / "host.json").read_text())["dmsgdisc"]
    return url


async def test_an_archive_from_their_host_can_be_read(hosts: Hosts, tmp_path: Path) -> None:
    folder = tmp_path / "dir"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}").write_bytes(OUTPUT[: number * 1000])
    ended = await run_our_cli(
        hosts.ours, str(hosts.theirs.pk), "--", "tar", "cz", "-C", str(tmp_path), "dir"
    )
    with tarfile.open(fileobj=io.BytesIO(ended.output), mode="r:gz") as archive:
        names = {member.name for member in archive.getmembers()}
        last = archive.extractfile("dir/19")
        assert last is not None
        assert last.read() == OUTPUT[:19_000]
    assert names == {"dir", *(f"dir/{number}" for number in range(20))}


async def test_our_cli_ends_a_command_that_waits_on_their_host(
    hosts: Hosts, tmp_path: Path
) -> None:
    for ended in (
        await run_our_cli(hosts.theirs, "--", "nonexistent"),
        await run_our_cli(hosts.ours, "--", "nonexistent"),
    ):
        assert ended.code == 127
        assert b"nonexistent" in ended.output + ended.errors.encode()
    pid_file = tmp_path / "pid"
    async with at_terminal(
        hosts.ours,
        *OUR_CLI,
        str(hosts.theirs.pk),
        "--",
        *("sh", "-c", f"echo $$ > {pid_file}; echo begun; exec sleep 1000"),
    ) as cli:
        await cli.log.said("begun")
        pid = int(pid_file.read_text())
        await cli.type("\x03")
        await cli.ended()

    async def has_ended() -> bool:
        return not is_running(pid)

    assert await answered(has_ended, within=5)


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_our_cli_has_a_terminal_on_their_host_with_a_size_and_ctrl_c(hosts: Hosts) -> None:
    for host, far in ((hosts.theirs, ""), (hosts.ours, str(hosts.theirs.pk))):
        # Through a local host the size that the start has is lost.
        async with at_terminal(
            host, *OUR_CLI, "-t", far, "--", "/bin/sh", size=WindowSize(33, 101)
        ) as cli:
            await cli.type("PS1=; stty -echo; stty size\r")
            await cli.log.said("33 101")
            await cli.type("sh -c 'echo begun; exec sleep 1000'\r")
            await cli.log.said("begun")
            await cli.type("\x03")
            await cli.type("echo af''ter\r")
            await cli.log.said("after")
            cli.process.resize(WindowSize(44, 99))
            while "44 99" not in cli.log.text:
                await cli.type("stty size\r")
                await trio.sleep(0.1)
            await cli.type("exit\r")
            assert await cli.ended() == 0


async def test_our_cli_says_why_it_cannot_have_a_shell(
    hosts: Hosts, network: Network, reference: Reference
) -> None:
    stranger = SecretKey.generate()
    given = ("--discovery", network.discovery)
    for host in (hosts.ours, hosts.theirs):
        ended = await run_our_cli(host, *given, str(host.pk), "--", "true", key=stranger)
        assert ended.code == 255
        assert ("is not allowed here" if host is hosts.ours else "refused") in ended.errors
    nobody = await run_our_cli(hosts.ours, str(stranger.pk), "--", "true")
    assert nobody.code == 255
    assert len(nobody.errors.splitlines()) == 1
    await hosts.theirs.program.aclose()
    dead = await run_our_cli(hosts.ours, str(hosts.theirs.pk), "--", "true")
    assert dead.code == 255
    assert len(dead.errors.splitlines()) == 1


# ---- the allow list ----


async def test_either_cli_changes_the_allow_list_of_either_host(
    hosts: Hosts, reference: Reference
) -> None:
    theirs = (reference.path("dmsgpty-cli"),)
    for host in (hosts.ours, hosts.theirs):
        for program in (theirs, OUR_CLI):
            key = str(SecretKey.generate().pk)
            assert (await whitelist(program, host, "whitelist-add", key)).code == 0
            for reader in (theirs, OUR_CLI):
                shown = await whitelist(reader, host, "whitelist")
                assert key in shown.output.decode()
            again = await whitelist(program, host, "whitelist-add", key)
            assert "xists" in again.errors + again.output.decode()
            assert (await whitelist(program, host, "whitelist-remove", key)).code == 0
            shown = await whitelist(program, host, "whitelist")
            assert key not in shown.output.decode()
            assert str(USER.pk) in shown.output.decode()


# ---- their web terminal ----


async def test_their_web_terminal_gets_its_shell_from_our_host(
    hosts: Hosts, reference: Reference
) -> None:
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection, Request, TextMessage

    port = free_port()
    await reference.start(
        reference.path("dmsgpty-ui"),
        *("--haddr", hosts.ours.socket, "--addr", f"127.0.0.1:{port}", "--cmd", "/bin/sh"),
    )

    async def is_there() -> bool:
        async with httpx.AsyncClient() as http:
            try:
                return (await http.get(f"http://127.0.0.1:{port}/")).status_code == 200
            except httpx.TransportError:
                return False

    assert await answered(is_there, within=PATIENCE)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        web, text = WSConnection(ConnectionType.CLIENT), ""
        await stream.send_all(web.send(Request(host=f"127.0.0.1:{port}", target="/")))
        with trio.fail_after(PATIENCE):
            while "size 30 100" not in text:
                web.receive_data(bytes(await stream.receive_some()))
                for event in web.events():
                    if isinstance(event, AcceptConnection):
                        typed = "echo size $(stty size)\n"
                        await stream.send_all(web.send(TextMessage(data=typed)))
                    elif isinstance(event, TextMessage):
                        text += event.data
