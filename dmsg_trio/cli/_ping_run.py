"""dmsg ping at work: one stream after the other, and what became of each."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Final

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import DmsgError, ErrorCode, RefusedError, UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio.client import Client

from ._joining import joined, why
from ._parties import ECHO_PORT
from ._run import one_line

PAYLOAD: Final = b"dmsg ping"


@dataclass(frozen=True, slots=True)
class Answer:
    """One ping: milliseconds, or why there was no answer."""

    number: int
    open_ms: float | None = None
    echo_ms: float | None = None
    server: str = ""
    note: str = ""


@dataclass(slots=True)
class Pinging:
    """One run of the command."""

    remote: Address
    count: int
    interval: float
    wait: float
    as_json: bool = field(kw_only=True)
    answers: list[Answer] = field(default_factory=list)

    async def run(self, sk: SecretKey | None, discovery: str) -> None:
        """Ping until it is enough, and sum up, also when interrupted."""
        async with joined(sk, discovery, self.wait) as client:
            try:
                await self._ping_all(client)
            finally:
                self._sum_up()
        if not any(answer.open_ms is not None for answer in self.answers):
            sys.exit(1)

    async def _ping_all(self, client: Client) -> None:
        number = 0
        next_time = trio.current_time()
        while not self.count or number < self.count:
            await trio.sleep_until(next_time)
            number += 1
            answer = await self._ping(client, number)
            self.answers.append(answer)
            self._tell(answer)
            next_time = max(next_time + self.interval, trio.current_time())

    async def _ping(self, client: Client, number: int) -> Answer:
        began = trio.current_time()
        try:
            with trio.fail_after(self.wait):
                async with await client.open_stream(self.remote.pk, self.remote.port) as stream:
                    opened = trio.current_time()
                    server = str(stream.server_pk)
                    echo = None
                    if self.remote.port == ECHO_PORT:
                        await stream.send_all(PAYLOAD)
                        if await stream.receive_some():
                            echo = _ms(trio.current_time() - opened)
                    return Answer(number, _ms(opened - began), echo, server)
        except RefusedError as error:
            note = f"alive, but {one_line(error.reason)}"
            if error.code == ErrorCode.NO_LISTENER:
                note = f"alive, nobody listens on port {self.remote.port}"
            return Answer(number, _ms(trio.current_time() - began), note=note)
        except trio.TooSlowError:
            return Answer(number, note=f"no answer within {self.wait:g} s")
        except UnreachableError as error:
            return Answer(number, note=why(error))
        except (DmsgError, trio.BrokenResourceError) as error:
            return Answer(number, note=one_line(str(error)))

    def _tell(self, answer: Answer) -> None:
        if self.as_json:
            print(json.dumps(asdict(answer)), flush=True)
            return
        parts = []
        if answer.open_ms is not None:
            parts.append(f"open {answer.open_ms:.2f} ms")
        if answer.echo_ms is not None:
            parts.append(f"echo {answer.echo_ms:.2f} ms")
        if answer.server:
            parts.append(f"through {answer.server[:8]}")
        if answer.note:
            parts.append(answer.note)
        print(f"{answer.number}: {', '.join(parts)}", flush=True)

    def _sum_up(self) -> None:
        if self.as_json or not self.answers:
            return
        times = [answer.open_ms for answer in self.answers if answer.open_ms is not None]
        words = f"{len(times)} of {len(self.answers)} answered"
        if times:
            mean = sum(times) / len(times)
            words += f", open min/avg/max {min(times):.2f}/{mean:.2f}/{max(times):.2f} ms"
        # The line may have the ^C of a terminal on it.
        print(f"\n{self.remote}\n{words}", flush=True)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
