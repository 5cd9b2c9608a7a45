"""A file appears when it is complete, and is never a mixture: whatever breaks, changes or competes."""

import os
import random
import stat
from pathlib import Path

import httpx
import pytest
import trio

from dmsg_trio.apps.curl import ExitCode, OnError, Retries, ToFile
from dmsg_trio.apps.curl._parts import PartFile, gaps, joined
from tests.apps.curl.sites import BEFORE, DATE, Collected, Heard, Site, code, names, transfer

OLD = random.Random(1).randbytes(20_000)
NEW = random.Random(2).randbytes(20_000)
AGAIN = Retries(times=3, delay=0.01)


async def test_a_download_becomes_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    report = await transfer(Site(OLD), ToFile(path=tmp_path / "it"))
    assert (code(report), report.downloaded, report.filename) == (0, len(OLD), str(tmp_path / "it"))
    assert (tmp_path / "it").read_bytes() == OLD
    assert names(tmp_path) == ["it"]


@pytest.mark.parametrize("ends_early", [True, False])
async def test_an_answer_that_is_cut_off_is_never_the_file(
    tmp_path: Path, ends_early: bool
) -> None:
    target = tmp_path / "it"
    target.write_bytes(b"as it was")
    site = Site(OLD, breaks_after=[7000], ends_early=ends_early)
    report = await transfer(site, ToFile(path=target))
    assert code(report) == (ExitCode.PARTIAL if ends_early else ExitCode.RECEIVE_ERROR)
    assert target.read_bytes() == b"as it was"
    assert names(tmp_path) == ["it", "it.dmsgpart", "it.dmsgpart.json"]


async def test_of_a_file_without_a_version_nothing_is_kept(tmp_path: Path) -> None:
    site = Site(OLD, etag="", breaks_after=[7000])
    assert code(await transfer(site, ToFile(path=tmp_path / "it"))) == ExitCode.RECEIVE_ERROR
    assert names(tmp_path) == []


# ---- going on ----


@pytest.mark.parametrize("version", [{"etag": '"one"'}, {"etag": "", "modified": BEFORE}])
async def test_another_run_goes_on_where_the_first_one_broke_off(
    tmp_path: Path, version: dict[str, str]
) -> None:
    site = Site(OLD, breaks_after=[7000], **version)  # type: ignore[arg-type]
    output = ToFile(path=tmp_path / "it", goes_on=True)
    assert code(await transfer(site, output)) != 0
    report = await transfer(site, output)
    assert (code(report), report.downloaded) == (0, len(OLD) - 7000)
    assert site.ranges == ["", "bytes=7000-"]
    assert site.asked[1].headers["if-range"] == (version["etag"] or BEFORE)
    assert (tmp_path / "it").read_bytes() == OLD
    assert names(tmp_path) == ["it"]


@pytest.mark.parametrize("heeds", [True, False])
@pytest.mark.parametrize("content", [NEW, NEW[:5000], NEW + NEW, NEW[:7000]])
async def test_a_file_that_changed_meanwhile_begins_anew(
    tmp_path: Path, content: bytes, heeds: bool
) -> None:
    """Also where the server does not know If-Range, and where the new file is shorter."""
    site = Site(OLD, breaks_after=[7000], heeds_if_range=heeds)
    output = ToFile(path=tmp_path / "it", goes_on=True)
    await transfer(site, output)
    site.content, site.etag = content, '"two"'
    heard = Heard()
    assert code(await transfer(site, output, heard=heard)) == 0
    assert (tmp_path / "it").read_bytes() == content
    assert "starting over" in heard.notes[0]


async def test_a_time_of_change_within_the_same_second_proves_nothing(tmp_path: Path) -> None:
    site = Site(OLD, etag="", modified=DATE, breaks_after=[7000])
    output = ToFile(path=tmp_path / "it", goes_on=True)
    await transfer(site, output)
    site.content = NEW
    await transfer(site, output)
    assert (tmp_path / "it").read_bytes() == NEW
    assert site.ranges == ["", ""]


async def test_a_part_of_another_url_is_not_gone_on_with(tmp_path: Path) -> None:
    site = Site(OLD, breaks_after=[7000])
    output = ToFile(path=tmp_path / "it", goes_on=True)
    await transfer(site, output)
    assert code(await transfer(site, output, "other")) == 0
    assert site.ranges == ["", ""]


