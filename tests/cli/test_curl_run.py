"""Several transfers in one run: what one of them cannot do is its own failure, with its code."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import trio

from dmsg_trio.apps.curl import ExitCode, TransferError
from dmsg_trio.cli._curl_more_options import FailingOptions, NetworkOptions, ShowingOptions
from dmsg_trio.cli._curl_network import on_network
from dmsg_trio.cli._curl_options import AskingOptions, SavingOptions
from dmsg_trio.cli._curl_plan import Plan, Planned
from dmsg_trio.cli._curl_run import Run
from dmsg_trio.cli._curl_watch import Screen
from tests.cli.running import NOBODY


def here(request: httpx.Request) -> httpx.Response:
    status = int(request.url.path.removeprefix("/"))
    return httpx.Response(status, content=b"here", headers={"ETag": '"one"'})


def plan(*statuses: int, dump_header: str = "") -> list[Planned]:
    saving = SavingOptions(dump_header=dump_header)
    urls = [f"dmsg://{NOBODY}/{status}" for status in statuses]
    return Plan(saving, AskingOptions(), FailingOptions(fail=True), ()).transfers(urls)


async def code_of(*planned: Planned, at_once: int = 1) -> int:
    screen = Screen(silent=False, shows_errors=False)
    run = Run(list(planned), ShowingOptions(), NetworkOptions(), None, screen, at_once)
    return await run.transfer(httpx.MockTransport(here))


@pytest.mark.parametrize("at_once", [1, 9])
async def test_where_headers_cannot_be_written_that_is_said_and_the_others_come(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], at_once: int
) -> None:
    nowhere = tmp_path / "no" / "heads"
    planned = plan(200, dump_header=str(nowhere)) + plan(200)
    assert await code_of(*planned, at_once=at_once) == ExitCode.WRITE_ERROR
    out, err = capfd.readouterr()
    assert (out, err) == (
        "here", f"dmsgcurl: (23) writing {nowhere}: No such file or directory\n"
    )  # fmt: skip


@pytest.mark.parametrize("at_once", [1, 9])
async def test_headers_that_find_no_room_are_a_failure_with_its_code(
    capfd: pytest.CaptureFixture[str], at_once: int
) -> None:
    planned = plan(200, dump_header="/dev/full")
    assert await code_of(*planned, at_once=at_once) == ExitCode.WRITE_ERROR
    assert "(23) writing /dev/full: No space left on device\n" in capfd.readouterr().err


async def test_a_version_that_cannot_be_written_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    [one] = plan(200)
    one = Planned(one.order, one.file, one.is_output_named, etag_save=str(tmp_path / "no" / "tag"))
    assert await code_of(one) == ExitCode.WRITE_ERROR
    assert "no/tag: No such file or directory\n" in capfd.readouterr().err


async def test_a_failure_is_not_hidden_by_what_came_after_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert await code_of(*plan(200, 404, 200)) == ExitCode.HTTP_ERROR
    assert capfd.readouterr().out == "here" * 2


@pytest.mark.network
async def test_a_discovery_that_says_nothing_is_a_matter_of_time() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(TransferError, match=r"joining the network: .*no answer") as caught:
            async with on_network(None, url, sessions=1, within=0.3, say=print):
                pytest.fail("nobody has answered")
    assert caught.value.code is ExitCode.TIMEOUT


@pytest.mark.network
async def test_a_discovery_where_nobody_listens_cannot_be_reached() -> None:
    with pytest.raises(TransferError, match="joining the network: ") as caught:
        async with on_network(None, "http://127.0.0.1:1", sessions=1, within=1, say=print):
            pytest.fail("nobody is there")
    assert caught.value.code is ExitCode.NOT_CONNECTED
