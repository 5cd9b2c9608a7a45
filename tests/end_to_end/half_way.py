"""A client of a host that gets stuck at each step of the way into a shell, and says so."""

from __future__ import annotations

import sys

import trio

from dmsg_trio import open_client
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._wire.shell import SHELL_URI, Start, encode
from dmsg_trio.apps.pty._places import PTY_PORT

LINE = bytes([len(SHELL_URI)]) + SHELL_URI.encode()
COMMAND = ("sh", "-c", "sleep 1000 & wait")


async def main() -> None:
    discovery, secret, host = sys.argv[1:]
    async with open_client(SecretKey(bytes.fromhex(secret)), discovery=discovery) as client:

        async def ask(line: bytes) -> trio.abc.Stream:
            stream = await client.open_stream(PublicKey.parse(host), PTY_PORT)
            await stream.send_all(line)
            if line == LINE:
                assert await stream.receive_some(1) == b"\0"
            return stream

        name = 32 * "0"
        start = encode(Start(session=name, client=name, attempt=0, keep=600, argv=COMMAND))
        await ask(LINE[:5])
        await ask(LINE)
        await (await ask(LINE)).send_all(start[:-1])
        begun = await ask(LINE)
        await begun.send_all(start)
        await begun.receive_some(1)
        sys.stdout.write("there\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
