"""A whole network in memory: two servers, two clients, and a server that fails.

It needs nothing else running, opens no socket, and a minute passes in no time::

    python examples/own_network.py
"""

import trio
import trio.testing

from dmsg_trio.testing import Network


async def main() -> None:
    """Talk, lose the server in between, and talk again."""
    async with (
        Network(servers=2) as network,
        network.client(min_sessions=2) as alice,
        network.client(min_sessions=2) as bob,
        bob.listen(80) as listener,
    ):
        stream = await alice.open_stream(bob.pk, 80)
        far = await listener.accept()
        await stream.send_all(b"first")
        print("through", stream.server_pk.short, "came", bytes(await far.receive_some()).decode())

        for server in network.servers:
            if server.pk == stream.server_pk:
                await network.stop_server(server)
        try:
            await far.receive_some()
        except trio.BrokenResourceError as error:
            print("the stream broke:", error)

        await trio.sleep(60)  # by the network's clock
        stream = await alice.open_stream(bob.pk, 80)
        far = await listener.accept()
        await stream.send_all(b"second")
        print("through", stream.server_pk.short, "came", bytes(await far.receive_some()).decode())


if __name__ == "__main__":
    try:
        trio.run(
            main,
            clock=trio.testing.MockClock(autojump_threshold=0),
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
    except* KeyboardInterrupt:
        pass
