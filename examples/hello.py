"""Two clients in one program: one listens, the other says hello.

Run ``dmsg up`` in one terminal, and in another one::

    python examples/hello.py
"""

import argparse

import trio

import dmsg_trio


async def answer(stream: dmsg_trio.DmsgStream) -> None:
    """Greet whoever came, by the key that the handshake proved."""
    async with stream:
        name = b"".join([data async for data in stream]).decode()
        await stream.send_all(f"hello {name}, your key is {stream.remote.pk}\n".encode())


async def main(discovery: str) -> None:
    """Be both parties."""
    async with (
        dmsg_trio.open_client(discovery=discovery) as alice,
        dmsg_trio.open_client(discovery=discovery) as bob,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio.serve_listeners, answer, [bob.listen(80)])
        async with await alice.open_stream(bob.pk, 80) as stream:
            await stream.send_all(b"Alice")
            await stream.send_eof()
            async for data in stream:
                print(data.decode(), end="")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Say hello over dmsg.")
    parser.add_argument("--discovery", default="http://127.0.0.1:9090")
    try:
        trio.run(
            main, parser.parse_args().discovery, restrict_keyboard_interrupt_to_checkpoints=True
        )
    except* KeyboardInterrupt:
        pass
