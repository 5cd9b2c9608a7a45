"""The web over dmsg: a proxy for browsers, local ports that lead to keys, and local ports on keys."""

from ._aliases import Aliases
from ._book import Book
from ._forwards import Forward, serve_forwards
from ._names import SUFFIX, Names
from ._proxy import serve_proxy
from ._srv import Exposed, serve_exposed
from ._upstream import Upstream
from ._ways import Ways

__all__ = [
    "SUFFIX",
    "Aliases",
    "Book",
    "Exposed",
    "Forward",
    "Names",
    "Upstream",
    "Ways",
    "serve_exposed",
    "serve_forwards",
    "serve_proxy",
]
