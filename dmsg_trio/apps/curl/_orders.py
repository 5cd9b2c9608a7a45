"""What one transfer is to do, and who is told how it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import httpx

from ._bodies import Body
from ._codes import TransferError
from ._cookies import Cookies
from ._pace import Stall

Headers = tuple[tuple[str, str], ...]

LONGEST_PAUSE: Final = 600  # seconds between two tries, unless it was said how long


class OnError(Enum):
    """What an answer with a status from 400 on means."""

    TAKE = "it is an answer like any other"
    FAIL = "the transfer failed, and its body is of no use"
    FAIL_WITH_BODY = "the transfer failed, and its body says why"


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a transfer that failed is tried again, and after which pause."""

    times: float = 0  # may be infinite
    delay: float = 0  # seconds; 0: a second, then twice as long each time
    within: float = 0  # seconds in which the last try has to begin; 0: no matter when
    whatever: bool = False  # also what will hardly go better the next time

    def pause(self, number: int, error: TransferError) -> float:
        """Say how long to wait before try ``number``, counted from 1."""
        return error.pause or self.delay or min(2.0 ** min(number - 1, 99), LONGEST_PAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One URL, and how to ask for it."""

    url: httpx.URL
    method: str = "GET"
    keeps_method: bool = False  # over redirects, since it was named
    headers: Headers = ()
    secret_headers: Headers = ()  # not for another key that a redirect leads to
    trusts_redirects: bool = False
    cookies: Cookies | None = None  # kept and sent, if there are any
    body: Body | None = None
    redirects: int | None = None  # followed at the most; -1: all, None: they are answers
    span: str = ""  # a range that was asked for, as "0-99"
    from_byte: int = 0  # of a stream that goes on there, and must not begin anew
    decodes: bool = False  # asks for a compressed answer, and unpacks it
    shows_heads: bool = False  # in front of the body
    skips_body: bool = False  # whatever the method is
    on_error: OnError = OnError.TAKE
    max_size: int | None = None
    connect_timeout: float | None = None
    max_time: float | None = None
    retries: Retries = field(default_factory=Retries)
    rate: int | None = None
    stall: Stall | None = None
    streams: int = 1  # over which one large file comes

    @property
    def is_plain_get(self) -> bool:
        """Whether asking for a part of the answer, or asking again, is the same as asking once."""
        is_plain = not (self.span or self.from_byte or self.decodes or self.shows_heads)
        return self.method == "GET" and self.body is None and is_plain


@dataclass(slots=True)
class Report:
    """What became of a transfer, for those who ask: times are seconds since its beginning."""

    asked: httpx.URL
    url: httpx.URL  # the one that redirects led to
    method: str = "GET"
    response: httpx.Response | None = None
    filename: str = ""
    began: float = 0.0
    connected: float = 0.0
    sent: float = 0.0
    first_byte: float = 0.0
    redirected: float = 0.0
    ended: float = 0.0
    downloaded: int = 0
    uploaded: int = 0
    head_size: int = 0
    redirects: int = 0
    connects: int = 0
    tries: int = 0
    redirect_url: str = ""
    error: TransferError | None = None


class Watcher:
    """Is told how a transfer goes; all does nothing here."""

    def asks(self, request: httpx.Request) -> None:
        """Tell of a request that begins."""

    def answers(self, response: httpx.Response, head: bytes) -> None:
        """Tell of the head of an answer, of redirects too."""

    def step(self, name: str, where: str) -> None:
        """Tell of a step on the way to an answer, by its name in httpcore, and to whom."""

    def body_begins(self, offset: int, total: int | None) -> None:
        """Tell that the body comes, of which ``offset`` bytes are there already."""

    def received(self, count: int) -> None:
        """Tell that bytes arrived."""

    def sent(self, count: int) -> None:
        """Tell that bytes of an upload are on the way."""

    def note(self, text: str) -> None:
        """Tell what a person may wonder about."""

    def tries_again(self, error: TransferError, pause: float, left: float) -> None:
        """Tell that a try failed and when the next one is."""
