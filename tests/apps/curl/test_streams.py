"""A large file over several streams: the same file, or one stream where that is not safe."""

import random
from pathlib import Path

import httpx
import pytest

from dmsg_trio.apps.curl import ExitCode, Retries, ToFile, _fetching, _side_by_side
from dmsg_trio.apps.curl._parts import PartFile, joined
from dmsg_trio.apps.curl._side_by_side import cut
from tests.apps.curl.sites import SITE, Collected, Site, code, names, transfer

CONTENT = random.Random(1).randbytes(95_123)
NEW = random.Random(2).randbytes(95_123)
FIRST = 10_000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fetching, "FIRST_PART", FIRST)
    monkeypatch.setattr(_side_by_side, "SHORTEST_PART", 5_000)


async def test_the_parts_make_the_file(tmp_path: Path) -> None:
    site = Site(CONTENT)
    report = await transfer(site, ToFile(path=tmp_path / "it"), streams=4)
    assert (code(report), report.downloaded) == (0, len(CONTENT))
    assert (tmp_path / "it").read_bytes() == CONTENT
    assert len(site.asked) == 5
    assert site.ranges[0] == f"bytes=0-{FIRST - 1}"
    assert all(each.headers["if-range"] == '"one"' for each in site.asked[1:])
    assert names(tmp_path) == ["it"]


@pytest.mark.parametrize("size", [0, 1, FIRST - 1, FIRST, FIRST + 1])
async def test_any_size_arrives(tmp_path: Path, size: int) -> None:
    report = await transfer(Site(CONTENT[:size]), ToFile(path=tmp_path / "it"), streams=4)
    assert code(report) == 0
    assert (tmp_path / "it").read_bytes() == CONTENT[:size]


@pytest.mark.parametrize(
    "site",
    [Site(CONTENT, etag=""), Site(CONTENT, takes_ranges=False), Site(CONTENT, etag='W/"one"')],
    ids=["no version", "no ranges", "weak version"],
)
async def test_where_parts_are_not_safe_one_stream_is_enough(tmp_path: Path, site: Site) -> None:
    assert code(await transfer(site, ToFile(path=tmp_path / "it"), streams=4)) == 0
    assert (tmp_path / "it").read_bytes() == CONTENT
    assert len(site.asked) <= 2


@pytest.mark.parametrize("heeds", [True, False])
async def test_a_change_between_two_parts_begins_anew(tmp_path: Path, heeds: bool) -> None:
    site = Site(CONTENT, heeds_if_range=heeds)

    def change(_: httpx.Request) -> None:
        if len(site.asked) == 3:
            site.content, site.etag = NEW, '"two"'

    site.answer = change
    report = await transfer(site, ToFile(path=tmp_path / "it"), streams=4)
    assert code(report) == 0
    assert (tmp_path / "it").read_bytes() == NEW


async def test_what_changes_all_the_time_comes_in_one_stream(tmp_path: Path) -> None:
    site = Site(CONTENT, heeds_if_range=False)

    def change(_: httpx.Request) -> None:
        site.etag = f'"{len(site.asked)}"'

    site.answer = change
    assert code(await transfer(site, ToFile(path=tmp_path / "it"), streams=4)) == 0
    assert site.ranges[-1] == ""
    assert (tmp_path / "it").read_bytes() == CONTENT


async def test_what_broke_off_at_several_ends_goes_on_there(tmp_path: Path) -> None:
    site = Site(CONTENT, breaks_after=[-1, 3000, 4000, 5000, 6000])
    output = ToFile(path=tmp_path / "it", goes_on=True)
    report = await transfer(site, output, streams=4)
    assert code(report) == ExitCode.RECEIVE_ERROR
    done = report.downloaded
    assert FIRST < done < len(CONTENT)
    report = await transfer(site, output, streams=1)  # not that the next run needs as many
    assert (code(report), report.downloaded) == (0, len(CONTENT) - done)
    assert (tmp_path / "it").read_bytes() == CONTENT


async def test_retries_fetch_only_what_is_missing(tmp_path: Path, autojump_clock: object) -> None:
    site = Site(CONTENT, breaks_after=[-1, 3000, 4000, 5000, 6000, 100, 200])
    report = await transfer(site, ToFile(path=tmp_path / "it"), streams=4, retries=Retries(times=9))
    assert (code(report), report.downloaded) == (0, len(CONTENT))
    assert (tmp_path / "it").read_bytes() == CONTENT


async def test_standard_output_needs_its_bytes_in_order() -> None:
    site, collected = Site(CONTENT), Collected()
    assert code(await transfer(site, collected.output, streams=4)) == 0
    assert (collected.data, len(site.asked)) == (CONTENT, 1)


def test_what_is_missing_is_cut_into_about_as_many_parts_as_there_are_streams() -> None:
    assert list(cut([(10_000, 50_000)], 4)) == [
        (10_000, 20_000), (20_000, 30_000), (30_000, 40_000), (40_000, 50_000)
    ]  # fmt: skip
    assert list(cut([(0, 6_000), (8_000, 9_000)], 4)) == [
        (0, 5_000),
        (5_000, 6_000),
        (8_000, 9_000),
    ]


async def test_a_size_that_no_file_has_takes_no_memory(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if len(site.asked) > 1:
            return httpx.Response(503)
        headers = {"Content-Range": f"bytes 0-{FIRST - 1}/{10**19 - 1}", "ETag": '"one"'}
        return httpx.Response(206, headers=headers, content=CONTENT[:FIRST])

    site = Site(answer=answer)
    report = await transfer(site, ToFile(path=tmp_path / "it"), streams=4)
    assert code(report) == ExitCode.HTTP_ERROR


@pytest.mark.parametrize("streams", [1, 4])
async def test_a_note_never_speaks_of_bytes_that_are_not_there(
    tmp_path: Path, streams: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """Wherever it is killed: each write is looked at as another run would find it."""
    written: list[tuple[int, int]] = []
    claims: list[list[tuple[int, int]]] = []
    write, clear, cut_to = PartFile.write, PartFile.clear, PartFile.cut_to

    def look(part: PartFile) -> None:
        note = part.note(SITE + "file")
        if note is not None:
            size = part.size
            claimed = [(0, size)] if note.have is None else note.have
            claims.append([(start, min(stop, size)) for start, stop in claimed])
            assert joined([*written, *claims[-1]]) == joined(written)

    def watched_write(part: PartFile, data: bytes, at: int) -> None:
        write(part, data, at)
        written.append((at, at + len(data)))
        look(part)

    def watched_clear(part: PartFile) -> None:
        clear(part)
        written.clear()
        look(part)

    def watched_cut(part: PartFile, size: int) -> None:
        cut_to(part, size)
        written[:] = [(start, min(stop, size)) for start, stop in written if start < size]
        look(part)

    monkeypatch.setattr(PartFile, "write", watched_write)
    monkeypatch.setattr(PartFile, "clear", watched_clear)
    monkeypatch.setattr(PartFile, "cut_to", watched_cut)
    site = Site(CONTENT, breaks_after=[-1 if streams > 1 else 9000, 3000, 4000, 5000, 6000, 700])
    output = ToFile(path=tmp_path / "it", goes_on=True)
    for _ in range(9):
        report = await transfer(site, output, streams=streams, retries=Retries(times=1))
        streams = 5 - streams  # the next run does it the other way
        if code(report) == 0:
            break
    assert (tmp_path / "it").read_bytes() == CONTENT
    assert any(claims)
