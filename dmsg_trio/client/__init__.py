"""The client side: be somebody on the network, dial others, and be dialed."""

from dmsg_trio._net.stream import DmsgStream

from ._client import Client, open_client, open_stream
from ._dialing import Dialed
from ._listener import DmsgListener

__all__ = ["Client", "Dialed", "DmsgListener", "DmsgStream", "open_client", "open_stream"]
