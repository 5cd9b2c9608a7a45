"""What the path of a request names: the names of folders and of a file, one below the other.

Names are bytes, as the system has them; a path says any of them by percent signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

MAX_DEPTH: Final = 100  # folders below each other

_SCHEMES: Final = (b"http://", b"https://", b"dmsg://")


@dataclass(frozen=True, slots=True)
class Target:
    """A place below the root. A path is clean if nothing else would be a shorter way to write it."""

    names: tuple[bytes, ...]
    is_folder: bool  # the path ends in a slash
    is_clean: bool = True

    @property
    def path(self) -> str:
        """The clean path, as it stands in a URL."""
        return path_of(self.names, is_folder=self.is_folder)


class NotAPathError(ValueError):
    """The target of a request is no path at all."""


class NoSuchNameError(ValueError):
    """No file can be called like this."""


def path_of(names: Sequence[bytes], *, is_folder: bool) -> str:
    """Write names as a path that begins with one slash."""
    path = "/" + "/".join(map(quoted, names))
    return path + "/" if is_folder and names else path


def quoted(name: bytes) -> str:
    """Write a name as a piece of a path."""
    return quote_from_bytes(name, safe="!$&'()*+,;=:@")


def target_untrusted(raw_path: bytes) -> Target:
    """Read a path, or a whole URL as proxies send it.

    ``..`` goes no higher than the root, and is the same however it was written. A slash or a NUL
    that hides behind a percent sign is a part of a name, and no name has one.
    """
    names: list[bytes] = []
    pieces = _path_in_untrusted(raw_path).split(b"/")[1:]
    is_clean, is_folder = True, False
    for index, piece in enumerate(pieces):
        name = unquote_to_bytes(piece)
        is_folder = name in (b"", b".", b"..")
        if not is_folder:
            names.append(name)
        elif name or index < len(pieces) - 1:
            is_clean = False
        if name == b".." and names:
            names.pop()
    if len(names) > MAX_DEPTH:
        raise NoSuchNameError(f"{len(names)} folders below each other, {MAX_DEPTH} at the most")
    for name in names:
        if b"/" in name or b"\0" in name:
            raise NoSuchNameError(f"a name with a slash or a NUL: {name!r}")
    return Target(tuple(names), is_folder, is_clean)


def _path_in_untrusted(raw_path: bytes) -> bytes:
    if raw_path.startswith(b"/"):
        return raw_path
    if raw_path.lower().startswith(_SCHEMES):
        _, _, behind_host = raw_path.partition(b"://")[2].partition(b"/")
        return b"/" + behind_host
    raise NotAPathError(f"neither a path nor a URL: {raw_path[:80]!r}")
