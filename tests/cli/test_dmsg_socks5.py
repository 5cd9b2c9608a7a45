"""dmsg-socks5 as a person uses it: programs of its own, curl through them, and nothing past them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.carrying import carry_both_ways
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.apps.socks5 import AllowList, ExitOptions
from dmsg_trio.cli.dmsg_socks5 import _Server
from tests.cli.running import NOBODY, PATIENCE, dmsg, line_of, network
from tests.cli.socks_programs import Running, fetch, site, socks
from tests.cli.web_programs import chromium
from tests.waiting import answered

LOOPBACK = ("--allow-target", "127.0.0.0/8")

pytestmark = pytest.mark.network


@asynccontextmanager
async def both(*options: str) -> AsyncIterator[tuple[Running, Running]]:
    """A network, a server that everybody may use, and a client of it."""
    async with (
        network() as up,
        socks("server", "--anyone", *options, discovery=up.ready.discovery) as server,
        socks("client", server.place["pk"], "-p", "0", discovery=up.ready.discovery) as client,
    ):
        yield server, client


async def test_curl_fetches_through_the_remote_key() -> None:
    async with site() as page, both(*LOOPBACK) as (server, client):
        done = await fetch(client, f"http://127.0.0.1:{page.port}/", "-w", "%{http_code}")
        assert (done.code, done.out) == (0, b"from the exit\n200")
        await server.log.said(rf"to 127\.0\.0\.1:{page.port}: closed, \d+ bytes out, \d+ in")


async def test_no_log_has_a_secret_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [SecretKey.generate().reveal().hex() for _ in range(2)]
    async with site() as page, network() as up:
        monkeypatch.setenv("DMSGSK", keys[0])
        words = ("server", "--anyone", *LOOPBACK, "--debug")
        async with socks(*words, discovery=up.ready.discovery) as server:
            monkeypatch.setenv("DMSGSK", keys[1])
            words = ("client", server.place["pk"], "-p", "0", "--debug")
            async with socks(*words, discovery=up.ready.discovery) as client:
                url = f"http://127.0.0.1:{page.port}/?token=hunter2"
                assert (await fetch(client, "-u", "me:hunter2", url)).code == 0
                await server.log.said(rf"to 127\.0\.0\.1:{page.port}: closed")
                assert "hunter2" in page.asked[0]
                for program in server, client:
                    assert " info " in program.log.text
                    for secret in (*keys, "hunter2"):
                        assert secret not in program.log.text + "".join(program.lines)


async def test_large_pages_come_whole() -> None:
    body = os.urandom(20_000_000)
    async with site(body) as page, both(*LOOPBACK) as (_, client):
        done = await fetch(client, f"http://127.0.0.1:{page.port}/")
        assert done.out == body


@asynccontextmanager
async def with_a_name_of_its_own(folder: Path) -> AsyncIterator[tuple[Running, str]]:
    """A client of a server that alone knows a name, its /etc/hosts being another one; and a URL there."""
    if not can_unshare("--mount"):
        pytest.skip("namespaces are not allowed here")
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 only-there.example\n")
    mount = f'mount --bind {hosts} /etc/hosts; exec "$@"'
    wrapper = (*NAMESPACES, "--mount", "sh", "-c", mount, "-")
    async with (
        site() as page,
        network() as up,
        socks("server", "--anyone", *LOOPBACK, discovery=up.ready.discovery, wrapper=wrapper) as s,
        socks("client", "-k", s.place["pk"], "-p", "0", discovery=up.ready.discovery) as client,
    ):
        yield client, f"http://only-there.example:{page.port}/"


async def test_names_are_looked_up_by_the_server(tmp_path: Path) -> None:
    async with with_a_name_of_its_own(tmp_path) as (client, url):
        done = await fetch(client, url)
        assert (done.code, done.out) == (0, b"from the exit\n"), done.err
        place = client.place["proxy"].removeprefix("socks5h://")
        local = await trio.run_process(
            ["curl", "-sS", "--socks5", place, url], check=False, capture_stderr=True
        )
        assert local.returncode
        assert b"resolve" in local.stderr


async def test_a_browser_goes_out_there(tmp_path: Path) -> None:
    async with with_a_name_of_its_own(tmp_path) as (client, url):
        place = client.place["proxy"].removeprefix("socks5h://")
        done = await chromium(tmp_path, f"--proxy-server=socks5://{place}", "--dump-dom", url)
        assert "from the exit" in done.out.decode(), done.err


async def test_a_server_that_dies_within_a_download_breaks_it_and_the_client_lives_on() -> None:
    async with site(bytes(1_000_000)) as page, network() as up:
        page.hang_after = 1000
        async with socks("server", "--anyone", *LOOPBACK, discovery=up.ready.discovery) as server:
            pk = server.place["pk"]
            async with socks("client", pk, "-p", "0", discovery=up.ready.discovery) as client:
                results = []

                async def download() -> None:
                    results.append(await fetch(client, f"http://127.0.0.1:{page.port}/"))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(download)
                    assert await answered(lambda: said(page.asked), within=PATIENCE)
                    server.process.kill()
                (done,) = results
                assert done.code in (18, 56)  # a part of the file; the connection was reset
                done = await fetch(client, f"http://127.0.0.1:{page.port}/")
                assert done.code == 97  # curl: the proxy said no
                assert "(4)" in done.err or "(1)" in done.err
                await client.log.said(f"127.0.0.1:{page.port}: {pk}:")


async def said(asked: list[str]) -> bool:
    await trio.lowlevel.checkpoint()
    return bool(asked)


async def test_private_targets_need_a_word() -> None:
    async with site() as page, both() as (server, client):
        done = await fetch(client, f"http://127.0.0.1:{page.port}/")
        assert done.code == 97
        assert "(2)" in done.err
        await server.log.said(r"refused, 127\.0\.0\.1 is not a public address")
        assert not page.asked


async def test_who_is_not_on_the_list_is_told_at_the_start_and_who_comes_onto_it_may(
    tmp_path: Path,
) -> None:
    listed = tmp_path / "keys"
    listed.write_text(f"{NOBODY}\n")
    listed.chmod(0o600)
    key = SecretKey.generate()
    (tmp_path / "me.id").touch(0o600)
    (tmp_path / "me.id").write_text(key.reveal().hex())
    me = ("--key-file", str(tmp_path / "me.id"))
    async with (
        site() as page,
        network() as up,
        socks("server", "--allow-file", str(listed), *LOOPBACK, discovery=up.ready.discovery) as s,
        socks("client", s.place["pk"], "-p", "0", *me, discovery=up.ready.discovery) as client,
    ):
        await client.log.said(f"does not let {key.pk} go out there")
        url = f"http://127.0.0.1:{page.port}/"
        assert (await fetch(client, url)).code == 97
        listed.write_text(f"{NOBODY}\n{key.pk}  # me\n")

        async def may() -> bool:
            return (await fetch(client, url)).code == 0

        assert await answered(may, within=PATIENCE)
        page.hang_after = 5
        results = []

        async def download() -> None:
            results.append(await fetch(client, url))

        before = len(page.asked)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(download)
            assert await answered(lambda: said(page.asked[before:]), within=PATIENCE)
            listed.write_text(f"{NOBODY}\n")
        assert results[0].code in (18, 56)
        await s.log.said(f"{key.pk} is not on the allow list any more")


# ---- nothing goes past it ----

NAMESPACES = ("unshare", "--map-root-user", "--user")
BRIDGE = """
import os, socket, sys, threading

