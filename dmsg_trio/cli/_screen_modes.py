"""What the programs of a session switched in the terminal, to switch it back when they cannot.

A program that is cut off leaves its full screen on, the mouse that reports, the cursor hidden. So
its output is watched: for what lasts, and nothing that is drawn.
"""

from __future__ import annotations

import re
from typing import Final

# A last piece of output that may go on as one of the sequences.
_BEGINNING: Final = re.compile(rb"\x1b(?:\[[<>?]?[0-9;]*)?\Z")
MAX_SEQUENCE: Final = 64  # bytes: what is longer is none that counts
MAX_KEPT: Final = 10  # titles and kinds of keyboards, as terminals have it

_SEQUENCE: Final = re.compile(
    rb"""\x1b (?:
      \[\? (?P<modes> [0-9;]{1,48} ) (?P<switch> [hl] )
    | \[ (?P<way> 2[23] ) ;(?P<title> [012] ) (?: ;[0-9]{0,3} )? t  # 22 keeps a title of the window, 23 brings it back
    | \[ (?P<keyboard> [<>] ) [0-9]{0,3} u  # the same for the kind of keyboard
    | \[ >4 (?: ;(?P<keys> [0-9]? ) )? m  # how keys with modifiers are told
    | \[ (?P<region> [0-9;]{0,16} ) r  # the lines that scroll
    | (?P<keypad> [=>] )
    | (?P<reset> c )
    )""",
    re.VERBOSE,
)
_ALTERNATE: Final = (47, 1047, 1049)  # screens
_ON_AT_FIRST: Final = (7, 25)  # the end of a line wraps, the cursor is visible
_MODES: Final = frozenset(
    {
        *(1, 66),  # keys and the number pad as programs want them
        *(9, 1000, 1001, 1002, 1003, 1005, 1006, 1015, 1016),  # the mouse
        *(1004, 2004, 2026),  # tells of the focus and of what is pasted; updates as a whole
        *_ALTERNATE,
        *_ON_AT_FIRST,
    }
)


class ScreenModes:
    """What is not as it was at first."""

    def __init__(self) -> None:
        self._rest = b""
        self.forget()

    def forget(self) -> None:
        """Take everything for as it should be."""
        self._changed = set[int]()
        self._titles = list[bytes]()  # kept and not yet brought back
        self._keyboards = 0
        self._has_keys = False
        self._has_keypad = False
        self._has_region = False
        self._is_touched = False

    def watch(self, data: bytes) -> None:
        """Take in what is shown, in any pieces."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        if b"\x1b" not in data:
            return
        self._is_touched = True
        for match in _SEQUENCE.finditer(data):
            self._take(match)
        if beginning := _BEGINNING.search(data, max(len(data) - MAX_SEQUENCE, 0)):
            self._rest = beginning[0]

    def _take(self, match: re.Match[bytes]) -> None:
        match match.lastgroup:
            case "switch":
                self._switch(match["modes"], on=match["switch"] == b"h")
            case "title":
                self._keep_title(match["title"], again=match["way"] == b"23")
            case "keyboard":
                kept = self._keyboards + (1 if match["keyboard"] == b">" else -1)
                self._keyboards = min(max(kept, 0), MAX_KEPT)
            case "region":
                self._has_region = match["region"] != b""
            case "keypad":
                self._has_keypad = match["keypad"] == b"="
            case "reset":
                self.forget()
            case _:
                self._has_keys = (match["keys"] or b"0") != b"0"

    def _keep_title(self, kind: bytes, *, again: bool) -> None:
        if not again:
            self._titles = [*self._titles[1 - MAX_KEPT :], kind]
        elif kind in self._titles:
            self._titles.reverse()
            self._titles.remove(kind)
            self._titles.reverse()

    def _switch(self, modes: bytes, *, on: bool) -> None:
        for mode in _MODES.intersection(int(mode) for mode in modes.split(b";") if mode):
            if on is (mode in _ON_AT_FIRST):
                self._changed.discard(mode)
            else:
                self._changed.add(mode)

    def undo(self) -> bytes:
        """Say what brings the terminal back to how it was."""
        if not self._is_touched:
            return b""
        said = b"\x1b[0m"
        if self._has_keys:
            said += b"\x1b[>4m"
        if self._keyboards:
            said += b"\x1b[<%du" % self._keyboards
        if self._has_keypad:
            said += b"\x1b>"
        if self._has_region:
            said += b"\x1b7\x1b[r\x1b8"
        # The alternate screens last, since the way back is a way to the place that was left.
        for mode in sorted(self._changed, key=lambda mode: (mode in _ALTERNATE, mode)):
            said += b"\x1b[?%d%c" % (mode, b"h" if mode in _ON_AT_FIRST else b"l")
        for kind in reversed(self._titles):
            said += b"\x1b[23;%st" % kind
        return said
