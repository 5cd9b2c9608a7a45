"""Pages of a key, with httpx.

Run ``dmsg up`` in one terminal, which prints the URL of a page on a key, and in another one::

    python examples/http_client.py dmsg://02…:80/

A second request to the same key goes over the stream of the first one, where the server leaves it
open.
"""

import argparse

import httpx
import trio

import dmsg_trio
from dmsg_trio.http import DmsgTransport


async def main(discovery: str, url: str) -> None:
    """Fetch a page, and print its text; a failure is one line that says where and why."""
    async with (
        dmsg_trio.open_client(discovery=discovery) as client,
        httpx.AsyncClient(transport=DmsgTransport(client), follow_redirects=True) as http,
    ):
        try:
            answer = await http.get(url)
        except httpx.TransportError as error:
            raise SystemExit(f"{url}: {error}") from error
        print(answer.text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetch a page over dmsg.")
    parser.add_argument("--discovery", default="http://127.0.0.1:9090")
    parser.add_argument("url")
    options = parser.parse_args()
    trio.run(main, options.discovery, options.url)
