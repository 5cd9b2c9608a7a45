"""SOCKS5 over dmsg: a server that connects to the internet for others, and the client of it."""

from dmsg_trio.apps.access import Admission, AllowList

from ._client import fault_of_server, serve_local_socks5
from ._conversation import SOCKS_PORT
from ._exit import ExitOptions
from ._server import serve_socks5
from ._targets import Exemption, TargetRules

__all__ = [
    "SOCKS_PORT",
    "Admission",
    "AllowList",
    "Exemption",
    "ExitOptions",
    "TargetRules",
    "fault_of_server",
    "serve_local_socks5",
    "serve_socks5",
]
