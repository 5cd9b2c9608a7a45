"""dmsgcurl as a program, and a server of files for it, which can be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import trio

from dmsg_trio._keys import SecretKey
from tests.cli.running import Done, command, environment, line_of, running
from tests.waiting import PATIENCE

CURL = str(Path(sys.executable).with_name("dmsgcurl"))

# A program of its own, so that it can be killed. What is asked of /told comes back as it was.
SERVER = """
import sys, trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from dmsg_trio import open_client
from dmsg_trio.http import serve_asgi

async def told(request: Request) -> Response:
    body = (await request.body()).decode("latin-1")
    headers = dict(request.headers)
    return JSONResponse({"method": request.method, "headers": headers, "body": body, "query": request.url.query})

async def status(request: Request) -> Response:
    return PlainTextResponse("why", int(request.path_params["code"]))

async def away(request: Request) -> Response:
    return RedirectResponse("/told", 302)

routes = [
    Route("/told", told, methods=["GET", "POST", "PUT", "DELETE"]),
    Route("/status/{code}", status),
    Route("/away", away),
    Mount("/", StaticFiles(directory=sys.argv[2])),
]

async def main() -> None:
    async with open_client(sys.argv[3], discovery=sys.argv[1]) as client:
        print("ready", flush=True)
        await serve_asgi(Starlette(routes=routes), client, 80)

trio.run(main)
"""


@asynccontextmanager
async def file_server(discovery: str, folder: Path, sk: SecretKey) -> AsyncIterator[trio.Process]:
    """Serve a folder for the block; the process may be killed before."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", SERVER, discovery, str(folder), sk.reveal().hex()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(PATIENCE):
            assert await line_of(process.stdout) == b"ready\n"
        yield process
    finally:
        process.kill()
        await process.wait()
        await process.stdout.aclose()


async def curl(*arguments: str, discovery: str, stdin: bytes = b"") -> Done:
    """Run dmsgcurl on pipes, to its end."""
    return await command([CURL, *arguments], discovery=discovery, stdin=stdin)


def curl_running(*arguments: str, discovery: str) -> AbstractAsyncContextManager[trio.Process]:
    """Run dmsgcurl beside the block."""
    return running(CURL, *arguments, discovery=discovery)
