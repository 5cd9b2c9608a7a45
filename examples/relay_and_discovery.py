"""A discovery and a server inside of a Trio program of your own, with a client that uses them.

It needs nothing else running::

    python examples/relay_and_discovery.py
"""

import time
from functools import partial

import trio

import dmsg_trio
from dmsg_trio.discovery.serving import (
    DiscoveryService,
    Policy,
    make_app,
    open_store,
    serve_discovery,
)
from dmsg_trio.server import Server, ServerOptions


async def run_discovery(*, task_status: trio.TaskStatus[str]) -> None:
    """Run a discovery on a free port; hand out its URL."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with open_store("memory:", time.time_ns) as store, trio.open_nursery() as nursery:
        # Loopback addresses are for tests: other machines could not dial them.
        service = DiscoveryService(store, Policy(test_mode=True))
        await nursery.start(serve_discovery, service, make_app(service), listeners)
        task_status.started(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")


async def run_server(discovery_url: str, *, task_status: trio.TaskStatus[Server]) -> None:
    """Run a server on a free port, registered at the discovery."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with dmsg_trio.HttpDiscovery(discovery_url) as discovery:
        server = Server(
            dmsg_trio.SecretKey.generate(),
            discovery=discovery,
            options=ServerOptions(public_address=address, max_sessions=100),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(server.serve, listeners))
            task_status.started(server)


async def main() -> None:
    """Start both, and send something to ourselves through them.

    One nursery inside of the other, so that the discovery is there until the server has left it.
    """
    async with trio.open_nursery() as outer:
        url = await outer.start(run_discovery)
        await send_and_receive(url)
        outer.cancel_scope.cancel()


async def send_and_receive(url: str) -> None:
    """Run a server, be a client of it, and open a stream to ourselves."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(run_server, url)
        async with dmsg_trio.open_client(discovery=url) as client, client.listen(80) as listener:
            async with await client.open_stream(client.pk, 80) as stream:
                await stream.send_all(b"there and back")
                far = await listener.accept()
                print(bytes(await far.receive_some()).decode(), "through", server.pk)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    try:
        trio.run(main, restrict_keyboard_interrupt_to_checkpoints=True)
    except* KeyboardInterrupt:
        pass
