"""dmsgweb as a person uses it: programs of its own, and clients that nobody here wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from dmsg_trio._address import Address
from dmsg_trio._errors import UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.client import open_client
from dmsg_trio.http import serve_asgi
from tests.apps.web.parties import all_of, receive_until
from tests.cli.running import NOBODY, Network, command, dmsg, network
from tests.cli.web_programs import Running, chromium, curl, dmsgweb, program
from tests.ports import free_port
from tests.waiting import PATIENCE, answered

pytestmark = pytest.mark.network

SECRET = SecretKey(bytes([7]) * 32)
PAGE = """<!doctype html><h1>A site on a key</h1><p id=said>nothing yet</p><img src=/when-shown><script>
const ws = new WebSocket("ws://" + location.host + "/ws");
ws.onopen = () => ws.send("hello");
ws.onmessage = (e) => { said.textContent = e.data; if (e.data == "HELLO") ws.send("shown"); };
</script>"""


@asynccontextmanager
async def site(up: Network, folder: Path) -> AsyncIterator[str]:
    """Serve a page with a WebSocket, a folder and large files on a key; give its host's name."""

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE)

    async def echo(request: Request) -> Response:
        return Response(await request.body())

    shown = trio.Event()

    async def when_shown(request: Request) -> Response:
        """Hold up the browser's load, which is what it waits for."""
        with trio.move_on_after(PATIENCE / 2):
            await shown.wait()
        return Response()

    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while (text := await websocket.receive_text()) != "shown":
                await websocket.send_text(text.upper())
            shown.set()
        except WebSocketDisconnect:
            pass

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/when-shown", when_shown),
            Route("/echo", echo, methods=["PUT"]),
            WebSocketRoute("/ws", ws),
            Mount("/files", StaticFiles(directory=folder, html=True)),
        ]
    )
    async with (
        open_client(discovery=up.ready.discovery) as client,
        open_service_nursery() as nursery,
    ):
        await nursery.start(serve_asgi, app, client, 80)
        yield f"{client.pk}.dmsg"


@asynccontextmanager
async def proxied(folder: Path, *options: str | Path) -> AsyncIterator[tuple[Running, str]]:
    """A network, a site on it, and a proxy."""
    async with (
        network() as up,
        site(up, folder) as host,
        dmsgweb("-q", "0", *options, discovery=up.ready.discovery) as web,
    ):
        yield web, host


# ---- curl ----


async def test_curl_comes_in_by_all_three_ways(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (web, host):
        for way in (
            ["-x", f"http://{web.place}"],
            ["-p", "-x", f"http://{web.place}"],
            ["--socks5-hostname", web.place],
        ):
            done = await curl(*way, f"http://{host}/")
            assert b"A site on a key" in done.out, done.err
        large = tmp_path / "large"
        large.write_bytes(os.urandom(20_000_000))
        done = await curl("-x", f"http://{web.place}", "-T", str(large), f"http://{host}/echo")
        assert done.out == large.read_bytes()
        done = await curl("--socks4a", web.place, f"http://{host}/")
        assert done.code == 97
        done = await curl("-x", f"http://{web.place}", f"http://{NOBODY}.dmsg/")
        assert done.out.startswith(b"No such key on the network\n")
        done = await curl("--socks5-hostname", web.place, f"http://{NOBODY}.dmsg/")
        assert (done.code, "(4)" in done.err) == (97, True)


async def test_a_server_that_dies_within_a_download_is_seen_by_curl(tmp_path: Path) -> None:
    async with network() as up, dmsgweb("-q", "0", discovery=up.ready.discovery) as web:
        async with open_client(discovery=up.ready.discovery) as client:
            listener = client.listen(80)
            codes = []

            async def download(way: str) -> None:
                done = await curl(way, web.place, f"http://{client.pk}.dmsg/", "-o", "/dev/null")
                codes.append(done.code)

            for way in "-x", "--socks5-hostname":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(download, way)
                    stream = await listener.accept()
                    await stream.receive_some()
                    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100_000))
                    stream.reset()
        assert codes == [56, 56]  # the connection was reset: no file without an end looks whole


# ---- a browser ----


async def knows(web: Running, alias: str) -> bool:
    """Tell whether the proxy has read of an alias; it looks at the file once a second."""
    done = await curl("-H", "Accept: application/json", f"http://{web.place}/")
    return alias in json.loads(done.out)["aliases"]


