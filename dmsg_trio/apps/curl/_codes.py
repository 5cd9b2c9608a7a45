"""What can go wrong with a transfer: the exit codes that curl has, and one line that says where.

An error names the hop, the phase and the reason: ``dialing 02ab12cd:80: over server 03cd34ef: no
listener on port 80``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import httpx

from dmsg_trio._errors import DiscoveryError, DmsgError, ErrorCode, UnreachableError

SHOWN_DIGITS: Final = 8  # of a key, in a line that may name several


class ExitCode(IntEnum):
    """How a transfer ended, by the numbers that scripts know from curl."""

    DONE = 0
    UNSUPPORTED = 1
    USAGE = 2
    BAD_URL = 3
    NOT_FOUND = 6
    NOT_CONNECTED = 7
    WEIRD_ANSWER = 8
    PARTIAL = 18
    HTTP_ERROR = 22
    WRITE_ERROR = 23
    READ_ERROR = 26
    TIMEOUT = 28
    RANGE_ERROR = 33
    TOO_MANY_REDIRECTS = 47
    NO_ANSWER = 52
    SEND_ERROR = 55
    RECEIVE_ERROR = 56
    BAD_ENCODING = 61
    TOO_BIG = 63


# Another try may go better: somebody was away, slow, or cut off.
PASSING: Final = frozenset(
    {
        ExitCode.NOT_FOUND,
        ExitCode.NOT_CONNECTED,
        ExitCode.PARTIAL,
        ExitCode.TIMEOUT,
        ExitCode.NO_ANSWER,
        ExitCode.SEND_ERROR,
        ExitCode.RECEIVE_ERROR,
    }
)
PASSING_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})


class TransferError(DmsgError):
    """A transfer failed; ``code`` is what the program exits with."""

    def __init__(
        self, code: ExitCode, reason: str, *, may_pass: bool | None = None, pause: float = 0
    ) -> None:
        self.code = code
        self.reason = reason
        self.may_pass = code in PASSING if may_pass is None else may_pass
        self.pause = pause  # seconds that the server asked for
        super().__init__(f"({code.value}) {reason}")


def place(url: httpx.URL) -> str:
    """Name whom a URL leads to, shortly: ``02ab12cd…:80``."""
    host = url.host.removesuffix(".dmsg")
    shown = f"{host[:SHOWN_DIGITS]}…" if len(host) > 2 * SHOWN_DIGITS else host
    return f"{shown}:{url.port or 80}"


def translated(
    error: httpx.HTTPError | httpx.InvalidURL | DmsgError, url: httpx.URL, *, is_answered: bool
) -> TransferError:
    """Say which code and which words of ours an error of httpx or of the network has."""
    where = place(url)
    text = _shortened(one_line(error), url)
    match error:
        case TransferError():
            return error
        case DmsgError() | httpx.ConnectError():
            return _not_reached(error, where, url)
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return TransferError(
                ExitCode.TIMEOUT, f"dialing {where}: {text or 'no answer in time'}"
            )
        case httpx.TimeoutException():
            return TransferError(ExitCode.TIMEOUT, f"talking to {where}: {text or 'too slow'}")
        case httpx.UnsupportedProtocol():
            return TransferError(ExitCode.UNSUPPORTED, f"{where}: {text}")
        case httpx.InvalidURL():
            return TransferError(ExitCode.BAD_URL, f"bad URL: {text}")
        case httpx.DecodingError():
            return TransferError(ExitCode.BAD_ENCODING, f"unpacking what {where} sent: {text}")
        case httpx.WriteError():
            return TransferError(ExitCode.SEND_ERROR, f"sending to {where}: {text or 'it broke'}")
        case httpx.RemoteProtocolError():
            return _wrong_answer(text, where, is_answered=is_answered)
        case _:
            doing = "receiving from" if is_answered else "waiting for the answer of"
            reason = f"{doing} {where}: {text or 'the stream broke'}"
            return TransferError(ExitCode.RECEIVE_ERROR, reason)


def _not_reached(error: Exception, where: str, url: httpx.URL) -> TransferError:
    cause = error.__cause__ if isinstance(error, httpx.ConnectError) else error
    match cause:
        case UnreachableError(code=ErrorCode.ENTRY_NOT_FOUND):
            reason = f"looking up {where}: no client of this key is registered at the discovery"
            return TransferError(ExitCode.NOT_FOUND, reason)
        case UnreachableError(code=ErrorCode.NO_LISTENER):
            words = f"no listener on port {url.port or 80}"
        case UnreachableError():
            words = cause.reason.splitlines()[0]
            if cause.attempts and words.endswith("was not reached"):
                words = ""  # the attempts say it better
        case DiscoveryError():
            return TransferError(ExitCode.NOT_FOUND, f"looking up {where}: {one_line(cause)}")
        case ValueError():  # of a redirect, as a URL that is typed names a key
            reason = f"{url.copy_with(userinfo=b'')} leads out of dmsg: no key: {one_line(cause)}"
            return TransferError(ExitCode.UNSUPPORTED, reason)
        case _:
            words = one_line(error) or "it was not reached"
    ways = [
        f"over server {each.server[:SHOWN_DIGITS]}…: {each.reason}"
        for each in (cause.attempts if isinstance(cause, UnreachableError) else ())
        if each.reason
    ]
    reason = _shortened("; ".join(filter(None, [words, *ways])), url)
    return TransferError(ExitCode.NOT_CONNECTED, f"dialing {where}: {reason}")


def _shortened(text: str, url: httpx.URL) -> str:
    """Name whom a URL leads to no longer than it has to be."""
    key = url.host.removesuffix(".dmsg")
    return text.replace(key, f"{key[:SHOWN_DIGITS]}…") if len(key) > 2 * SHOWN_DIGITS else text


def _wrong_answer(text: str, where: str, *, is_answered: bool) -> TransferError:
    if is_answered and ("incomplete" in text or "without sending complete" in text):
        return TransferError(ExitCode.PARTIAL, f"receiving from {where}: {text}")
    if not is_answered and "without sending a response" in text:
        return TransferError(ExitCode.NO_ANSWER, f"{where} closed without an answer")
    return TransferError(ExitCode.WEIRD_ANSWER, f"{where} sends no HTTP: {text}")


def one_line(error: BaseException) -> str:
    """Join the lines of a message."""
    return "; ".join(line.strip() for line in str(error).splitlines())
