"""A web API on a key, with FastAPI: checked parameters, a page of docs, a WebSocket.

FastAPI comes with ``pip install fastapi``. Run ``dmsg up`` in one terminal, and in another one::

    python examples/fastapi_app.py

It prints its URL, dmsg://02…:80/. A third terminal asks::

    python examples/http_client.py dmsg://02…:80/notes/first
    dmsgcurl -d '{"text": "Water the plants"}' -H 'Content-Type: application/json' \\
        -X PUT dmsg://02…:80/notes/second
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
from fastapi import FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect

import dmsg_trio
from dmsg_trio.http import serve_asgi


@dataclass
class Note:
    """What somebody wrote."""

    text: str
    author: str = ""


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, dict[str, Note]]]:
    """Have notes from before the first request to after the last one."""
    yield {"notes": {"first": Note("It works")}}


app = FastAPI(title="Notes", lifespan=lifespan)


@app.get("/notes/{name}")
async def read(name: str, request: Request) -> Note:
    """Answer with a note."""
    notes: dict[str, Note] = request.state.notes
    if name not in notes:
        raise HTTPException(404, f"there is no note {name!r}")
    return notes[name]


@app.put("/notes/{name}")
async def write(name: str, note: Note, request: Request) -> Note:
    """Keep a note; who wrote it is proven, as the client's host is its key."""
    author = request.client.host if request.client else "nobody"
    notes: dict[str, Note] = request.state.notes
    if name in notes and notes[name].author not in ("", author):
        raise HTTPException(403, "somebody else wrote that")
    notes[name] = Note(note.text, author)
    return notes[name]


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    """Send every message back."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


async def main(discovery: str, port: int) -> None:
    """Serve until Ctrl-C; answers under way are finished then."""
    async with (
        dmsg_trio.open_client(discovery=discovery) as client,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(serve_asgi, app, client, port)
        print(f"dmsg://{client.pk}:{port}/", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve a web API over dmsg.")
    parser.add_argument("--discovery", default="http://127.0.0.1:9090")
    parser.add_argument("--port", type=int, default=80)
    options = parser.parse_args()
    try:
        trio.run(
            main, options.discovery, options.port, restrict_keyboard_interrupt_to_checkpoints=True
        )
    except* KeyboardInterrupt:
        pass
