"""dmsg trace at work: one dial, told step by step."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Final, NoReturn

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import Attempt, RefusedError, UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio.discovery import HttpDiscovery

from ._joining import joined, why
from ._numbers import count
from ._run import one_line, printable

TIERS: Final = {1: "a server of its", 2: "across servers", 3: "a new session"}


async def trace_dial(
    sk: SecretKey | None, url: str, remote: Address, wait: float, sessions: int, *, as_json: bool
) -> None:
    """Dial a client once, and tell each step."""
    tell = _Teller(as_json=as_json)
    async with (
        HttpDiscovery(url) as discovery,
        joined(sk, url, wait, min_sessions=sessions) as client,
    ):
        try:
            entry = await discovery.entry(remote.pk)
        except UnreachableError as error:
            tell.line("entry", f"{url}: {why(error)}")
            tell.fail()
        servers = count(len(entry.delegated_servers), "server")
        tell.line("entry", f"{url}: at {servers}")
        for pk in entry.delegated_servers:
            tell.line("its server", str(pk))
        for pk, session in client.sessions.items():
            mark = ", one of its" if pk in entry.delegated_servers else ""
            trip = 1000 * (session.connection.round_trip or 0)
            tell.line("our session", f"{pk} at {session.peer}, round trip {trip:.2f} ms{mark}")
        began = trio.current_time()
        try:
            with trio.fail_after(wait):
                dialed = await client.dial(remote.pk, remote.port)
        except RefusedError as error:
            tell.attempts(error.attempts, at_last="the client answered")
            tell.line("answer", f"{one_line(error.reason)}, {_ms(trio.current_time() - began)}")
            tell.end(reached=True)
        except UnreachableError as error:
            tell.attempts(error.attempts)
            tell.fail()
        except trio.TooSlowError:
            tell.line("answer", f"none within {wait:g} s")
            tell.fail()
        else:
            tell.attempts(dialed.attempts)
            dialed.stream.reset()
            tell.end(reached=True)


class _Teller:
    """Prints as it goes, or gathers for one JSON object at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._found: list[dict[str, object]] = []

    def line(self, what: str, text: str) -> None:
        """Tell one thing."""
        self._found.append({"what": what, "text": text})
        if not self._as_json:
            print(f"{what:12} {printable(text)}", flush=True)

    def attempts(self, attempts: tuple[Attempt, ...], *, at_last: str = "open") -> None:
        """Tell each attempt of the dial, and of the one that led there what it led to."""
        for each in attempts:
            found = one_line(each.reason) or at_last
            self._found.append({"what": "attempt", **asdict(each)})
            if not self._as_json:
                kind = f"{each.tier}. {TIERS[each.tier]}"
                print(f"{'attempt':12} {kind}, {each.server}: {found}, {_ms(each.seconds)}")

    def end(self, *, reached: bool) -> None:
        """Sum up."""
        if self._as_json:
            print(json.dumps({"reached": reached, "steps": self._found}, indent=2))
        else:
            print("reached" if reached else "not reached", flush=True)

    def fail(self) -> NoReturn:
        """Sum up and end the program: no way was found."""
        self.end(reached=False)
        sys.exit(1)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"