def carry(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for each in (a, b):
        try:
            each.shutdown(socket.SHUT_WR if each is b else socket.SHUT_RD)
        except OSError:
            pass

def serve(port):
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        near, _ = listener.accept()
        far = socket.socket(socket.AF_UNIX)
        far.connect(f"{sys.argv[1]}/{port}")
        for pair in (near, far), (far, near):
            threading.Thread(target=carry, args=pair, daemon=True).start()

for port in sys.argv[2:]:
    threading.Thread(target=serve, args=(int(port),), daemon=True).start()
print("bridged", flush=True)
threading.Event().wait()
"""


def can_unshare(*kinds: str) -> bool:
    """Tell whether this user may have namespaces of its own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACES, *kinds, "true"], capture_output=True).returncode == 0


async def test_with_the_hosts_own_network_sunk_everything_still_goes_through(
    tmp_path: Path,
) -> None:
    """The client in a namespace without any network but its loopback.

    There the addresses of the discovery and of the relays lead, by Unix sockets, to the real ones;
    nothing else leads anywhere. So all that curl gets there came through the remote key.
    """
    if not can_unshare("--net") or not (shutil.which("ip") and shutil.which("nsenter")):
        pytest.skip("network namespaces are not allowed here")
    async with site() as page, network() as up, open_service_nursery() as nursery:
        ports = [int(up.ready.discovery.rpartition(":")[2])]
        ports += [int(each.address.rpartition(":")[2]) for each in up.ready.servers]
        for port in ports:
            nursery.start_soon(bridge_outside, tmp_path / str(port), port)
        async with (
            socks("server", "--anyone", *LOOPBACK, discovery=up.ready.discovery) as server,
            sunk(tmp_path, ports) as inside,
            socks(
                *("client", server.place["pk"], "-p", "0"),
                discovery=up.ready.discovery,
                wrapper=inside,
            ) as client,
        ):
            url = f"http://127.0.0.1:{page.port}/"
            direct = await trio.run_process(
                [*inside, "curl", "-sS", url], check=False, capture_stderr=True
            )
            assert direct.returncode == 7  # nothing is there
            done = await fetch(client, url, wrapper=inside)
            assert (done.code, done.out) == (0, b"from the exit\n"), done.err
            # With the far end gone there is no other way out, and none is tried.
            server.process.kill()
            done = await fetch(client, url, wrapper=inside)
            assert done.code == 97


