"""dmsghttp as a program of its own, in a network of programs."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from dmsg_trio._keys import SecretKey
from dmsg_trio.client import open_client
from dmsg_trio.http import DmsgTransport
from tests.cli.running import Network, dmsg, network
from tests.cli.serving import dmsghttp
from tests.examples.test_docs_commands import paste
from tests.waiting import PATIENCE, answered

pytestmark = pytest.mark.network

KEY = SecretKey.generate()


@asynccontextmanager
async def web(up: Network, key: SecretKey = KEY) -> AsyncIterator[httpx.AsyncClient]:
    """Be somebody who asks."""
    async with (
        open_client(key, discovery=up.ready.discovery) as client,
        httpx.AsyncClient(transport=DmsgTransport(client), timeout=PATIENCE) as asking,
    ):
        yield asking


async def test_a_folder_is_there_when_it_says_so_and_gone_afterwards(tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("hello")
    async with network() as up, web(up) as asking:
        async with dmsghttp(tmp_path, discovery=up.ready.discovery) as program:
            url = await program.url()
            assert (await asking.get(f"{url}hello.txt")).text == "hello"
            assert "hello.txt" in (await asking.get(url)).text
            assert await program.out.said(r"get +(.*)\n") == (
                f"dmsgcurl -c {up.ready.discovery} {url}"
            )
            assert await program.out.said(r"serving +(.*)\n") == str(tmp_path)
            assert await program.stop() == 0
        pk = url.removeprefix("dmsg://").partition(":")[0]
        async with httpx.AsyncClient() as plain:
            entry = f"{up.ready.discovery}/dmsg-discovery/entry/{pk}"
            assert (await plain.get(entry)).status_code == 404


async def test_it_tells_programs_where_it_is(tmp_path: Path) -> None:
    async with network() as up:
        env = {"DMSGHTTP_SK": KEY.reveal().hex()}
        options = ("-d", str(tmp_path), "-p", "8080", "--json")
        async with dmsghttp(*options, discovery=up.ready.discovery, env=env) as program:
            place = json.loads(await program.out.said(r"(.*)\n"))
    assert place == {
        "url": f"dmsg://{KEY.pk}:8080/",
        "pk": str(KEY.pk),
        "port": 8080,
        "dir": str(tmp_path),
        "curl": f"dmsgcurl -c {up.ready.discovery} dmsg://{KEY.pk}:8080/",
    }


async def test_only_keys_on_the_list_get_in_and_each_request_is_logged(tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("hello")
    (tmp_path / "list").write_text(f"# friends\n\n{SecretKey.generate().pk}  # a friend\n")
    stranger = SecretKey.generate()
    options = ("-w", str(KEY.pk), "--allow-file", tmp_path / "list", "--log-json")
    async with (
        network() as up,
        dmsghttp(tmp_path, *options, discovery=up.ready.discovery) as program,
        web(up) as asking,
        web(up, stranger) as refused,
    ):
        url = await program.url()
        assert "2 keys" in program.out.text
        assert await program.out.said(r"get +(.*)\n") == (
            f"dmsgcurl -c {up.ready.discovery} --key-file your.id {url}"
        )
        assert (await asking.get(f"{url}hello.txt?x=1")).status_code == 200
        reply = await refused.get(f"{url}hello.txt")
        said = f"Forbidden: {stranger.pk} is not on the list\n"
        assert (reply.status_code, reply.text) == (403, said)
        await program.err.until(lambda: program.err.text.count("\n") == 2, "two requests")
        first, second = map(json.loads, program.err.text.splitlines())
    assert first.pop("seconds") < PATIENCE
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", first.pop("time"))
    assert first == {
        "client": str(KEY.pk),
        "method": "GET",
        "path": "/hello.txt?x=1",
        "status": 200,
        "bytes": 5,
        "whole": True,
    }
    assert (second["client"], second["status"]) == (str(stranger.pk), 403)


async def test_a_request_is_a_line_for_people_and_none_if_they_want_none(tmp_path: Path) -> None:
    async with network() as up, web(up) as asking:
        async with dmsghttp(tmp_path, discovery=up.ready.discovery) as program:
            await asking.get(f"{await program.url()}nothing")
            assert await program.err.said(rf"Z {KEY.pk} GET /nothing 404 10 \d+\.\d{{3}}\n")
        async with dmsghttp(tmp_path, "-q", discovery=up.ready.discovery) as program:
            await asking.get(f"{await program.url()}nothing")
            assert await program.stop() == 0
        assert program.err.text == ""


async def test_files_are_uploaded_where_that_is_allowed(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    async with (
        network() as up,
        dmsghttp(tmp_path, "--upload", discovery=up.ready.discovery) as program,
        web(up) as asking,
    ):
        url = await program.url()
        assert (await asking.put(f"{url}new.bin", content=data)).status_code == 201
        assert (await asking.get(f"{url}new.bin")).content == data
        assert (await asking.put(f"{url}new.bin", content=b"other")).status_code == 409
        assert (tmp_path / "new.bin").read_bytes() == data
        assert os.listdir(tmp_path) == ["new.bin"]


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def something_is_there() -> bool:
        return bool(os.listdir(tmp_path))

    async def begin_and_stop() -> AsyncIterator[bytes]:
        yield os.urandom(2_000_000)
        assert await answered(something_is_there, within=PATIENCE)
        scope.cancel()
        await trio.sleep_forever()

    async with (
        network() as up,
        dmsghttp(tmp_path, "--upload", discovery=up.ready.discovery) as program,
        web(up) as asking,
    ):
        url = await program.url()
        with trio.CancelScope() as scope:
            await asking.put(f"{url}new.bin", content=begin_and_stop())
        assert await program.err.said("PUT /new.bin - 0 .* broken off")
        assert os.listdir(tmp_path) == []


async def test_a_download_that_is_under_way_ends_before_the_program(tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    (tmp_path / "large.bin").write_bytes(data)
    async with (
        network() as up,
        dmsghttp(tmp_path, discovery=up.ready.discovery) as program,
        web(up) as asking,
        asking.stream("GET", f"{await program.url()}large.bin") as reply,
    ):
        got = bytearray()
        async for piece in reply.aiter_raw():
            if not got:
                program.process.send_signal(signal.SIGTERM)
            got += piece
        assert got == data
        assert await program.process.wait() == 0


async def test_a_download_ends_when_its_key_leaves_the_list(tmp_path: Path) -> None:
    size = 50_000_000
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(size)
    friend = SecretKey.generate()
    (tmp_path / "list").write_text(f"{KEY.pk}\n{friend.pk}\n")
    async with (
        network() as up,
        dmsghttp(
            tmp_path, "--allow-file", tmp_path / "list", discovery=up.ready.discovery
        ) as program,
        web(up) as asking,
        web(up, friend) as staying,
    ):
        url = await program.url()
        async with (
            asking.stream("GET", f"{url}large.bin") as cut_off,
            staying.stream("GET", f"{url}large.bin") as reply,
        ):
            (tmp_path / "list").write_text(f"{friend.pk}\n")
            # Before anything is read: what nobody reads cannot have ended by itself.
            assert await program.err.said(rf"{KEY.pk} GET /large.bin 200 \d+ .* broken off\n")
            with pytest.raises(httpx.HTTPError):
                async for _ in cut_off.aiter_raw():
                    pass
            assert sum([len(piece) async for piece in reply.aiter_raw()]) == size
        assert (await asking.get(url)).status_code == 403


async def test_a_network_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    async with dmsghttp(tmp_path, discovery="http://127.0.0.1:1") as program:
        await program.err.said("no network yet: http://127.0.0.1:1/.*; trying on\n")
        assert program.out.text == ""
        assert await program.stop() == 0


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["nowhere"], "cannot serve nowhere: No such file or directory"),
        (["-d", "/dev/null"], "cannot serve /dev/null: Not a directory"),
        (["one", "-d", "two"], "one folder is enough: one or two"),
        (["-w", f"{KEY.pk},02ab"], "--wl: a public key is 66 hex digits, not 4: '02ab'"),
        (["-w", " , "], "--wl names no key; leave it away to let everybody come"),
        (["--allow-file", "nowhere"], "cannot read nowhere: No such file"),
        (["--allow-file", "/dev/null"], "cannot read /dev/null: not a regular file"),
        (["--overwrite"], "--overwrite needs --upload"),
        (["--upload", "--max-upload", "much"], "not a size like 500M or 2GiB: much"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(options: list[str], fault: str) -> None:
    done = await dmsg("http", *options)
    assert (done.code, done.out) == (1, b"")
    (line,) = done.err.splitlines()
    assert fault in line


async def test_a_wrong_line_of_the_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{KEY.pk}\nnobody\n")
    done = await dmsg("http", "--allow-file", str(tmp_path / "list"))
    assert done.code == 1
    assert f"{tmp_path / 'list'}, line 2: a public key is 66 hex digits" in done.err


@pytest.mark.parametrize("option", ["-s", "--sk"])
async def test_a_secret_is_no_option(option: str) -> None:
    secret = KEY.reveal().hex()
    done = await dmsg("http", option, secret)
    assert done.code == 1
    assert "DMSGHTTP_SK" in done.err
    assert secret not in done.err


async def test_lines_of_its_page_work_as_they_are_pasted(tmp_path: Path) -> None:
    async with network() as up:
        done = await paste("docs/dmsghttp.md", tmp_path, up.ready.discovery)
    assert done.code == 0, done.err
    said = done.out.decode()
    assert said.count("hello\n") == 2  # the first time, and to the friend
    assert (tmp_path / "copy.txt").read_text() == "hello\n"
    assert '"entries":[{"name":"hello.txt"' in said
    assert "Forbidden" in said
    assert said.endswith("Created\nfor you\n")
