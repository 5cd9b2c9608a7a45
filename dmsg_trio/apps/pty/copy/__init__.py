"""Copying files and trees over a stream: verified, resumable, and never outside of the target."""

from ._client import CopyOptions, StreamOpener, get, put
from ._errors import CopyBrokenError, CopyError, CopyRefusedError
from ._host import serve_files
from ._progress import Outcome, Progress

__all__ = [
    "CopyBrokenError",
    "CopyError",
    "CopyOptions",
    "CopyRefusedError",
    "Outcome",
    "Progress",
    "StreamOpener",
    "get",
    "put",
    "serve_files",
]
