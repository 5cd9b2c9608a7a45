"""What dmsgpty says: the request for a service, and the calls of the services as gob types.

A connection, local socket or dmsg stream, begins with a request line: its length in one byte and a
URI. One byte answers: zero is yes. Then follow remote calls (`rpc.py`) in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from . import gob
from .objects import PUBLIC_KEY
from .rpc import Method

PTY_URI: Final = "dmsgpty/pty"
WHITELIST_URI: Final = "dmsgpty/whitelist"
PROXY_URI: Final = "dmsgpty/proxy"  # ?pk=<hex>&port=<n>
MAX_REQUEST: Final = 255  # bytes of a URI: its length is one byte

ACCEPTED: Final = b"\x00"
REJECTED: Final = b"\x01"
ACCEPTED_MARKED: Final = b"\x02"  # of ours only, to who asked for it: chunks follow (`marked.py`)
END_MARKED: Final = "end=marked"  # in the query of a request: so it is asked for

# What callers compare with: the texts are a part of the protocol.
END_OF_COMMAND: Final = "read /dev/ptmx: input/output error"
NO_SESSION: Final = "no active pty session"
ALREADY_RUNNING: Final = "a pty session is already running"


@dataclass(frozen=True, slots=True)
class WindowSize:
    """The size of a terminal in characters, and in pixels where they are known."""

    rows: int = 0
    columns: int = 0
    width: int = 0
    height: int = 0


WINDOW_SIZE: Final = gob.Struct(
    "WinSize", tuple(gob.Field(name, gob.UINT16) for name in ("X", "Y", "Rows", "Cols"))
)
COMMAND: Final = gob.Struct(
    "CommandReq",
    (
        gob.Field("Name", gob.STRING),
        gob.Field("Arg", gob.Slice(gob.STRING, "[]string")),
        gob.Field("Size", gob.Optional(WINDOW_SIZE)),
    ),
)
KEYS: Final = gob.Slice(PUBLIC_KEY)

START: Final = Method("pty.Start", COMMAND, gob.EMPTY, "dmsgpty.CommandReq")
STOP: Final = Method("pty.Stop", gob.EMPTY, gob.EMPTY, "struct {}")
READ: Final = Method("pty.Read", gob.INT, gob.BYTES, "int")
WRITE: Final = Method("pty.Write", gob.BYTES, gob.INT, "[]uint8")
SET_SIZE: Final = Method("pty.SetPtySize", WINDOW_SIZE, gob.EMPTY, "dmsgpty.WinSize")
WHITELIST: Final = Method("whitelist.Whitelist", gob.EMPTY, KEYS, "struct {}")
WHITELIST_ADD: Final = Method("whitelist.WhitelistAdd", KEYS, gob.EMPTY, "[]cipher.PubKey")
WHITELIST_REMOVE: Final = Method("whitelist.WhitelistRemove", KEYS, gob.EMPTY, "[]cipher.PubKey")

PTY_SERVICE: Final = (START, STOP, READ, WRITE, SET_SIZE)
WHITELIST_SERVICE: Final = (WHITELIST, WHITELIST_ADD, WHITELIST_REMOVE)
