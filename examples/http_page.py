"""A web application on a port of a key, with any ASGI framework; Starlette here.

Run ``dmsg up`` in one terminal, and in another one::

    python examples/http_page.py

It prints its address, 02…:80. A third terminal reads the page::

    printf 'GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' | dmsg cat 02…:80

`port_forward.py` brings it to a browser.
"""

import argparse

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import dmsg_trio
from dmsg_trio.http import serve_asgi


async def page(request: Request) -> PlainTextResponse:
    """Answer; the client's host is its key, and proven."""
    key = request.client.host if request.client else "nobody"
    return PlainTextResponse(f"You are {key}\n")


async def main(discovery: str, port: int) -> None:
    """Serve until Ctrl-C; answers under way are finished then."""
    app = Starlette(routes=[Route("/", page)])
    async with (
        dmsg_trio.open_client(discovery=discovery) as client,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(serve_asgi, app, client, port)
        print(f"{client.pk}:{port}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve a web page over dmsg.")
    parser.add_argument("--discovery", default="http://127.0.0.1:9090")
    parser.add_argument("--port", type=int, default=80)
    options = parser.parse_args()
    try:
        trio.run(
            main, options.discovery, options.port, restrict_keyboard_interrupt_to_checkpoints=True
        )
    except* KeyboardInterrupt:
        pass
