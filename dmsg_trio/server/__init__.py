"""The server: relays streams between the sessions of clients."""

from ._peers import PeerOptions
from ._server import Server, ServerOptions

__all__ = ["PeerOptions", "Server", "ServerOptions"]
