"""Requests and redirects: what is sent to whom, and when it is too much."""

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio

from dmsg_trio.apps.curl import (
    Body,
    BytesBody,
    Cookies,
    ExitCode,
    Field,
    FileBody,
    FormBody,
    OnError,
    Order,
    Retries,
    Stall,
    StreamBody,
    ToFile,
    Transfer,
    TransferError,
    Watcher,
    parse_url,
)
from tests.apps.curl.sites import OTHER_PK, PK, SITE, Collected, Flow, Site, code, names, transfer


def redirecting(*steps: tuple[int, str]) -> Site:
    """A site that leads on, step by step, and then answers."""
    rest = list(steps)

    def answer(_: httpx.Request) -> httpx.Response | None:
        if not rest:
            return None
        status, location = rest.pop(0)
        return httpx.Response(status, headers={"Location": location}, content=b"moved")

    return Site(b"here it is", answer=answer)


# ---- redirects ----


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/other?x=1", f"dmsg://{PK}/other?x=1"),
        ("other", f"dmsg://{PK}/folder/other"),
        ("../up", f"dmsg://{PK}/up"),
        (f"dmsg://{OTHER_PK}:81/there", f"dmsg://{OTHER_PK}:81/there"),
        (f"http://{OTHER_PK}.dmsg/there", f"http://{OTHER_PK}.dmsg/there"),
        (f"//{OTHER_PK}/there#fragment", f"dmsg://{OTHER_PK}/there"),
    ],
)
async def test_a_redirect_is_followed_wherever_dmsg_leads(location: str, target: str) -> None:
    site, collected = redirecting((302, location)), Collected()
    report = await transfer(site, collected.output, "folder/file", redirects=5)
    assert (code(report), report.redirects) == (0, 1)
    assert str(site.asked[1].url) == str(report.url) == target
    assert site.asked[1].headers["host"] == site.asked[1].url.netloc.decode()
    assert collected.data == b"here it is"


async def test_a_redirect_that_nobody_follows_is_an_answer() -> None:
    collected = Collected()
    report = await transfer(redirecting((301, "/other")), collected.output)
    assert (collected.data, report.redirect_url) == (b"moved", f"{SITE}other")


@pytest.mark.parametrize(
    ("location", "exit_code"),
    [
        ("https://example.org/", ExitCode.UNSUPPORTED),
        ("file:///etc/passwd", ExitCode.UNSUPPORTED),
        ("dmsg://", ExitCode.BAD_URL),
    ],
)
async def test_a_redirect_out_of_dmsg_is_refused(location: str, exit_code: ExitCode) -> None:
    site = redirecting((302, location))
    report = await transfer(site, Collected().output, redirects=5)
    assert (code(report), len(site.asked)) == (exit_code, 1)


async def test_there_are_so_many_redirects_and_no_more() -> None:
    site = redirecting(*[(302, "/again")] * 10)
    report = await transfer(site, Collected().output, redirects=3)
    assert (code(report), len(site.asked)) == (ExitCode.TOO_MANY_REDIRECTS, 4)
    site = redirecting((302, "/again"))
    report = await transfer(site, Collected().output, redirects=0)
    assert (code(report), len(site.asked)) == (ExitCode.TOO_MANY_REDIRECTS, 1)
    site = redirecting(*[(302, "/again")] * 100)
    assert code(await transfer(site, Collected().output, redirects=-1)) == 0


async def test_secrets_are_for_the_key_and_port_that_was_asked() -> None:
    hops = [f"dmsg://{PK}:80/same", f"dmsg://{PK}:81/port", f"dmsg://{OTHER_PK}/key", SITE]
    secret = (("Authorization", "Basic eA=="), ("Cookie", "a=b"))
    for trusts, told in (False, [True, True, False, False, True]), (True, [True] * 5):
        site = redirecting(*[(302, hop) for hop in hops])
        await transfer(
            site,
            Collected().output,
            redirects=9,
            secret_headers=secret,
            headers=(("X-Plain", "1"),),
            trusts_redirects=trusts,
        )
        assert ["authorization" in each.headers for each in site.asked] == told
        assert ["cookie" in each.headers for each in site.asked] == told
        assert all("x-plain" in each.headers for each in site.asked)


