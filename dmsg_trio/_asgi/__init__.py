"""ASGI apps on Trio streams, by hypercorn: for discoveries, servers, and HTTP on a port of dmsg."""

from .serving import HttpAddress, serve_app, serve_tcp, tcp_address

__all__ = ["HttpAddress", "serve_app", "serve_tcp", "tcp_address"]
