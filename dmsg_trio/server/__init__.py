"""The server: relays streams between the sessions of clients."""

from ._peer_options import PeerOptions
from ._server import Server, ServerOptions

__all__ = ["PeerOptions", "Server", "ServerOptions"]
