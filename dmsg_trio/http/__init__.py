"""HTTP on keys: httpx over dmsg, and any ASGI app on a port of dmsg."""
