"""Cookies: who gives them, who gets them, and the files that they are kept in."""

from __future__ import annotations

import httpx
import pytest

from dmsg_trio.apps.curl import Cookies, parse_url
from dmsg_trio.apps.curl._cookies import HEAD, LONGEST, MAX_COOKIES
from tests.apps.curl.sites import OTHER_PK, PK, SITE, Collected, Site, code, transfer

FILE = f"{HEAD}#HttpOnly_{PK}.dmsg\tFALSE\t/\tFALSE\t4102444800\tlong\tl\n{PK}.dmsg\tFALSE\t/a\tTRUE\t0\tshort\ts\n"


def given(cookies: Cookies, *lines: str, url: str = SITE) -> None:
    request = httpx.Request("GET", parse_url(url))
    headers = [("Set-Cookie", each) for each in lines]
    cookies.take_untrusted(httpx.Response(200, headers=headers, request=request))


def sent(cookies: Cookies, url: str = SITE) -> str:
    return cookies.header_for(parse_url(url))


def test_cookies_go_back_to_whom_they_came_from_however_the_url_is_written() -> None:
    cookies = Cookies()
    given(cookies, "a=1", "b=2; Path=/deep", "c=3; Secure; HttpOnly")
    assert sent(cookies) == "a=1; c=3"
    assert sent(cookies, f"http://{PK}.dmsg:81/deep/er") == "b=2; a=1; c=3"
    assert sent(cookies, f"dmsg://{OTHER_PK}/") == ""


@pytest.mark.parametrize(
    "line", ["a=1; Domain=dmsg", "a=1; Domain=.dmsg", f"a=1; Domain={OTHER_PK}.dmsg", "a=1\0b"]
)
def test_nobody_gives_cookies_for_others(line: str) -> None:
    cookies = Cookies()
    given(cookies, line)
    assert sent(cookies) == sent(cookies, f"dmsg://{OTHER_PK}/") == ""


def test_a_cookie_can_be_taken_back() -> None:
    cookies = Cookies()
    given(cookies, "a=1")
    given(cookies, "a=; Max-Age=0")
    assert sent(cookies) == ""


def test_no_site_fills_the_memory() -> None:
    cookies = Cookies()
    given(cookies, *(f"c{number}=1" for number in range(MAX_COOKIES + 10)))
    given(cookies, "d=" + "x" * LONGEST)
    assert len(cookies.dump().splitlines()) == MAX_COOKIES + len(HEAD.splitlines())


def test_a_file_comes_back_as_it_was() -> None:
    cookies = Cookies()
    cookies.load(FILE)
    assert cookies.dump() == FILE
    assert sent(cookies, SITE + "a") == "short=s; long=l"


def test_a_session_may_have_ended() -> None:
    cookies = Cookies()
    cookies.load(FILE, ends_sessions=True)
    assert sent(cookies, SITE + "a") == "long=l"


def test_a_time_that_no_calendar_has_is_no_cookie_and_nothing_to_tell_of() -> None:
    cookies = Cookies()
    given(cookies, "a=1; Max-Age=" + "9" * 4000)
    cookies.load(f"{PK}.dmsg\tFALSE\t/\tFALSE\t{'9' * 5000}\tb\t2\n")
    assert cookies.dump() == HEAD


def test_lines_that_are_no_cookies_do_not_count() -> None:
    cookies = Cookies()
    cookies.load(f"<html>\n{PK}\tFALSE\t/\tFALSE\tsoon\ta\t1\n{PK}\tFALSE\t/\tFALSE\t0\tb\t2\n")
    assert sent(cookies) == "b=2"


def test_what_is_over_is_not_kept() -> None:
    cookies = Cookies()
    cookies.load(f"{PK}.dmsg\tFALSE\t/\tFALSE\t1\ta\t1\n")
    assert cookies.dump() == HEAD


async def test_a_redirect_takes_the_cookies_along_that_it_gave() -> None:
    def answer(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == "/in":
            return httpx.Response(302, headers={"Location": "/out", "Set-Cookie": "a=1"})
        return None

    site = Site(b"here", answer=answer)
    report = await transfer(
        *(site, Collected().output, "in"),
        redirects=5,
        cookies=Cookies(),
        secret_headers=(("Cookie", "b=2"),),
    )
    assert code(report) == 0
    assert [each.headers["cookie"] for each in site.asked] == ["b=2", "a=1; b=2"]
