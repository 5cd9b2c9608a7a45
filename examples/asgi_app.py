"""A web application on a key, for some keys only: a page, an upload, a stream and a WebSocket.

Run ``dmsg up`` in one terminal, and in another one::

    python examples/asgi_app.py

It prints its URL, dmsg://02…:80/. A third terminal reads the page::

    python examples/http_client.py dmsg://02…:80/

Any ASGI framework will do; this is Starlette. Keys as arguments are the only ones that may ask.
"""

import argparse
from collections.abc import AsyncIterator
from functools import partial

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

import dmsg_trio
from dmsg_trio.http import serve_asgi


async def page(request: Request) -> PlainTextResponse:
    """Answer; the host of who asks is a key, and proven."""
    key = request.client.host if request.client else "nobody"
    return PlainTextResponse(f"You are {key}")


async def upload(request: Request) -> PlainTextResponse:
    """Take a body of any length as it comes."""
    size = 0
    async for part in request.stream():
        size += len(part)
    return PlainTextResponse(f"{size} bytes came")


async def ticks(request: Request) -> StreamingResponse:
    """Send a line a second."""

    async def lines() -> AsyncIterator[str]:
        for number in range(10):
            yield f"{number}\n"
            await trio.sleep(1)

    return StreamingResponse(lines(), media_type="text/plain")


async def echo(websocket: WebSocket) -> None:
    """Send every message back."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


app = Starlette(
    routes=[
        Route("/", page),
        Route("/upload", upload, methods=["POST", "PUT"]),
        Route("/ticks", ticks),
        WebSocketRoute("/echo", echo),
    ]
)


async def main(discovery: str, port: int, keys: list[str]) -> None:
    """Serve until Ctrl-C; answers under way are finished then."""
    allow = {dmsg_trio.PublicKey.parse(key) for key in keys} or None
    async with (
        dmsg_trio.open_client(discovery=discovery) as client,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(partial(serve_asgi, app, client, port, allow=allow))
        print(f"dmsg://{client.pk}:{port}/", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve a web application over dmsg.")
    parser.add_argument("--discovery", default="http://127.0.0.1:9090")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("keys", nargs="*", help="who may ask; everybody if there is none")
    options = parser.parse_args()
    try:
        trio.run(
            main,
            options.discovery,
            options.port,
            options.keys,
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
    except* KeyboardInterrupt:
        pass
