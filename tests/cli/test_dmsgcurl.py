"""dmsgcurl, the program: curl's habits, on a real network, with things that are killed."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from dmsg_trio._keys import SecretKey
from dmsg_trio.cli._curl_run import is_text
from tests.cli.curl_programs import CURL, curl, curl_running, file_server
from tests.cli.running import NOBODY, Done, dmsg, environment, network
from tests.cli.terminals import open_terminal
from tests.examples.test_docs_commands import paste
from tests.waiting import answered

NOWHERE = "http://127.0.0.1:1"
SIZE = 6_000_000
CONTENT = random.Random(1).randbytes(SIZE)
NEW = random.Random(2).randbytes(SIZE)

pytestmark = pytest.mark.network


@dataclass(frozen=True)
class Served:
    """A folder that is served on a network."""

    discovery: str
    folder: Path
    sk: SecretKey
    server: trio.Process

    def url(self, path: str) -> str:
        return f"dmsg://{self.sk.pk}/{path}"

    async def curl(self, *arguments: str, stdin: bytes = b"") -> Done:
        return await curl(*arguments, discovery=self.discovery, stdin=stdin)


def fill(folder: Path) -> None:
    folder.mkdir()
    (folder / "large").write_bytes(CONTENT)
    (folder / "small").write_bytes(b"\0small\xff")


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    sk = SecretKey.generate()
    fill(folder)
    async with network() as up, file_server(up.ready.discovery, folder, sk) as server:
        yield Served(up.ready.discovery, folder, sk, server)


async def grows(path: Path, size: int) -> bool:
    """Wait for a file to be so large."""

    async def look() -> bool:
        await trio.lowlevel.checkpoint()
        return size_of(path) >= size

    return await answered(look, within=30)


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


async def test_it_does_what_curl_does(tmp_path: Path) -> None:
    async with served(tmp_path / "served") as site:
        small, out = site.url("small"), str(tmp_path / "out")

        done = await site.curl(small, small.replace("dmsg://", ""))
        assert (done.code, done.out, done.err) == (0, b"\0small\xff" * 2, "")

        told = await site.curl(
            "-d", "a=b", "-d", "c d", "-H", "X-A: 1", "-A", "me", site.url("told")
        )
        request = json.loads(told.out)
        assert (request["method"], request["body"]) == ("POST", "a=b&c d")
        assert request["headers"]["content-type"] == "application/x-www-form-urlencoded"
        assert (request["headers"]["x-a"], request["headers"]["user-agent"]) == ("1", "me")

        told = await site.curl("-T", "-", site.url("told"), stdin=b"much")
        assert (json.loads(told.out)["method"], json.loads(told.out)["body"]) == ("PUT", "much")

        done = await site.curl(
            "-sSL", "-w", "%{http_code} %{num_redirects}\\n", site.url("away"), "-o", out
        )
        assert (done.code, done.out) == (0, b"200 1\n")

        done = await site.curl("-I", small)
        assert done.out.startswith(b"HTTP/1.1 200")
        assert b"content-length: 7" in done.out

        done = await site.curl("-r", "1-5", small)
        assert done.out == b"small"

        done = await site.curl("-f", site.url("status/404"))
        assert (done.code, done.out) == (22, b"")
        assert "(22)" in done.err
        assert "/status/404 answered 404 Not Found\n" in done.err
        done = await site.curl("-sf", site.url("status/404"))
        assert (done.code, done.err) == (22, "")
        done = await site.curl(site.url("status/404"))
        assert (done.code, done.out) == (0, b"why")

        folder = str(tmp_path / "new" / "folder")
        done = await site.curl(
            "-Z", "--create-dirs", "--output-dir", folder, "-O", site.url("large"),
            "-o", "other", small,
        )  # fmt: skip
        assert done.code == 0
        assert (tmp_path / "new" / "folder" / "large").read_bytes() == CONTENT
        assert (tmp_path / "new" / "folder" / "other").read_bytes() == b"\0small\xff"

        done = await dmsg("curl", small, discovery=site.discovery)
        assert (done.code, done.out) == (0, b"\0small\xff")


async def test_errors_have_curls_codes_and_one_line() -> None:
    async with network() as up:
        for url, exit_code, said in (
            (f"dmsg://{up.ready.client}:99/", 7, f"dialing {up.ready.client[:8]}…:99: no listener"),
            (f"dmsg://{NOBODY}/", 6, f"looking up {NOBODY[:8]}…:80: no client of this key"),
            ("dmsg://no-key/", 3, "no key"),
            ("https://example.org/", 1, "no https:// over dmsg"),
        ):
            done = await curl(url, discovery=up.ready.discovery)
            assert (done.code, done.out) == (exit_code, b"")
            assert done.err.startswith(f"dmsgcurl: ({exit_code}) ")
            assert said in done.err
            assert done.err.count("\n") == 1


async def test_a_server_that_dies_is_waited_for_and_gone_on_with(tmp_path: Path) -> None:
    async with served(tmp_path / "served") as site:
        target = tmp_path / "it"
        async with curl_running(
            *("--limit-rate", "1500K", "--retry", "60", "--retry-delay", "0.5"),
            *("-o", str(target), "-w", "%{num_retries} %{size_download}", site.url("large")),
            discovery=site.discovery,
        ) as running:
            assert running.stdout is not None
            assert await grows(tmp_path / "it.dmsgpart", 1_000_000)
            site.server.kill()
            await site.server.wait()
            async with file_server(site.discovery, site.folder, site.sk):
                with trio.fail_after(60):
                    said = b"".join([bytes(piece) async for piece in running.stdout])
                    assert await running.wait() == 0
        retries, size = map(int, said.split())
        assert retries > 0
        assert size == SIZE
        assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("changes", [False, True])
async def test_a_killed_download_is_gone_on_with_unless_the_file_changed(
    tmp_path: Path, changes: bool
) -> None:
    async with served(tmp_path / "served") as site:
        target = tmp_path / "it"
        words = ("-C", "-", "-o", str(target), site.url("large"))
        async with curl_running("--limit-rate", "1M", *words, discovery=site.discovery) as running:
            assert await grows(tmp_path / "it.dmsgpart", 1_000_000)
            running.send_signal(signal.SIGKILL)
            await running.wait()
        assert not target.exists()
        if changes:
            (site.folder / "large").write_bytes(NEW)
        done = await site.curl("-w", "%{size_download}", *words)
        assert done.code == 0
        assert target.read_bytes() == (NEW if changes else CONTENT)
        assert (int(done.out) == SIZE) is changes
        assert sorted(each.name for each in tmp_path.iterdir()) == ["it", "served"]  # noqa: ASYNC240
        done = await site.curl(*words)
        assert (done.code, "complete already" in done.err) == (0, True)


async def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    async with served(tmp_path / "served") as site:
        words = ("-o", str(tmp_path / "it"), site.url("large"))
        async with curl_running("--limit-rate", "2M", *words, discovery=site.discovery) as first:
            assert await grows(tmp_path / "it.dmsgpart", 500_000)
            first.send_signal(signal.SIGSTOP)  # so that it is not done before the other begins
            second = await site.curl(*words)
            first.send_signal(signal.SIGCONT)
            assert second.code == 23
            assert "another download" in second.err
            with trio.fail_after(30):
                assert await first.wait() == 0
        assert (tmp_path / "it").read_bytes() == CONTENT


@pytest.mark.parametrize("stage", ["joining", "body"])
async def test_ctrl_c_works_at_once(tmp_path: Path, stage: str) -> None:
    async with served(tmp_path / "served") as site:
        where = site.discovery if stage == "body" else NOWHERE
        async with curl_running(
            *("--limit-rate", "100", "-o", str(tmp_path / "it"), site.url("large")), discovery=where
        ) as running:
            if stage == "body":
                assert await grows(tmp_path / "it.dmsgpart", 1)
            else:
                assert running.stderr is not None
                assert b"no network yet" in await running.stderr.receive_some()
            running.send_signal(signal.SIGINT)
            with trio.fail_after(3):
                assert await running.wait() == 130
            if stage == "body":
                assert running.stderr is not None
                assert b"; -C - goes on with them\n" in await running.stderr.receive_some()
        assert not (tmp_path / "it").exists()


async def test_a_discovery_that_is_away_is_said_soon_and_tried_until_the_time_is_up() -> None:
    began = trio.current_time()
    async with curl_running(
        "--connect-timeout", "5", f"dmsg://{NOBODY}/", discovery=NOWHERE
    ) as running:
        assert running.stderr is not None
        first = bytes(await running.stderr.receive_some())
        assert trio.current_time() - began < 4
        assert b"no network yet, trying for 5 s" in first
        assert await running.wait() == 7
        assert b"(7) joining the network" in await running.stderr.receive_some()


async def test_a_terminal_gets_a_bar_for_files_and_no_binary(tmp_path: Path) -> None:
    async with served(tmp_path / "served") as site:
        env = environment(site.discovery)
        words = [CURL, "--limit-rate", "3M", "-o", str(tmp_path / "it"), site.url("large")]
        async with open_terminal(words, env, columns=120) as terminal:
            await terminal.shows("large")
            await terminal.shows("MiB")
            assert await terminal.exit_code() == 0
        async with open_terminal([CURL, site.url("small")], env, columns=120) as terminal:
            await terminal.shows("(23)")
            await terminal.shows("may mess up the terminal")
            assert await terminal.exit_code() == 23


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", True),
        ("\x1b[1mGröße\x1b[0m\t1\r\n\fa\b\a".encode(), True),
        (b"x" * 100_000 + b"\0", False),
        (b"\x01\x02", False),
        (b"\x1f\x8b\x08", False),
    ],
)
def test_a_terminal_is_spared_what_has_control_bytes_that_no_text_has(
    data: bytes, shown: bool
) -> None:
    assert is_text(data) is shown


# ---- wrong usage ----


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no URL"),
        (["-r", f"dmsg://{NOBODY}/"], "the reference's -r is --replace"),
        (["--sk", "1" * 64, f"dmsg://{NOBODY}/"], "can read a command line"),
        (["-s", "1" * 64], "can be read by others"),
        (["-C", "-", "-r", "0-1", f"{NOBODY}/"], "exclude each other"),
        (["-d", "a", "-F", "b=c", f"{NOBODY}/"], "one body"),
        (["-o", "a", "-o", "b", f"{NOBODY}/"], "more files named than URLs"),
        (["-H", "no header", f"{NOBODY}/"], "a header is 'Name: value'"),
        (["--limit-rate", "fast", f"{NOBODY}/"], "--limit-rate"),
    ],
)
async def test_wrong_usage_is_said_before_anything_is_done(arguments: list[str], said: str) -> None:
    done = await curl(*arguments, discovery=NOWHERE)
    assert (done.code, done.out) == (2, b"")
    assert said in done.err
    assert "1" * 64 not in done.err


async def test_options_that_cannot_be_read_have_curls_code(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    done = await curl("-K", str(nowhere), discovery=NOWHERE)
    assert (done.code, done.out) == (26, b"")
    assert done.err == f"dmsgcurl: (26) reading {nowhere}: No such file or directory\n"


@pytest.mark.parametrize(("arguments", "said"), [(["-e", "3"], "--sess"), (["-w", "3"], "--wait")])
async def test_a_flag_of_the_reference_that_means_something_else_is_hinted_at(
    arguments: list[str], said: str
) -> None:
    done = await curl(
        *arguments, "--connect-timeout", "0.1", f"dmsg://{NOBODY}/", discovery=NOWHERE
    )
    assert (
        f"as with curl; {'sessions are' if said == '--sess' else 'a pause is'} {said}" in done.err
    )


async def test_the_version_is_told_as_either_says_it() -> None:
    for option in "-V", "--version", "-v":
        done = await curl(option, discovery=NOWHERE)
        assert done.code == 0
        assert done.out.startswith(b"dmsgcurl ")


# ---- the page about it ----


async def test_the_lines_of_its_page_work_when_they_are_pasted(tmp_path: Path) -> None:
    async with network() as up:
        done = await paste("docs/dmsgcurl.md", tmp_path, up.ready.discovery)
    assert done.code == 0, done.err
    assert "It works" in done.out.decode()
    for path in "page.html", "copies/a", "copies/b":
        assert b"It works" in (tmp_path / path).read_bytes()
    assert (tmp_path / "answer").exists()


async def test_options_may_stand_in_files_and_begin_anew(tmp_path: Path) -> None:
    async with served(tmp_path / "served") as site:
        config, out = tmp_path / "config", tmp_path / "out"
        config.write_text(
            f'silent\nurl = "{site.url("sm{al,or}l")}"\noutput = "{out}-#1"\n'
            f'next\nurl = {site.url("told")}\ndata = "a=1"\ncookie = "b=2"\n'
        )
        done = await site.curl("-K", str(config), "-w", "%{http_code}")
        assert (done.code, done.err) == (0, "")
        assert (tmp_path / "out-al").read_bytes() == b"\0small\xff"
        assert (tmp_path / "out-or").read_bytes() != b"\0small\xff"
        told = json.loads(done.out.removesuffix(b"200"))
        assert (told["body"], told["headers"]["cookie"]) == ("a=1", "b=2")

        done = await site.curl("-s", "-c", str(tmp_path / "jar"), site.url("small"))
        assert (tmp_path / "jar").read_text().startswith("# Netscape HTTP Cookie File")

        done = await site.curl("--stderr", "-", "-fs", "-S", site.url("status/404"))
        assert (done.code, done.err) == (22, "")
        assert b"(22)" in done.out

        done = await site.curl("-x", "http://127.0.0.1:1", site.url("small"))
        assert done.code == 2
        assert "-x is not for here" in done.err
