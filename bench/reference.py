"""The reference's programs as parties, where ``DMSG_REFERENCE_BIN`` names a folder of them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from bench.parties import SERVER
from bench.processes import Stage, accepts, cpu_seconds, free_address, wait_until
from dmsg_trio._keys import PublicKey, SecretKey

VARIABLE: Final = "DMSG_REFERENCE_BIN"
TRIES: Final = 8  # its tools lose about 1 % of their sessions to a race with its server


@dataclass(frozen=True, slots=True)
class ReferenceServer:
    """A running server of the reference, and the discovery that it needs, which is ours."""

    folder: Path
    discovery: str
    address: str
    pid: int


def start_server(
    stage: Stage, scratch: Path, *, address: str = "", public: str = ""
) -> ReferenceServer | None:
    """Start the reference's server, if there is one; clients are told that it is at ``public``."""
    variable = os.environ.get(VARIABLE)
    if not variable or not (program := Path(variable, "dmsg-server")).exists():
        return None
    stage.party("discovery", discovery := free_address())
    address = address or free_address()
    config = {
        "public_key": str(SERVER.pk),
        "secret_key": SERVER.reveal().hex(),
        "discovery": f"http://{discovery}",
        "public_address": public or address,
        "local_address": address,
        "health_endpoint_address": free_address(),
        "log_level": "fatal",
        "max_sessions": 4096,
    }
    path = scratch / f"{address}.json"
    path.write_text(json.dumps(config))
    pid = stage.program(program, "start", path)
    wait_until(lambda: accepts(address))
    return ReferenceServer(Path(variable), f"http://{discovery}", address, pid)


# ---- the reference at both ends ----


@dataclass(frozen=True, slots=True)
class FileServer:
    """A running file server of the reference."""

    pk: PublicKey
    pid: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """What it took to fetch a file: seconds, and CPU seconds of each process."""

    seconds: float
    server: float
    sender: float
    receiver: float


def start_file_server(stage: Stage, server: ReferenceServer, folder: Path) -> FileServer:
    """Start the reference's file server, and wait until it can be found."""
    sk = SecretKey.generate()
    pid = stage.program(
        server.folder / "dmsghttp",
        *("--dir", folder, "--dmsg-disc", server.discovery, "--sk", sk.reveal().hex()),
    )
    entry = f"{server.discovery}/dmsg-discovery/entry/{sk.pk}"
    wait_until(lambda: httpx.get(entry).status_code == 200)
    return FileServer(sk.pk, pid)


def fetch(server: ReferenceServer, files: FileServer, name: str) -> Fetched:
    """Fetch a file with the reference's curl, to nowhere."""
    command = [
        str(server.folder / "dmsgcurl"),
        *("--dmsg-disc", server.discovery, f"dmsg://{files.pk}:80/{name}"),
    ]
    for _ in range(TRIES):
        before = cpu_seconds(server.pid), cpu_seconds(files.pid), _cpu_of_ended()
        began = time.perf_counter()
        finished = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        seconds = time.perf_counter() - began
        after = cpu_seconds(server.pid), cpu_seconds(files.pid), _cpu_of_ended()
        if b"failed" not in finished.stderr:
            used = (new - old for new, old in zip(after, before, strict=True))
            return Fetched(seconds, *used)
    raise RuntimeError(f"dmsgcurl failed {TRIES} times to fetch {name}")


def _cpu_of_ended() -> float:
    """What the children of this process that have ended used; while one is fetched, only it ends."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