@pytest.mark.parametrize(
    ("status", "keeps_method", "then"),
    [
        (301, False, "GET"), (302, False, "GET"), (303, False, "GET"),
        (307, False, "POST"), (308, False, "POST"), (302, True, "POST"),
    ],
)  # fmt: skip
async def test_a_post_becomes_a_get_as_browsers_do_it(
    status: int, keeps_method: bool, then: str
) -> None:
    site = redirecting((status, "/other"))
    await transfer(
        site,
        Collected().output,
        redirects=5,
        method="POST",
        body=BytesBody(b"data"),
        keeps_method=keeps_method,
        headers=(("Content-Type", "text/plain"),),
    )
    assert [each.method for each in site.asked] == ["POST", then]
    keeps_body = status in (307, 308)
    assert site.bodies == [b"data", b"data" if keeps_body else b""]
    assert ("content-type" in site.asked[1].headers) is keeps_body
    assert ("content-length" in site.asked[1].headers) is keeps_body


# ---- bodies ----


async def once() -> AsyncIterator[bytes]:
    for piece in b"one", b"two":
        await trio.lowlevel.checkpoint()
        yield piece


async def test_each_kind_of_body_arrives_with_its_length(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    bodies: list[tuple[Body, bytes, str | None]] = [
        (BytesBody(b"data"), b"data", "4"),
        (FileBody.of(tmp_path / "file"), b"x" * 300_000, "300000"),
        (StreamBody(once), b"onetwo", None),
    ]
    for body, sent, length in bodies:
        site = Site(b"thanks")
        report = await transfer(site, Collected().output, method="PUT", body=body)
        assert (code(report), report.uploaded) == (0, len(sent))
        assert site.bodies == [sent]
        assert site.asked[0].headers.get("content-length") == length
        assert ("transfer-encoding" in site.asked[0].headers) is (length is None)


async def test_a_form_is_as_long_as_it_says_and_quotes_what_would_end_a_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    form = FormBody([Field('a"\r\nX: b', b"value"), Field("f", tmp_path / "file", "n.txt", "t/x")])
    data = b"".join([piece async for piece in form.blocks()])
    assert len(data) == form.size
    assert b'name="a%22%0D%0AX: b"\r\n\r\nvalue\r\n' in data
    assert b'name="f"; filename="n.txt"\r\nContent-Type: t/x\r\n\r\ncontent\r\n' in data
    assert data.endswith(f"--{form.boundary}--\r\n".encode())


async def test_what_was_read_once_is_not_sent_twice(autojump_clock: object) -> None:
    site = Site(answer=lambda _: httpx.Response(503))
    report = await transfer(
        site,
        Collected().output,
        method="PUT",
        body=StreamBody(once),
        retries=Retries(times=5),
        on_error=OnError.FAIL,
    )
    assert (code(report), len(site.asked)) == (ExitCode.HTTP_ERROR, 1)


def test_a_file_that_cannot_be_read_is_a_read_error(tmp_path: Path) -> None:
    with pytest.raises(TransferError) as caught:
        FileBody.of(tmp_path / "nothing")
    assert caught.value.code == ExitCode.READ_ERROR


# ---- answers ----


@pytest.mark.parametrize(
    ("on_error", "exit_code", "written"),
    [(OnError.TAKE, 0, b"why"), (OnError.FAIL, 22, b""), (OnError.FAIL_WITH_BODY, 22, b"why")],
)
async def test_a_status_is_a_failure_if_that_was_asked_for(
    on_error: OnError, exit_code: int, written: bytes
) -> None:
    collected = Collected()
    site = Site(answer=lambda _: httpx.Response(404, content=b"why"))
    report = await transfer(site, collected.output, on_error=on_error)
    assert (code(report), collected.data) == (exit_code, written)


async def test_heads_of_all_answers_stand_before_the_body() -> None:
    collected = Collected()
    await transfer(redirecting((302, "/x")), collected.output, redirects=5, shows_heads=True)
    first, second, body = collected.data.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 302 Found\r\n")
    assert b"Location: /x" in first
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"here it is"


async def test_an_answer_is_unpacked_if_that_was_asked_for() -> None:
    packed = gzip.compress(b"text " * 1000)
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(packed))}
    for decodes, expected in (True, b"text " * 1000), (False, packed):
        site = Site(answer=lambda _: httpx.Response(200, headers=headers, stream=Flow(packed)))
        collected = Collected()
        assert code(await transfer(site, collected.output, decodes=decodes)) == 0
        assert collected.data == expected


