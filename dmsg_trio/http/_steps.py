"""What a request says beside HTTP: how long its steps may take, and who is told of them.

Both are extensions that httpx has, with the names that its users know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar, cast

import httpcore

Tell = Callable[[str, Mapping[str, object]], Awaitable[None]]
T = TypeVar("T")


def limit_of(request: httpcore.Request, what: str) -> float | None:
    """Give the seconds for ``connect``, or for one ``read`` or ``write``."""
    limits = cast("Mapping[str, float | None]", request.extensions.get("timeout") or {})
    return limits.get(what)


def tell_of(request: httpcore.Request) -> Tell:
    """Give what is to be called with the name of each step."""
    return cast("Tell | None", request.extensions.get("trace")) or _tell_nobody


async def _tell_nobody(_name: str, _info: Mapping[str, object]) -> None:
    pass


async def traced(tell: Tell, name: str, step: Callable[[], Awaitable[T]]) -> T:
    """Do a step, and tell of its beginning and its end."""
    await tell(f"{name}.started", {})
    try:
        result = await step()
    except BaseException as error:
        await tell(f"{name}.failed", {"exception": error})
        raise
    await tell(f"{name}.complete", {"return_value": result})
    return result