@pytest.mark.parametrize("way", ["http", "socks5", "pac"])
async def test_a_browser_shows_a_site_and_its_websocket(tmp_path: Path, way: str) -> None:
    (tmp_path / "aliases").write_text("")
    async with proxied(tmp_path, "--aliases", tmp_path / "aliases") as (web, host):
        (tmp_path / "aliases").write_text(f"home = {host.removesuffix('.dmsg')}\n")
        option = f"--proxy-server={way}://{web.place}"
        if way == "pac":
            option = f"--proxy-pac-url=http://{web.place}/proxy.pac"
            assert await answered(lambda: knows(web, "home"), within=PATIENCE)
        url = "http://home.dmsg/" if way == "pac" else f"http://{host}/"
        done = await chromium(tmp_path, option, "--dump-dom", url)
        assert "<h1>A site on a key</h1>" in done.out.decode(), done.err
        assert '<p id="said">HELLO</p>' in done.out.decode()


async def test_a_browser_shows_the_status_page_and_why_a_key_is_not_there(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (web, _):
        option = f"--proxy-pac-url=http://{web.place}/proxy.pac"
        done = await chromium(tmp_path, option, "--dump-dom", f"http://{NOBODY}.dmsg/")
        assert "<h1>No such key on the network</h1>" in done.out.decode(), done.err
        picture = tmp_path / "status.png"
        await chromium(tmp_path, option, f"--screenshot={picture}", f"http://{web.place}/")
        assert picture.read_bytes().startswith(b"\x89PNG")
        done = await chromium(tmp_path, option, "--dump-dom", f"http://{web.place}/")
        assert f"http://{web.place}/proxy.pac" in done.out.decode()
        assert "No such key on the network" in done.out.decode()


# ---- git and pip ----


async def test_git_clones_through_it(tmp_path: Path) -> None:
    git = program("git")
    work, served = tmp_path / "work", tmp_path / "served"
    script = f"""
        git init -q {work} && cd {work} && echo hello > file && git add file
        git -c user.name=x -c user.email=x@x commit -q -m one
        git clone -q --bare {work} {served}/repo.git && git -C {served}/repo.git update-server-info
    """
    await trio.run_process(["sh", "-ec", script])
    async with proxied(served) as (web, host):
        done = await command(
            [git, "-c", f"http.proxy=http://{web.place}", "clone", "-q",
             f"http://{host}/files/repo.git", str(tmp_path / "clone")]
        )  # fmt: skip
        assert done.code == 0, done.err
        assert (tmp_path / "clone" / "file").read_text() == "hello\n"


async def test_pip_downloads_through_it(tmp_path: Path) -> None:
    if (await command([sys.executable, "-m", "pip", "--version"])).code:
        pytest.skip("there is no pip here")
    folder = tmp_path / "simple" / "tiny"
    folder.mkdir(parents=True)
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("tiny.py", "")
        file.writestr(
            "tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
        )
        file.writestr(
            "tiny-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr("tiny-1.0.dist-info/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    async with proxied(tmp_path) as (web, host):
        done = await command(
            [sys.executable, "-m", "pip", "download", "--no-cache-dir", "--no-deps", "-q",
             "--disable-pip-version-check", "--proxy", f"http://{web.place}", "--trusted-host", host,
             "--index-url", f"http://{host}/files/simple/", "-d", str(tmp_path / "got"), "tiny"]
        )  # fmt: skip
        assert done.code == 0, done.err
        assert (tmp_path / "got" / wheel.name).read_bytes() == wheel.read_bytes()


# ---- forwards and srv ----


async def test_a_port_of_one_machine_is_a_port_of_another(tmp_path: Path) -> None:
    """`srv` on one side, `-t` on the other: HTTP and bytes, for a key on the list."""
    (tmp_path / "hello.txt").write_text("hello\n")
    key_file = tmp_path / "me.id"
    async with network() as up, tcp_echo() as echo_port:
        assert (await dmsg("keys", "new", str(key_file))).code == 0
        me = (await dmsg("keys", "show", str(key_file))).lines[0].split()[0]
        local = free_port()
        files = await trio.lowlevel.open_process(
            [sys.executable, "-m", "http.server", "-b", "127.0.0.1", str(local)],
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with dmsgweb(
                *("srv", "-l", f"{local},{echo_port}", "-d", "80,81", "-c", "false,true"),
                *("-w", f"80={me}", "-w", "81=*"),
                discovery=up.ready.discovery,
                lines=2,
            ) as srv:
                assert [place["local"] for place in srv.places] == [
                    f"127.0.0.1:{local}", f"127.0.0.1:{echo_port}",
                ]  # fmt: skip
                http, raw = (place["address"] for place in srv.places)
                ports = free_port(), free_port()
                async with dmsgweb(
                    *("-t", http, "-t", raw, "-p", f"{ports[0]},{ports[1]}", "-c", "false,true"),
                    *("--key-file", key_file),
                    discovery=up.ready.discovery,
                    lines=2,
                ):
                    done = await curl("--retry", "20", "--retry-connrefused", "--retry-delay", "1",
                                      f"http://127.0.0.1:{ports[0]}/hello.txt")  # fmt: skip
                    assert done.out == b"hello\n", done.err
                    async with await trio.open_tcp_stream("127.0.0.1", ports[1]) as stream:
                        await stream.send_all(b"there and back")
                        await stream.send_eof()
                        assert await all_of(stream) == b"there and back"
                async with dmsgweb("-q", "0", discovery=up.ready.discovery) as web:
                    done = await curl("-x", f"http://{web.place}", srv.places[0]["url"], "-i")
                    assert done.out.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
                    assert done.out.endswith(b"\r\n\r\n401 Unauthorized")
        finally:
            files.kill()
            await files.wait()


async def test_a_list_in_a_file_counts_while_srv_runs(tmp_path: Path) -> None:
    """And one local port may be at two dmsg ports, each for others."""
    key_file, friends = tmp_path / "me.id", tmp_path / "friends"
    assert (await dmsg("keys", "new", str(key_file))).code == 0
    me = (await dmsg("keys", "show", str(key_file))).lines[0].split()[0]
    friends.write_text(f"{NOBODY}  # somebody else\n")
    async with (
        network() as up,
        tcp_site(b"behind") as port,
        dmsgweb(
            *("srv", "-l", f"{port},{port}", "-d", "80,81", "--allow-file", f"80={friends}"),
            *("-w", "81=*"),
            discovery=up.ready.discovery,
            lines=2,
        ) as srv,
        dmsgweb("-q", "0", "--key-file", key_file, discovery=up.ready.discovery) as web,
    ):
        guarded, free = (place["url"] for place in srv.places)

        async def body(url: str) -> bytes:
            return (await curl("-x", f"http://{web.place}", url)).out

        assert await body(free) == b"behind"
        assert await body(guarded) == b"401 Unauthorized"
        friends.write_text(f"{NOBODY}\n{me}\n")
        assert await body(guarded) == b"behind"
        friends.write_text(f"{NOBODY}\nwrong\n")
        assert await body(guarded) == b"behind"
        await srv.log.said(r"friends, line 2: .*still count")
        friends.write_text("")
        assert await body(guarded) == b"401 Unauthorized"


@asynccontextmanager
async def tcp_echo() -> AsyncIterator[int]:
    async def echo(stream: trio.SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send_all(data)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with open_service_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        yield listeners[0].socket.getsockname()[1]


async def test_srv_that_ends_still_gives_an_answer_that_is_under_way() -> None:
    may_end = trio.Event()

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await receive_until(stream, b"\r\n\r\n")
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
            await may_end.wait()
            await stream.send_all(b"lf")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with network() as up, open_service_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        async with (
            dmsgweb("srv", "-l", str(port), discovery=up.ready.discovery) as srv,
            open_client(discovery=up.ready.discovery) as client,
        ):
            address = Address.parse(srv.places[0]["address"])
            async with await client.open_stream(address.pk, address.port) as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await receive_until(stream, b"ha")
                srv.process.terminate()
                with pytest.raises(UnreachableError):
                    while True:  # until it has seen the signal
                        (await client.open_stream(address.pk, address.port)).reset()
                may_end.set()
                assert await all_of(stream) == b"lf"
            with trio.fail_after(PATIENCE):
                assert await srv.process.wait() == 0


# ---- another proxy ----


@pytest.mark.parametrize("kind", ["microsocks", "tinyproxy"])
@pytest.mark.parametrize("named", ["DMSG_WEB_PROXY", "ADDPROXY", "TOML", "DMSGWEB"])
async def test_another_proxy_of_others_takes_our_name_and_password(
    tmp_path: Path, kind: str, named: str
) -> None:
    path, port = program(kind), free_port()
    (config := tmp_path / "tinyproxy.conf").write_text(
        f'Port {port}\nListen 127.0.0.1\nBasicAuth me hunter2\nLogFile "{tmp_path}/log"\n'
    )
    words, scheme = [path, "-d", "-c", str(config)], "http"
    if kind == "microsocks":
        words, scheme = [path, *f"-i 127.0.0.1 -p {port} -u me -P hunter2".split()], "socks5"
    url = f"{scheme}://me:hunter2@127.0.0.1:{port}"
    env = {named: url}
    if named == "TOML":
        (tmp_path / "config.toml").write_text(f'[web]\nproxy = "{url}"\n')
        env = {"DMSG_CONFIG": f"{tmp_path}/config.toml"}
    elif named == "DMSGWEB":
        (tmp_path / "conf").write_text(f"ADDPROXY='{url}'\n")
        (tmp_path / "conf").chmod(0o600)
        env = {"DMSGWEB": f"{tmp_path}/conf"}
    process = await trio.lowlevel.open_process(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with (
            tcp_site(b"behind") as site_port,
            dmsgweb("-q", "0", discovery="http://127.0.0.1:9", env=env) as web,
        ):
            for way in "-x", "--socks5-hostname":
                done = await curl(
                    *("--retry", "20", "--retry-delay", "1", "--retry-all-errors"),
                    *("-f", way, web.place, f"http://127.0.0.1:{site_port}/"),
                )
                assert done.out == b"behind", done.err
            status = await curl("-H", "Accept: application/json", f"http://{web.place}/")
            assert json.loads(status.out)["others"] == f"through {scheme}://127.0.0.1:{port}"
            web.process.terminate()
            with trio.fail_after(PATIENCE):
                await web.process.wait()
    finally:
        process.kill()
        await process.wait()
    assert b"hunter2" not in status.out
    assert "hunter2" not in web.log.text


@asynccontextmanager
async def tcp_site(body: bytes) -> AsyncIterator[int]:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await receive_until(stream, b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode() + body)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with open_service_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        yield listeners[0].socket.getsockname()[1]


async def test_a_file_with_a_password_is_for_its_owner_alone(tmp_path: Path) -> None:
    (conf := tmp_path / "conf").write_text("ADDPROXY=socks5://me:hunter2@x:1\n")
    conf.chmod(0o644)
    done = await dmsg("web", env={"DMSGWEB": str(conf)})
    assert (done.code, "chmod 600" in done.err, "hunter2" in done.err) == (1, True, False)


# ---- settings ----


async def test_the_file_of_the_reference_says_what_flags_and_variables_do_not(
    tmp_path: Path,
) -> None:
    conf = tmp_path / "dmsgwebsrv.conf"
    sk = SECRET.reveal().hex()
    conf.write_text(f"DMSGPORT=('90')\nLOCALPORT=('9')\nDMSGWEBSRVSK='{sk}'\nDMSGSESSIONS=2\n")
    conf.chmod(0o600)
    env = {"DMSGWEBSRV": str(conf)}
    async with network() as up:
        async with dmsgweb("srv", discovery=up.ready.discovery, env=env) as srv:
            assert srv.places[0]["address"] == f"{SECRET.pk}:90"
        async with dmsgweb("srv", "-d", "91", discovery=up.ready.discovery, env=env) as srv:
            assert srv.places[0]["address"] == f"{SECRET.pk}:91"
            assert srv.places[0]["local"] == "127.0.0.1:9"
    port = free_port()
    conf.write_text(f"PROXYPORT={free_port()}\n")
    env = {"DMSGWEB": str(conf), "PROXYPORT": str(port)}
    async with dmsgweb(discovery="http://127.0.0.1:9", env=env) as web:
        assert web.place == f"127.0.0.1:{port}"
        await web.log.said("no network yet: ")
        done = await curl("-x", f"http://{web.place}", f"http://{web.place}/proxy.pac")
        assert b"FindProxyForURL" in done.out


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["-s", "1" * 64], "--sk: everybody on this machine can read a command line"),
        (["-s", "1" * 64, "srv"], "variable DMSGWEBSK"),
        (["srv", "-s", "1" * 64], "variable DMSGWEBSRVSK"),
        (["-t", "x"], "not an address"),
        (["-t", NOBODY, "-t", NOBODY], "2 addresses (--resolve) and 1 local port (--port)"),
        (["-t", NOBODY, "-p", "80x"], "--port: '80x' is not a number"),
        (["-t", NOBODY, "-p", "1,2"], "1 address (--resolve) and 2 local ports"),
        (["-t", NOBODY, "--only-dmsg"], "--only-dmsg is for the proxy"),
        (["-t", NOBODY, "--proxy", "socks5://x:1"], "--proxy is for the proxy"),
        (["-t", NOBODY, "--aliases", "/nothing"], "--aliases is for the proxy"),
        (["-c", "true"], "--rt is for ports"),
        (["-p", "4446"], "--port is for --resolve: the proxy's port is --socks"),
        (["-r", "ftp://x:1"], "--proxy: not socks5://"),
        (["-r", "http://me:secret@x:p"], "--proxy: not socks5://[user:password@]host:port"),
        (["-r", "http://me:secret@x:1"], "--proxy: everybody on this machine can read"),
        (["-r", "x:1", "--only-dmsg"], "--proxy and --only-dmsg"),
        (["--aliases", "/nothing"], "cannot read /nothing"),
        (["--bind", "x"], "--bind: 'x' is not an address"),
        (["srv", "-l", "1,2"], "2 local ports (--lport) and 1 dmsg port (--dport)"),
        (["srv", "-l", "1,2", "-d", "80,80"], "--dport: port 80 is there twice"),
        (["-t", NOBODY, "-t", NOBODY, "-p", "1,1"], "--port: port 1 is there twice"),
        (["srv", "-w", "x"], "--wl: a public key is 66 hex digits"),
        (["srv", "-w", f"{NOBODY},x"], "--wl: a public key is 66 hex digits"),
        (["srv", "-w", ""], "--wl names no key"),
        (["srv", "--allow-file", "/nothing"], "cannot read /nothing"),
        (["srv", "-c", "maybe"], "--rt: true or false"),
    ],
)
async def test_wrong_settings_are_said_in_one_line(words: list[str], fault: str) -> None:
    done = await dmsg("web", *words)
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert fault in line
    assert "1" * 64 not in line
    assert "secret@" not in line


async def test_a_wrong_file_is_named_with_its_line(tmp_path: Path) -> None:
    (conf := tmp_path / "conf").write_text("PROXYPORT=1\nADDPROXY=$(touch /tmp/x)\n")
    done = await dmsg("web", env={"DMSGWEB": str(conf)})
    assert (done.code, f"{conf}, line 2: " in done.err) == (1, True)
    for words in ["web", "-z"], ["web", "srv", "-z"]:
        done = await dmsg(*words)
        assert (done.code, b"#DMSGSESSIONS=1" in done.out) == (0, True)


async def test_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (web, _):
        web.process.terminate()
        with trio.fail_after(PATIENCE):
            assert await web.process.wait() == 0


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_second_signal_does_not_wait_for_what_is_under_way(signals: int) -> None:
    async with network() as up, open_client(discovery=up.ready.discovery) as client:
        listener = client.listen(80)
        async with dmsgweb("-q", "0", discovery=up.ready.discovery) as web:
            host, _, port = web.place.partition(":")
            async with await trio.open_tcp_stream(host, int(port)) as asking:
                await asking.send_all(
                    f"GET http://{client.pk}.dmsg/ HTTP/1.1\r\nHost: {client.pk}.dmsg\r\n\r\n".encode()
                )
                far = await listener.accept()
                await far.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
                await receive_until(asking, b"\r\n\r\nha")
                web.process.terminate()
                await web.log.said("ending: 1 under way may take 5 s more")
                if signals == 2:
                    web.process.terminate()
                    assert await web.process.wait() == -signal.SIGTERM
                    assert (await all_of(asking)).removesuffix(b"<reset>") == b""
                else:
                    await far.send_all(b"lf")
                    assert await all_of(asking) == b"lf"
                    with trio.fail_after(PATIENCE):
                        assert await web.process.wait() == 0


async def test_a_port_that_is_taken_is_said_and_what_to_do_about_it() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener:
        for words, option in (
            (["web", "-q", str(port)], "--socks"),
            (["web", "-t", NOBODY, "-p", str(port)], "--port"),
            (["socks", "client", NOBODY, "-p", str(port)], "--port"),
        ):
            done = await dmsg(*words)
            assert (done.code, done.err) == (
                1,
                f"error: cannot listen on 127.0.0.1:{port}: Address already in use;"
                f" {option} 0 takes any port that is free\n",
            )
