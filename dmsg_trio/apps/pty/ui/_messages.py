"""What the page and the server tell each other, as JSON in text messages.

Binary messages are the bytes themselves: keys one way, what the terminal shows the other way.
Both are counted from the shell's beginning, so that nothing is lost or said twice when the page
comes back on another WebSocket.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.pty import WindowSize

SUBPROTOCOL: Final = "dmsgpty.terminal.1"
MAX_TEXT: Final = 4096  # characters of a text message that the page sends
OUTPUT_WINDOW: Final = 512 * 1024  # bytes that the page has not shown yet, or that wait for it
INPUT_WINDOW: Final = 64 * 1024  # bytes that the page may send beyond what was taken
OUTPUT_PIECE: Final = 32 * 1024  # bytes of a message

# Codes with which the server closes, beside those of RFC 6455.
NOT_ADMITTED: Final = 4403
TAKEN_OVER: Final = 4409

_Side = Annotated[int, msgspec.Meta(ge=1, le=4096)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]  # what JavaScript can count


# ---- from the page ----


class Open(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="open"):
    """The first word: begin a shell, or go on with the one that this tab had."""

    secret: str
    rows: _Side
    columns: _Side
    shell: str | None = None
    received: _Count = 0  # bytes of output that the terminal has


class Resize(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="resize"):
    """The terminal has another size."""

    rows: _Side
    columns: _Side


class Received(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="received"):
    """So many bytes of output, in all, are shown."""

    count: _Count


FromPage = Open | Resize | Received

# ---- from the server ----


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="opened"):
    """The shell is this tab's: where input goes on, and the key for the next time."""

    shell: str
    key: str
    input: int
    output: int  # of the next binary message
    label: str  # whose shell it is


class Taken(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="taken"):
    """So many bytes of input, in all, are on their way to the shell."""

    count: int


class Status(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="status"):
    """How the shell is, and a line for whoever looks at it."""

    state: Literal["connecting", "connected", "reconnecting", "ended", "failed", "gone"]
    text: str = ""


class Alive(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="alive"):
    """Nothing new, but the connection is not dead."""


FromServer = Opened | Taken | Status | Alive

_decoder: Final[msgspec.json.Decoder[FromPage]] = msgspec.json.Decoder(FromPage)
_encoder: Final = msgspec.json.Encoder()


def encode(message: FromServer) -> str:
    """Make the text of a message."""
    return _encoder.encode(message).decode()


def decode_untrusted(text: str) -> FromPage:
    """Read the text of a message; `RemoteProtocolError` says what is wrong with it."""
    if len(text) > MAX_TEXT:
        raise RemoteProtocolError(f"a message of {len(text)} characters, the limit is {MAX_TEXT}")
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"a message that makes no sense: {error}") from None


def size_of(message: Open | Resize) -> WindowSize:
    """Take the terminal's size out of a message."""
    return WindowSize(rows=message.rows, columns=message.columns)
