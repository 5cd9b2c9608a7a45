"""Encrypted streams by public key through relay servers, on Trio.

    async with dmsg_trio.open_client(discovery="http://127.0.0.1:9090") as client:
        async with await client.open_stream(pk, 80) as stream:
            await stream.send_all(b"hello")
        async with client.listen(80) as listener:
            await trio.serve_listeners(handler, [listener])

Names without an underscore on their path are the public interface.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._address import Address
    from ._errors import (
        Attempt,
        ConfigError,
        DiscoveryError,
        DmsgError,
        ErrorCode,
        HandshakeError,
        HandshakeFault,
        IdentityError,
        LocalProtocolError,
        ProtocolError,
        RefusedError,
        RemoteProtocolError,
        UnreachableError,
    )
    from ._identity import create_identity, load_identity
    from ._keys import PublicKey, SecretKey, Signature
    from ._wire.hybrid import PostQuantum
    from .client import Client, DmsgListener, DmsgStream, open_client, open_stream
    from .discovery import Discovery, HttpDiscovery, StaticDiscovery

__all__ = [
    "Address",
    "Attempt",
    "Client",
    "ConfigError",
    "Discovery",
    "DiscoveryError",
    "DmsgError",
    "DmsgListener",
    "DmsgStream",
    "ErrorCode",
    "HandshakeError",
    "HandshakeFault",
    "HttpDiscovery",
    "IdentityError",
    "LocalProtocolError",
    "PostQuantum",
    "ProtocolError",
    "PublicKey",
    "RefusedError",
    "RemoteProtocolError",
    "SecretKey",
    "Signature",
    "StaticDiscovery",
    "UnreachableError",
    "create_identity",
    "load_identity",
    "open_client",
    "open_stream",
]

# Imported when first used: a command line's help need not wait for a web client.
_PLACES = {
    "._address": "Address",
    "._errors": "Attempt ConfigError DiscoveryError DmsgError ErrorCode HandshakeError HandshakeFault IdentityError LocalProtocolError ProtocolError RefusedError RemoteProtocolError UnreachableError",
    "._identity": "create_identity load_identity",
    "._keys": "PublicKey SecretKey Signature",
    "._wire.hybrid": "PostQuantum",
    ".client": "Client DmsgListener DmsgStream open_client open_stream",
    ".discovery": "Discovery HttpDiscovery StaticDiscovery",
}


def __getattr__(name: str) -> object:
    for module, names in _PLACES.items():
        if name in names.split():
            value: object = getattr(import_module(module, __name__), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
