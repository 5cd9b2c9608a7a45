"""The server: relays streams between the sessions of clients."""

from ._server import Server, ServerOptions

__all__ = ["Server", "ServerOptions"]