async def test_a_note_that_is_nonsense_is_no_note(tmp_path: Path) -> None:
    (tmp_path / "it.dmsgpart").write_bytes(b"x" * 100)
    (tmp_path / "it.dmsgpart.json").write_bytes(b'{"url": 1}')
    assert code(await transfer(Site(OLD), ToFile(path=tmp_path / "it", goes_on=True))) == 0
    assert (tmp_path / "it").read_bytes() == OLD


async def test_a_complete_file_is_not_fetched_again(tmp_path: Path) -> None:
    site, output = Site(OLD), ToFile(path=tmp_path / "it", goes_on=True)
    await transfer(site, output)
    heard = Heard()
    report = await transfer(site, output, heard=heard)
    assert (code(report), report.downloaded) == (0, 0)
    assert "complete already" in heard.notes[0]
    assert names(tmp_path) == ["it"]


async def test_a_file_of_somebody_else_is_fetched_anew(tmp_path: Path) -> None:
    """Nothing says which version the bytes that are there belong to."""
    (tmp_path / "it").write_bytes(NEW[:5000])
    assert code(await transfer(Site(OLD), ToFile(path=tmp_path / "it", goes_on=True))) == 0
    assert (tmp_path / "it").read_bytes() == OLD


async def test_an_offset_that_was_named_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(OLD[:6000] + b"rest")
    site = Site(OLD)
    report = await transfer(site, ToFile(path=tmp_path / "it", from_byte=6000))
    assert (code(report), site.ranges) == (0, ["bytes=6000-"])
    assert (tmp_path / "it").read_bytes() == OLD


