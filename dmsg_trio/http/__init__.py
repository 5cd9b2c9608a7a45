"""HTTP on keys: httpx over dmsg, and any ASGI app on a port of dmsg.

async with httpx.AsyncClient(transport=DmsgTransport(client)) as http:
    print((await http.get("dmsg://02…ab/index.html")).text)

await serve_asgi(app, client, 80)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._anyio import AnyioByteStream
    from ._backend import DmsgBackend
    from ._serving import serve_asgi
    from ._transport import DmsgTransport
    from ._urls import address_of

__all__ = ["AnyioByteStream", "DmsgBackend", "DmsgTransport", "address_of", "serve_asgi"]

# Imported when first used: who asks needs no web server, and who serves no web client.
_PLACES = {
    "AnyioByteStream": "._anyio",
    "DmsgBackend": "._backend",
    "DmsgTransport": "._transport",
    "address_of": "._urls",
    "serve_asgi": "._serving",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_PLACES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
