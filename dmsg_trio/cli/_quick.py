"""Starting and ending without delay: a tool that people type is there for a moment only.

Most of that moment is Python's imports. What they make is never garbage, so nothing is collected
until the work begins, and then what is there already is left out for good: also of the collection
at the end, which would take as long as all others.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# What libraries import if they can, a twentieth of a second in all: a command line of their own,
# and HTTP/2, which nothing here asks for.
UNUSED: Final = ("httpx._main", "httpcore._sync.http2", "httpcore._async.http2")


@contextmanager
def starting() -> Iterator[None]:
    """Import and read options quickly in here, where `started` ends that."""
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # by which an import fails
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def started() -> None:
    """Collect garbage from now on, if this is within `starting`."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
