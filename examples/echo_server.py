"""Send everything back, under a key that is the same after a restart.

Run ``dmsg up`` in one terminal, and in another one::

    dmsg keys new echo.id
    python examples/echo_server.py echo.id

It prints its address; talk to it with ``dmsg cat`` and that address.
"""

import argparse
from pathlib import Path

import trio

import dmsg_trio


async def echo(stream: dmsg_trio.DmsgStream) -> None:
    """Serve one stream. One that breaks is no reason to end the others."""
    try:
        async with stream:
            async for data in stream:
                await stream.send_all(data)
    except trio.BrokenResourceError as error:
        print(f"{stream.remote} went away: {error}")


async def main(keys: dmsg_trio.SecretKey | None, discovery: str, port: int) -> None:
    """Serve until Ctrl-C."""
    async with (
        dmsg_trio.open_client(keys, discovery=discovery) as client,
        client.listen(port) as listener,
    ):
        print(listener.address, flush=True)
        await trio.serve_listeners(echo, [listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Echo over dmsg.")
    parser.add_argument("identity", type=Path, nargs="?", help="a file of `dmsg keys new`")
    parser.add_argument("--discovery", default="http://127.0.0.1:9090")
    parser.add_argument("--port", type=int, default=7)
    options = parser.parse_args()
    sk = dmsg_trio.load_identity(options.identity) if options.identity else None
    try:
        trio.run(
            main,
            sk,
            options.discovery,
            options.port,
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
    except* KeyboardInterrupt:
        print("done")
