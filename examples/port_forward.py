"""Let programs that know only TCP talk to a port of a key: each connection becomes a stream.

Run ``dmsg up`` in one terminal. It prints the key of a client with a web page on port 80; then::

    python examples/port_forward.py 02…:80
    curl http://127.0.0.1:8080/
"""

import argparse
from functools import partial

import trio

import dmsg_trio


async def forward(
    client: dmsg_trio.Client, remote: dmsg_trio.Address, near: trio.SocketStream
) -> None:
    """Serve one TCP connection."""
    try:
        async with near, await client.open_stream(remote.pk, remote.port) as far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy, near, far)
                nursery.start_soon(copy, far, near)
    except* (dmsg_trio.DmsgError, trio.BrokenResourceError) as group:
        print(f"{remote}: {group.exceptions[0]}")


async def copy(source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream) -> None:
    """Copy one direction to its end; the other one goes on."""
    async for data in source:
        await sink.send_all(data)
    await sink.send_eof()


async def main(remote: dmsg_trio.Address, discovery: str, port: int) -> None:
    """Forward until Ctrl-C."""
    async with dmsg_trio.open_client(discovery=discovery) as client:
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        print(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}", flush=True)
        await trio.serve_listeners(partial(forward, client, remote), listeners)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Forward a TCP port to a dmsg address.")
    parser.add_argument("remote", type=dmsg_trio.Address.parse, help="PK:PORT")
    parser.add_argument("--listen", type=int, default=8080, metavar="PORT")
    parser.add_argument("--discovery", default="http://127.0.0.1:9090")
    options = parser.parse_args()
    try:
        trio.run(
            main,
            options.remote,
            options.discovery,
            options.listen,
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
    except* KeyboardInterrupt:
        pass