async def test_what_is_no_gzip_is_an_error_of_its_own() -> None:
    site = Site(
        answer=lambda _: httpx.Response(
            200, headers={"Content-Encoding": "gzip"}, stream=Flow(b"no gzip")
        )
    )
    report = await transfer(site, Collected().output, decodes=True)
    assert code(report) == ExitCode.BAD_ENCODING


# ---- limits ----


async def test_a_file_that_is_too_big_is_refused(tmp_path: Path) -> None:
    announced, growing = (
        Site(b"x" * 5000),
        Site(answer=lambda _: httpx.Response(200, stream=Flow(b"x" * 5000))),
    )
    for site in announced, growing:
        report = await transfer(site, ToFile(path=tmp_path / "it"), max_size=4999)
        assert code(report) == ExitCode.TOO_BIG
        assert names(tmp_path) == []


async def test_a_transfer_has_its_time(autojump_clock: object) -> None:
    site = Site(b"x" * 5000, breaks_after=[2000], stalls=True)
    report = await transfer(site, Collected().output, max_time=7)
    assert (code(report), report.ended) == (ExitCode.TIMEOUT, 7)
    assert "2000 bytes in" in str(report.error)


@pytest.mark.parametrize("options", [{"max_time": 7}, {"stall": Stall(100, 5)}])
async def test_what_took_the_time_is_named_where_a_redirect_led(
    options: dict[str, object], autojump_clock: object
) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == PK:
            return httpx.Response(302, headers={"Location": f"dmsg://{OTHER_PK}/"})
        return await trio.sleep_forever()

    order = Order(url=parse_url(SITE), redirects=1, **options)  # type: ignore[arg-type]
    report = await Transfer(httpx.MockTransport(answer), order, Collected().output, Watcher()).run()
    assert code(report) == ExitCode.TIMEOUT
    assert f"(28) dialing {OTHER_PK[:8]}…:80: " in str(report.error)


async def test_a_stall_is_noticed(autojump_clock: object) -> None:
    site = Site(b"x" * 5000, breaks_after=[2000], stalls=True)
    report = await transfer(site, Collected().output, stall=Stall(100, 5))
    assert code(report) == ExitCode.TIMEOUT
    assert 5 <= report.ended <= 7
    assert "less than 100 bytes a second for 5 s" in str(report.error)


async def test_a_rate_is_kept(autojump_clock: object) -> None:
    report = await transfer(Site(b"x" * 5000), Collected().output, rate=1000)
    assert report.ended == pytest.approx(5, abs=0.1)
    report = await transfer(
        Site(), Collected().output, rate=1000, method="PUT", body=BytesBody(b"x" * 5000)
    )
    assert report.ended == pytest.approx(5, abs=0.1)


# ---- URLs ----


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (f"dmsg://{PK}:81/a b?c#d", f"dmsg://{PK}:81/a%20b?c"),
        (f"{PK}/a", f"dmsg://{PK}/a"),
        (f"{PK}:81", f"dmsg://{PK}:81"),
        (f"http://{PK}.dmsg/", f"http://{PK}.dmsg/"),
    ],
)
def test_a_url_is_read_as_people_write_it(text: str, url: str) -> None:
    assert str(parse_url(text)).rstrip("/") == url.rstrip("/")