@asynccontextmanager
async def sunk(folder: Path, ports: list[int]) -> AsyncIterator[tuple[str, ...]]:
    """Make a namespace with nothing but bridges in it; give what runs commands inside."""
    words = (*NAMESPACES, "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "-")
    process = await trio.lowlevel.open_process(
        [*words, "python3", "-c", BRIDGE, str(folder), *map(str, ports)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(PATIENCE):
            assert await line_of(process.stdout) == b"bridged\n"
        yield ("nsenter", "-t", str(process.pid), "--user", "--net", "--preserve-credentials")
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


async def bridge_outside(path: Path, port: int) -> None:
    """Carry connections to a Unix socket on to a port of the real loopback."""

    async def serve(near: trio.SocketStream) -> None:
        async with near, await trio.open_tcp_stream("127.0.0.1", port) as far:
            await carry_both_ways(near, far)

    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(path))
        sock.listen(50)
        await trio.serve_listeners(serve, [trio.SocketListener(sock)])


# ---- the command line ----


async def test_an_open_exit_has_to_be_asked_for() -> None:
    done = await dmsg("socks", "server")
    assert done.code == 1
    assert "--wl PK" in done.err
    assert "--anyone" in done.err
    done = await dmsg("socks", "server", "--anyone", "--wl", NOBODY)
    assert (done.code, done.out) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("server", "--wl", f"{NOBODY},{NOBODY[:-1]}"), "--wl: "),
        (("server", "--wl", ","), "who may go out"),
        (("server", "--allow-file", "/nowhere"), "cannot read /nowhere"),
        (("server", "--anyone", "--allow-target", "10.0.0.0/33"), "--allow-target: "),
        (("server", "--anyone", "--sk", "00" * 32), "variable DMSGSK"),
        (("client",), "name one public key"),
        (("client", NOBODY, "-k", NOBODY), "name one public key"),
        (("client", "nobody"), "not an address"),
        (("client", NOBODY, "--bind", "everywhere"), "--bind"),
        (("client", NOBODY, "--bind", "203.0.113.1"), "cannot listen"),
        (("client", NOBODY, "-s", "11" * 32), "variable DMSGSK"),
    ],
)
async def test_what_makes_no_sense_is_one_line(arguments: tuple[str, ...], why: str) -> None:
    done = await dmsg("socks", *arguments)
    assert done.code == 1
    assert why in done.err.splitlines()[-1]
    assert "11" * 32 not in done.err


@pytest.mark.parametrize("allow", [AllowList(None, given=[PublicKey.parse(NOBODY)]), None])
def test_the_line_for_the_client_names_a_key_where_one_has_to_be_on_a_list(
    allow: AllowList | None, capsys: pytest.CaptureFixture[str]
) -> None:
    _Server(
        sk=SecretKey.generate(),
        port=1081,
        discovery="http://d",
        allow=allow,
        options=ExitOptions(),
        as_json=False,
    )._print_place(PublicKey.parse(NOBODY))
    line = capsys.readouterr().out.splitlines()[-1]
    more = " --key-file FILE" if allow else ""
    assert line == f"use      dmsg-socks5 client -D http://d -k {NOBODY}{more}"


async def test_the_key_of_the_references_variable_counts() -> None:
    sk = SecretKey.generate()
    wrapper = ("env", f"DMSGSK={sk.reveal().hex()}")
    async with (
        network() as up,
        socks(
            *("server", "--anyone"),
            discovery=up.ready.discovery,
            wrapper=wrapper,
            as_json=False,
        ) as server,
    ):
        assert server.lines == [
            f"exit     {sk.pk}:1081\n",
            "to       the internet\n",
            "for      everybody who has the key\n",
            f"use      dmsg-socks5 client -D {up.ready.discovery} -k {sk.pk}\n",
        ]
        server.process.terminate()
        assert await server.process.wait() == 0


async def test_the_client_says_what_to_do_and_what_is_missing() -> None:
    async with (
        network() as up,
        socks("client", NOBODY, "-p", "0", discovery=up.ready.discovery, as_json=False) as client,
    ):
        place = client.lines[0].split("//")[1].strip()
        assert client.lines[1] == f"exit     {NOBODY}:1081\n"
        assert client.lines[2] == (
            f"try      curl --socks5-hostname {place} https://example.com/\n"
        )
        await client.log.said(f"{NOBODY}: no client of this key is registered at the discovery")


async def test_a_proxy_in_the_environment_is_not_the_way_onto_the_network() -> None:
    """It would be this one, for who has set it for all programs of a terminal."""
    proxy = ("env", "ALL_PROXY=socks5h://127.0.0.1:1", "http_proxy=http://127.0.0.1:1")
    async with network() as up:
        there = up.ready.discovery
        async with (
            site() as page,
            socks("server", "--anyone", *LOOPBACK, discovery=there, wrapper=proxy) as server,
            socks("client", server.place["pk"], "-p0", discovery=there, wrapper=proxy) as client,
        ):
            assert (await fetch(client, f"http://127.0.0.1:{page.port}/")).code == 0


async def test_a_network_that_is_not_there_is_said() -> None:
    nowhere = "http://127.0.0.1:1"
    async with socks("client", NOBODY, "-p", "0", discovery=nowhere) as client:
        await client.log.said(f"no network yet: .*{nowhere}.*; trying on")
