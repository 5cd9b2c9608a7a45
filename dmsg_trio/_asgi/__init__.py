"""ASGI apps on Trio streams: for discoveries, servers, and HTTP on a port of dmsg.

Hypercorn has the rules of HTTP/1.1, WebSockets and ASGI; the connections are ours.
"""

from .connection import HttpAddress
from .serving import serve_app, serve_tcp, tcp_address

__all__ = ["HttpAddress", "serve_app", "serve_tcp", "tcp_address"]