@pytest.mark.parametrize(
    ("text", "exit_code"),
    [
        (f"https://{PK}/", ExitCode.UNSUPPORTED),
        ("ftp://x/", ExitCode.UNSUPPORTED),
        ("dmsg:///path", ExitCode.BAD_URL),
        (f"{PK}:x/", ExitCode.BAD_URL),
        (f"dmsg://{PK}:99999/", ExitCode.BAD_URL),
        (f"{PK}:65536/", ExitCode.BAD_URL),
    ],
)
def test_what_is_no_url_of_dmsg_is_said_by_its_code(text: str, exit_code: ExitCode) -> None:
    with pytest.raises(TransferError) as caught:
        parse_url(text)
    assert caught.value.code == exit_code
    assert json.dumps(str(caught.value))


# ---- answers that are none ----


async def test_what_has_not_changed_leaves_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"what I have")
    site = Site(answer=lambda _: httpx.Response(304))
    report = await transfer(site, ToFile(path=tmp_path / "file"))
    assert code(report) == 0
    assert (tmp_path / "file").read_bytes() == b"what I have"
    assert names(tmp_path) == ["file"]


async def test_a_refusal_still_shows_its_headers() -> None:
    collected = Collected()
    site = Site(answer=lambda _: httpx.Response(404, headers={"X-Why": "gone"}))
    report = await transfer(site, collected.output, shows_heads=True, on_error=OnError.FAIL)
    assert code(report) == ExitCode.HTTP_ERROR
    assert b"X-Why: gone" in collected.data


async def test_a_stream_goes_on_where_it_was_asked_to_and_nowhere_else() -> None:
    collected = Collected()
    assert code(await transfer(Site(b"0123456789"), collected.output, from_byte=7)) == 0
    assert collected.data == b"789"
    report = await transfer(Site(b"0123456789", takes_ranges=False), collected.output, from_byte=7)
    assert (code(report), collected.data) == (ExitCode.RANGE_ERROR, b"789")
    assert code(await transfer(Site(b"0123"), collected.output, from_byte=4)) == 0
    assert collected.data == b"789"


async def test_a_file_that_is_not_there_cannot_be_gone_on_with(tmp_path: Path) -> None:
    report = await transfer(Site(b"0123"), ToFile(path=tmp_path / "file", from_byte=3))
    assert code(report) == ExitCode.RANGE_ERROR
    assert "-r 3- has the rest alone" in str(report.error)
    assert names(tmp_path) == []


async def test_an_error_names_a_key_by_its_first_digits() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadError(f"reading from {PK}:80: reset")

    report = await transfer(Site(answer=answer), Collected().output)
    assert str(report.error) == (
        "(56) waiting for the answer of 0279be66…:80: reading from 0279be66…:80: reset"
    )


async def test_a_host_that_was_named_is_sent_and_not_to_others() -> None:
    site = redirecting((302, f"dmsg://{OTHER_PK}/x"))
    headers = (("Host", "inside"),)
    await transfer(site, Collected().output, headers=headers, redirects=5)
    assert [each.headers.get_list("host") for each in site.asked] == [["inside"], [OTHER_PK]]


async def test_headers_alone_can_be_asked_for_by_any_method() -> None:
    collected = Collected()
    report = await transfer(
        Site(b"much"), collected.output, method="GET", shows_heads=True, skips_body=True
    )
    assert code(report) == 0
    assert collected.data.startswith(b"HTTP/1.1 200")
    assert collected.data.endswith(b"Content-Length: 4\r\n\r\n")


async def test_what_is_no_ascii_is_sent_as_it_came(tmp_path: Path) -> None:
    def answer(_: httpx.Request) -> httpx.Response | None:
        if len(site.asked) > 1:
            return None
        given = [(b"set-cookie", "a=ß".encode()), (b"location", b"/next")]
        return httpx.Response(302, headers=given)

    site = Site(b"here", answer=answer)
    report = await transfer(
        site,
        ToFile(path=tmp_path / "it"),
        redirects=1,
        cookies=Cookies(),
        headers=(("X-Name", "caf\udce9"),),  # a byte of a command line that is no UTF-8
    )
    assert code(report) == 0
    raw = {name.lower(): value for name, value in site.asked[1].headers.raw}
    assert (raw[b"cookie"], raw[b"x-name"]) == ("a=ß".encode(), b"caf\xe9")
