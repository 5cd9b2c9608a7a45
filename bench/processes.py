"""Processes that take part in a measurement, and what they have used of the machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1]
READY_WITHIN: Final = 20  # seconds
END_WITHIN: Final = 10  # seconds
TICK: Final = 1 / os.sysconf("SC_CLK_TCK")


def free_address() -> str:
    """An address of loopback where nobody listens now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


class Party:
    """A process of `bench.parties` or `bench.delay`, which says when it is ready."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self._what = " ".join([module, *arguments])
        self._read()

    def ask(self, name: str, **numbers: int) -> dict[str, float]:
        """Have a command done, and give the figures that come back."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"name": name, **numbers}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._what} ended: {self._process.wait()}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the party by the end of its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        end(self._process)


def end(process: subprocess.Popen[str]) -> None:
    """Wait for a process to end, and see to it if it does not."""
    try:
        process.wait(END_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


class Stage:
    """Starts whatever takes part, and ends it all with its block, the last one first."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def party(self, role: str, *addresses: str) -> Party:
        """Start a party; it is ready when this returns."""
        return self.start("bench.parties", role, *addresses)

    def delay(self, target: str, seconds: float) -> str:
        """Start a path to ``target`` that takes so long each way; give its near end."""
        address = free_address()
        self.start("bench.delay", address, target, str(seconds))
        return address

    def program(self, *command: str | Path) -> int:
        """Start any program, and give its process id; what it says is thrown away."""
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )
        self._stack.callback(end, process)
        self._stack.callback(process.terminate)
        return process.pid

    def start(self, module: str, *arguments: str) -> Party:
        """Start a party of another module."""
        party = Party(module, *arguments)
        self._stack.callback(party.close)
        return party


@contextmanager
def open_stage() -> Iterator[Stage]:
    """Be a place for processes; none of them is left after the block."""
    with ExitStack() as stack:
        yield Stage(stack)


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again, for programs that do not say when they are ready."""
    until = time.monotonic() + READY_WITHIN
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(f"not ready within {READY_WITHIN} s")
        time.sleep(0.01)


def accepts(address: str) -> bool:
    """Whether somebody listens at ``address``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except OSError:
        return False
    return True


# ---- use of the machine ----


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, with its children, those that have ended too."""
    while True:
        try:
            return _cpu_seconds_now(pid)
        except (FileNotFoundError, ProcessLookupError):
            if not Path(f"/proc/{pid}").exists():
                raise
            # A child ended while it was looked at; what it used is its parent's now.


def _cpu_seconds_now(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(int(ticks) for ticks in fields[11:15]) * TICK  # user, system, and those of the dead
    return own + sum(_cpu_seconds_now(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in children.split()]


def resident_bytes(pid: int) -> int:
    """What a process has in memory now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} is gone")