async def test_an_offset_that_the_server_ignores_is_a_range_error(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(OLD[:6000])
    site = Site(OLD, takes_ranges=False)
    report = await transfer(site, ToFile(path=tmp_path / "it", from_byte=6000))
    assert code(report) == ExitCode.RANGE_ERROR
    assert (tmp_path / "it").read_bytes() == OLD[:6000]


async def test_an_offset_that_was_named_is_one_of_a_file_that_has_to_be_whole(
    tmp_path: Path,
) -> None:
    (tmp_path / "it").write_bytes(OLD[:6000])
    headers = {"Content-Range": "bytes 6000-6999/20000"}
    site = Site(answer=lambda _: httpx.Response(206, headers=headers, content=OLD[6000:7000]))
    report = await transfer(site, ToFile(path=tmp_path / "it", from_byte=6000))
    assert code(report) == ExitCode.PARTIAL
    assert "after 7000 of 20000 bytes" in str(report.error)
    assert (tmp_path / "it").read_bytes() == OLD[:6000]


async def test_a_named_offset_that_broke_off_is_gone_on_with_in_the_same_version(
    tmp_path: Path, autojump_clock: object
) -> None:
    (tmp_path / "it").write_bytes(OLD[:6000])
    site = Site(OLD, breaks_after=[3000])
    output = ToFile(path=tmp_path / "it", from_byte=6000)
    assert code(await transfer(site, output, retries=AGAIN)) == 0
    assert site.ranges == ["bytes=6000-", "bytes=9000-"]
    assert site.asked[1].headers["if-range"] == '"one"'
    assert (tmp_path / "it").read_bytes() == OLD


async def test_a_range_that_is_longer_than_it_says_is_no_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(OLD[:6000])
    headers = {"Content-Range": "bytes 6000-6999/7000", "Transfer-Encoding": "chunked"}
    site = Site(answer=lambda _: httpx.Response(206, headers=headers, content=OLD[6000:7001]))
    report = await transfer(site, ToFile(path=tmp_path / "it", from_byte=6000))
    assert code(report) == ExitCode.WEIRD_ANSWER
    assert "more than the 1000 bytes" in str(report.error)
    assert (tmp_path / "it").read_bytes() == OLD[:6000]


@pytest.mark.parametrize("modified", ["Thu, 01 Jan 99999999999 00:00:00 GMT", "soon"])
async def test_a_date_that_is_none_is_no_version(tmp_path: Path, modified: str) -> None:
    site = Site(OLD, etag="", modified=modified, breaks_after=[7000])
    assert code(await transfer(site, ToFile(path=tmp_path / "it"))) == ExitCode.RECEIVE_ERROR
    assert names(tmp_path) == []


# ---- trying again ----


async def test_a_retry_goes_on_by_itself(tmp_path: Path, autojump_clock: object) -> None:
    site = Site(OLD, breaks_after=[3000, 4000, 5000])
    report = await transfer(site, ToFile(path=tmp_path / "it"), retries=AGAIN)
    assert (code(report), report.tries, report.downloaded) == (0, 4, len(OLD))
    assert site.ranges == ["", "bytes=3000-", "bytes=7000-", "bytes=12000-"]
    assert (tmp_path / "it").read_bytes() == OLD


async def test_a_retry_to_a_stream_repeats_nothing(autojump_clock: object) -> None:
    site, collected = Site(OLD, breaks_after=[3000]), Collected()
    assert code(await transfer(site, collected.output, retries=AGAIN)) == 0
    assert collected.data == OLD


async def test_a_stream_is_not_begun_anew_when_the_file_changed(autojump_clock: object) -> None:
    site, collected = Site(OLD, breaks_after=[3000], heeds_if_range=True), Collected()

    def change(request: httpx.Request) -> None:
        if len(site.asked) == 2:
            site.content, site.etag = NEW, '"two"'

    site.answer = change
    report = await transfer(site, collected.output, retries=AGAIN)
    assert (code(report), report.tries) == (ExitCode.PARTIAL, 2)
    assert collected.data == OLD[:3000]


@pytest.mark.parametrize(
    "options",
    [{}, {"method": "POST"}, {"shows_heads": True}, {"decodes": True}, {"span": "0-"}],
    ids=["no version", "POST", "heads", "compressed", "a range"],
)
async def test_what_nothing_tells_from_another_version_begins_anew(
    tmp_path: Path, options: dict[str, object], autojump_clock: object
) -> None:
    """Also where bytes of the file are not at the places that they have at the server."""
    site = Site(OLD, etag="" if not options else '"one"', breaks_after=[3000])

    def change(_: httpx.Request) -> None:
        site.content = NEW if len(site.asked) == 2 else OLD

    site.answer = change
    report = await transfer(site, ToFile(path=tmp_path / "it"), retries=AGAIN, **options)  # type: ignore[arg-type]
    assert (code(report), report.tries) == (0, 2)
    assert (tmp_path / "it").read_bytes().endswith(NEW)
    assert OLD[:3000] not in (tmp_path / "it").read_bytes()


@pytest.mark.parametrize(
    "options", [{"span": "1000-9999"}, {"from_byte": 1000}, {"method": "POST"}]
)
async def test_a_stream_is_not_gone_on_with_where_nothing_says_that_it_is_the_same(
    options: dict[str, object], autojump_clock: object
) -> None:
    site, collected = Site(OLD, breaks_after=[3000]), Collected()
    report = await transfer(site, collected.output, retries=AGAIN, **options)  # type: ignore[arg-type]
    assert (code(report), report.tries) == (ExitCode.RECEIVE_ERROR, 1)
    assert collected.data == (OLD[:3000] if "method" in options else OLD[1000:4000])


async def test_pauses_grow_and_the_server_may_ask_for_one(autojump_clock: object) -> None:
    statuses = iter([503, 500, 429, 200])

    def answer(_: httpx.Request) -> httpx.Response:
        status = next(statuses)
        return httpx.Response(status, headers={"Retry-After": "7"} if status == 429 else {})

    heard, collected = Heard(), Collected()
    report = await transfer(
        Site(answer=answer), collected.output, heard=heard, retries=Retries(times=5)
    )
    assert (code(report), report.tries) == (0, 4)
    assert heard.pauses == [1, 2, 7]


async def test_no_try_begins_after_the_time_for_tries(autojump_clock: object) -> None:
    site = Site(answer=lambda _: httpx.Response(503))
    retries = Retries(times=100, within=10)
    report = await transfer(site, Collected().output, retries=retries, on_error=OnError.FAIL)
    assert (code(report), report.tries) == (ExitCode.HTTP_ERROR, 4)


# ---- two at once ----


async def test_two_downloads_of_one_file_do_not_mix(tmp_path: Path) -> None:
    output = ToFile(path=tmp_path / "it")
    held = PartFile(tmp_path / "it")
    report = await transfer(Site(OLD), output)
    assert code(report) == ExitCode.WRITE_ERROR
    assert "another download" in str(report.error)
    held.leave()
    assert code(await transfer(Site(OLD), output)) == 0
    assert names(tmp_path) == ["it"]


# ---- places ----


async def test_a_link_stays_and_leads_to_the_new_content(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    await transfer(Site(OLD), ToFile(path=tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == OLD
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640


async def test_what_comes_does_not_run_in_the_name_of_the_owner_of_what_was_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "it").write_bytes(b"old")
    (tmp_path / "it").chmod(0o6755)
    assert code(await transfer(Site(OLD), ToFile(path=tmp_path / "it"))) == 0
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o755


async def test_a_link_to_itself_becomes_the_file(tmp_path: Path) -> None:
    (tmp_path / "it").symlink_to("it")
    assert code(await transfer(Site(OLD), ToFile(path=tmp_path / "it"))) == 0
    assert (tmp_path / "it").read_bytes() == OLD


async def test_a_part_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "it.dmsgpart").symlink_to("victim")
    assert code(await transfer(Site(OLD), ToFile(path=tmp_path / "it"))) == ExitCode.WRITE_ERROR
    assert (tmp_path / "victim").read_bytes() == b"precious"


@pytest.mark.parametrize("suffix", [".dmsgpart.json", ".dmsgpart.json~"])
async def test_a_note_that_is_a_link_is_not_followed(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / f"it{suffix}").symlink_to("victim")
    assert code(await transfer(Site(OLD), ToFile(path=tmp_path / "it"))) == 0
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert names(tmp_path) == ["it", "victim"]


async def test_nobody_waits_for_a_note_that_is_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "it.dmsgpart").write_bytes(b"x" * 100)
    os.mkfifo(tmp_path / "it.dmsgpart.json")
    assert code(await transfer(Site(OLD), ToFile(path=tmp_path / "it", goes_on=True))) == 0
    assert (tmp_path / "it").read_bytes() == OLD


async def test_folders_are_made_if_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "it"
    assert code(await transfer(Site(OLD), ToFile(path=path))) == ExitCode.WRITE_ERROR
    assert code(await transfer(Site(OLD), ToFile(path=path, create_folders=True))) == 0
    assert path.read_bytes() == OLD


async def test_a_pipe_gets_the_bytes_and_stays_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got = b""

    async def read() -> None:
        nonlocal got
        got = await trio.to_thread.run_sync((tmp_path / "pipe").read_bytes)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        report = await transfer(Site(OLD), ToFile(path=tmp_path / "pipe"))
    assert (code(report), report.filename) == (0, str(tmp_path / "pipe"))
    assert got == OLD


async def test_the_time_of_the_file_is_the_servers_if_that_was_asked_for(tmp_path: Path) -> None:
    await transfer(Site(OLD, modified=BEFORE), ToFile(path=tmp_path / "it", keeps_time=True))
    assert (tmp_path / "it").stat().st_mtime == 1795402800


# ---- a name that the server proposes ----


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="report.pdf"', "report.pdf"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename=..\\..\\evil.exe", "evil.exe"),
        ("attachment; filename*=UTF-8''na%C3%AFve%0A.txt", "naïve.txt"),
        ('attachment; filename="a\x1b[2Jb"', "a[2Jb"),
        ('attachment; filename=".."', "file"),
        ("attachment; filename=.profile", "profile"),
        ("attachment; filename=a; filename*=undefined''%41", "a"),
        ("attachment; filename=...", "file"),
        ("", "file"),
    ],
)
async def test_a_proposed_name_leads_nowhere_else(tmp_path: Path, header: str, name: str) -> None:
    site = Site(OLD, extra={"Content-Disposition": header} if header else {})
    output = ToFile(folder=tmp_path, asks_header=True)
    assert code(await transfer(site, output)) == 0
    assert names(tmp_path) == [name]


async def test_a_proposed_name_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    site = Site(OLD, extra={"Content-Disposition": "attachment; filename=mine"})
    report = await transfer(site, ToFile(folder=tmp_path, asks_header=True))
    assert code(report) == ExitCode.WRITE_ERROR
    assert (tmp_path / "mine").read_bytes() == b"mine"


async def test_a_proposed_name_is_not_that_of_a_link_to_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to("../outside")
    site = Site(OLD, extra={"Content-Disposition": "attachment; filename=link"})
    report = await transfer(site, ToFile(folder=folder, asks_header=True))
    assert code(report) == ExitCode.WRITE_ERROR
    assert names(tmp_path) == ["folder"]


# ---- spans ----


def test_spans_that_touch_are_one() -> None:
    assert joined([(5, 9), (0, 5), (20, 20), (12, 13)]) == [(0, 9), (12, 13)]
    assert gaps([(5, 9), (12, 13)], 20) == [(0, 5), (9, 12), (13, 20)]
    assert gaps([(0, 20)], 20) == []
