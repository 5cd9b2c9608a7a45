"""Transfers over HTTP with curl's habits, on any transport of httpx."""

from ._bodies import Body, BytesBody, Field, FileBody, FormBody, StreamBody
from ._codes import ExitCode, TransferError
from ._cookies import Cookies
from ._names import name_in_url, parse_url
from ._orders import OnError, Order, Report, Retries, Watcher
from ._pace import Stall
from ._parts import saying
from ._receivers import ToFile, ToStream, Write
from ._transfer import Transfer

__all__ = [
    "Body",
    "BytesBody",
    "Cookies",
    "ExitCode",
    "Field",
    "FileBody",
    "FormBody",
    "OnError",
    "Order",
    "Report",
    "Retries",
    "Stall",
    "StreamBody",
    "ToFile",
    "ToStream",
    "Transfer",
    "TransferError",
    "Watcher",
    "Write",
    "name_in_url",
    "parse_url",
    "saying",
]
