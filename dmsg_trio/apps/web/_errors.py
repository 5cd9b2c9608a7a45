"""Why a request leads nowhere, in words for who sits before a browser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import h11
import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import (
    Attempt,
    DiscoveryError,
    DmsgError,
    ErrorCode,
    RefusedError,
    UnreachableError,
)
from dmsg_trio._wire.socks5 import ReplyCode

_QUOTED: Final = re.compile(r"bytearray\((b'.*'|b\".*\")\)", re.DOTALL)

HTTPS_PORT: Final = 443
MAX_SAID: Final = 300  # characters of what h11 says; it quotes lines of any length
DIAL_TIME: Final = 30.0  # seconds for a connection, through however many servers


class WebError(Exception):
    """A request cannot be done; it is told as a page, as a reply of SOCKS5, and on the status page."""

    def __init__(
        self,
        status: HTTPStatus,
        title: str,
        detail: str = "",
        *,
        reply: ReplyCode = ReplyCode.GENERAL_FAILURE,
        attempts: Sequence[Attempt] = (),
    ) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.reply = reply
        self.attempts = tuple(attempts)
        super().__init__(f"{title}: {detail}" if detail else title)


def bad_request(detail: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> WebError:
    """Make the error for a request that goes against the rules of HTTP."""
    return WebError(status, "This request is not one that can be passed on", detail)


def error_of_dial(remote: Address, error: DmsgError | trio.TooSlowError) -> WebError:
    """Say in the words of a browser's user why a key was not reached."""
    attempts = error.attempts if isinstance(error, UnreachableError) else ()
    status, reply = HTTPStatus.BAD_GATEWAY, ReplyCode.HOST_UNREACHABLE
    match error:
        case trio.TooSlowError():
            title = "The key did not answer in time"
            detail = f"{remote}: no answer within {DIAL_TIME:g} seconds"
            status, reply = HTTPStatus.GATEWAY_TIMEOUT, ReplyCode.TTL_EXPIRED
        case RefusedError(code=ErrorCode.NO_LISTENER):
            title, reply = "Nobody listens there", ReplyCode.REFUSED
            detail = (
                f"{remote.pk} is on the network, but nothing is served on its port {remote.port}"
            )
            if remote.port == HTTPS_PORT:
                detail += "; dmsg encrypts by itself: open it as http://"
        case RefusedError():
            title, reply = "The key refused the connection", ReplyCode.REFUSED
            detail = f"{remote}: {error.reason}"
        case UnreachableError(code=ErrorCode.ENTRY_NOT_FOUND):
            title = "No such key on the network"
            detail = (
                f"the discovery knows no client {remote.pk}: it is not running, or the key is wrong"
            )
        case UnreachableError():
            title = "The key cannot be reached"
            named = str(remote) in error.reason
            detail = error.reason if named else f"{remote}: {error.reason}"
        case DiscoveryError():
            title = "The discovery does not answer"
            detail = f"so nobody knows where {remote.pk} is: {error}"
        case _:
            title, detail = "The connection failed", f"{remote}: {error}"
    return WebError(status, title, detail, reply=reply, attempts=attempts)


def said_of(error: h11.ProtocolError) -> str:
    """Say what h11 says, with what it quotes as bytes alone: ``b'…'``; not all of a long line."""
    return _QUOTED.sub(r"\1", str(error))[:MAX_SAID]
