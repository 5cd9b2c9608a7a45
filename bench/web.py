"""Measure dmsgweb with a browser and curl: ``python bench/web.py``; README.md here says how to read it.

A page of 100 small images is loaded by Chromium: directly over TCP, and over dmsg through the proxy, as
HTTP and as SOCKS5. The same app answers all of them, in the same process. The page itself says how
long it took, from the start of the navigation until everything was there, and goes on to the next
load; the first one, with new connections and a browser that has just started, is told apart.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Final

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from bench.command import arguments_of, take_and_print
from bench.figures import BARE, OURS, PLAIN, Figure, Sample, Target, column, interleave
from bench.parties import (
    RECEIVER,
    commands,
    joined,
    known,
    ready,
)
from bench.processes import Party, Stage, free_address, open_stage
from dmsg_trio._asgi import serve_tcp
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import listen_tcp
from dmsg_trio.apps.web import Names, Ways, serve_proxy
from dmsg_trio.client import DmsgStream, open_client
from dmsg_trio.http import serve_asgi

OBJECTS: Final = 100
LOADS: Final = 6  # of one browser; the first one counts for itself
CHUNK: Final = 256 * 1024
HTTP_PORT: Final = 80
BARE_PORT: Final = 81
MB: Final = 1_000_000
GIVEN_UP_AFTER: Final = 60  # seconds
SOCKS: Final = "ours by SOCKS5"

# A PNG of one pixel, and bytes behind its end that nobody looks at, so that it is of a usual size.
PNG: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6364f8ff"
    "1f0003030200ef9d2c5d0000000049454e44ae426082"
) + bytes(4000)
PAGE: Final = """<!doctype html><title>load</title>{images}<script>
onload = () => {{
  const ms = performance.now();
  fetch("/took?ms=" + ms).then(() => {{ if ({load} + 1 < {loads}) location = "/?load=" + ({load} + 1) }});
}}
</script>"""


# ---- the parties, each a process ----


class Site:
    """The page, its images, a large file; it keeps what browsers say."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self._news = trio.lowlevel.ParkingLot()
        routes = {"/": self.page, "/image": self.image, "/took": self.note, "/large": self.large}
        self.app = Starlette(routes=[Route(path, page) for path, page in routes.items()])

    async def page(self, request: Request) -> Response:
        load = int(request.query_params.get("load", 0))
        images = "".join(f'<img src="/image?{load}-{i}">' for i in range(OBJECTS))
        return HTMLResponse(PAGE.format(images=images, load=load, loads=LOADS))

    async def image(self, request: Request) -> Response:
        return Response(PNG, media_type="image/png", headers={"Cache-Control": "no-store"})

    async def note(self, request: Request) -> Response:
        self.took.append(float(request.query_params["ms"]))
        self._news.unpark_all()
        return Response()

    async def wait_loaded(self) -> None:
        """Wait until a browser has said of all its loads how long they took."""
        while len(self.took) < LOADS:
            await self._news.park()

    async def large(self, request: Request) -> Response:
        size, chunk = int(request.query_params["size"]), bytes(CHUNK)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(size // CHUNK):
                yield chunk

        return StreamingResponse(chunks(), headers={"Content-Length": str(size // CHUNK * CHUNK)})


async def be_site(relay: str, tcp: str) -> None:
    """Serve on TCP, on a dmsg port, and bare bytes on another one."""
    site = Site()
    async with (
        open_client(RECEIVER, discovery=known(relay), wait=False) as client,
        open_service_nursery() as nursery,
    ):
        await joined(client)
        await nursery.start(serve_tcp, site.app, await listen_tcp(tcp))
        await nursery.start(serve_asgi, site.app, client, HTTP_PORT)
        nursery.start_soon(trio.serve_listeners, send_bare, [client.listen(BARE_PORT)])
        ready()
        async for name, _ in commands():
            if name == "forget":
                site.took.clear()
                ready()
                continue
            with trio.move_on_after(GIVEN_UP_AFTER):
                await site.wait_loaded()
            again = median(site.took[1:] or [0.0])
            ready(loads=len(site.took), first=sum(site.took[:1]), again=again)
        nursery.cancel_scope.cancel()


async def send_bare(stream: DmsgStream) -> None:
    async with stream:
        size, chunk = int.from_bytes(await stream.receive_some(8)), bytes(CHUNK)
        for _ in range(size // CHUNK):
            await stream.send_all(chunk)


async def be_proxy(relay: str, address: str) -> None:
    """Be dmsgweb; and receive bare bytes in the same process, to compare with."""
    listeners = await listen_tcp(address)
    async with (
        open_client(discovery=known(relay), wait=False) as client,
        open_service_nursery() as nursery,
    ):
        await joined(client)
        ways = Ways(client, Names())
        await nursery.start(partial(serve_proxy, ways, listeners))
        ready()
        async for _, numbers in commands():
            size = numbers["size"]
            began = time.perf_counter()
            async with await client.open_stream(RECEIVER.pk, BARE_PORT) as stream:
                await stream.send_all(size.to_bytes(8))
                async for _data in stream:
                    pass
            ready(seconds=time.perf_counter() - began)
        nursery.cancel_scope.cancel()


# ---- what is measured ----


class Scene:
    """The processes of one run, each started when it is first needed."""

    def __init__(self, stage: Stage, scratch: Path, *, quick: bool) -> None:
        self.stage, self.scratch, self.quick = stage, scratch, quick
        self.relay, self.tcp, self.address = free_address(), free_address(), free_address()
        stage.party("server", self.relay)

    @cached_property
    def site(self) -> Party:
        return self.stage.start("bench.web", "site", self.relay, self.tcp)

    @cached_property
    def proxy(self) -> Party:
        self.site.ask("forget")
        return self.stage.start("bench.web", "proxy", self.relay, self.address)

    @property
    def host(self) -> str:
        return f"{RECEIVER.pk}.dmsg"


def pages(scene: Scene) -> list[Figure]:
    """Load the page with a browser."""
    browser = shutil.which("chromium")
    if browser is None:
        print("there is no Chromium: no pages were loaded", file=sys.stderr)
        return []

    def run(subject: str) -> Sample:
        scene.proxy.ask  # noqa: B018 - it has to be there
        scene.site.ask("forget")
        profile = tempfile.mkdtemp(dir=scene.scratch)
        place = {
            OURS: ["--proxy-server=http://" + scene.address, f"http://{scene.host}/"],
            SOCKS: ["--proxy-server=socks5://" + scene.address, f"http://{scene.host}/"],
            PLAIN: ["--no-proxy-server", f"http://{scene.tcp}/"],
        }[subject]
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        # Or it asks its maker's sites for this and that, by the proxy as well.
        options += ["--disable-background-networking", "--disable-component-update"]
        options += ["--disable-sync", "--no-first-run"]
        process = subprocess.Popen(
            [browser, *options, f"--user-data-dir={profile}", *place],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return _loaded(scene.site)
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(profile, ignore_errors=True)

    samples = interleave([OURS, SOCKS, PLAIN], 1 if scene.quick else 5, run)
    target = Target(1.5, of=PLAIN)
    name = f"page of {OBJECTS} images"
    return [
        Figure(f"{name}, again", "ms", column(samples, "again"), target),
        Figure(f"{name}, first", "ms", column(samples, "first"), target),
        Figure(f"{name}, again, SOCKS5", "ms", _as_ours(column(samples, "again")), target),
    ]


def _as_ours(runs: dict[str, list[float]]) -> dict[str, list[float]]:
    return {OURS: runs[SOCKS], PLAIN: runs[PLAIN]}


def _loaded(site: Party) -> Sample:
    answer = site.ask("loaded")
    if answer["loads"] < LOADS:
        raise RuntimeError(f"only {answer['loads']:g} of {LOADS} loads in {GIVEN_UP_AFTER} s")
    return answer


def downloads(scene: Scene) -> list[Figure]:
    """Fetch a large file with curl, as plain HTTP and in a tunnel; and bare, without either."""
    curl = shutil.which("curl")
    if curl is None:
        print("there is no curl: nothing was downloaded", file=sys.stderr)
        return []
    size = (8 if scene.quick else 512) << 20

    def run(subject: str) -> Sample:
        if subject == BARE:
            return {"rate": size / scene.proxy.ask("bare", size=size)["seconds"] / MB}
        way = ["-x", "http://" if subject == OURS else "socks5h://"]
        scene.proxy.ask  # noqa: B018 - it has to be there
        way[1] += scene.address
        url = f"http://{scene.host}/large?size={size}"
        command = [
            curl,
            "-sS",
            *way,
            "-o",
            "/dev/null",
            "-w",
            "%{time_total} %{size_download}",
            url,
        ]
        said = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
        if int(said[1]) != size:
            raise RuntimeError(f"{said[1]} of {size} bytes")
        return {"rate": size / float(said[0]) / MB}

    samples = column(interleave([OURS, SOCKS, BARE], 1 if scene.quick else 3, run), "rate")
    target = Target(0.7, at_least=True, of=BARE)
    tunnel = {OURS: samples[SOCKS], BARE: samples[BARE]}
    return [
        Figure("download through HTTP", "MB/s", {OURS: samples[OURS], BARE: samples[BARE]}, target),
        Figure("download through SOCKS5", "MB/s", tunnel, target),
    ]


MEASUREMENTS: Final[dict[str, Callable[[Scene], list[Figure]]]] = {
    "pages": pages,
    "downloads": downloads,
}


def main() -> int:
    """Run ``python bench/web.py``."""
    arguments = arguments_of("bench/web.py", "dmsgweb", MEASUREMENTS)
    with tempfile.TemporaryDirectory() as scratch, open_stage() as stage:
        scene = Scene(stage, Path(scratch), quick=arguments.quick)
        take_and_print(arguments, MEASUREMENTS, lambda: scene)
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case "site", relay, tcp:
            trio.run(be_site, relay, tcp)
        case "proxy", relay, address:
            trio.run(be_proxy, relay, address)
        case _:
            raise SystemExit(main())
