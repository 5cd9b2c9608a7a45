"""What a server tells over HTTP about itself: ``/health``, and ``/metrics`` for Prometheus.

Neither names a client, but for the keys that two programs seem to have, and no address of one. Still
it is for those who run the server, so an address without a host means this machine alone.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dmsg_trio._net.tcp import parse_host_port

from ._links import Link
from ._server import Server

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def make_app(server: Server, *, health: bool = True, metrics: bool = True) -> Starlette:
    """Make the ASGI application that tells how ``server`` is."""

    async def answer_health(_request: Request) -> Response:
        return Response(msgspec.json.encode(health_of(server)), media_type="application/json")

    async def answer_metrics(_request: Request) -> Response:
        return Response(server.metrics.text(), headers={"Content-Type": METRICS_TYPE})

    routes: list[BaseRoute] = []
    if health:
        routes.append(Route("/health", answer_health))
    if metrics:
        routes.append(Route("/metrics", answer_metrics))
    return Starlette(routes=routes)


def health_of(server: Server) -> dict[str, object]:
    """Describe a server in the members that the reference has, and some more."""
    started_at = datetime.fromtimestamp(server.metrics.started_at / 1e9, UTC)
    return {
        "build_info": {"version": _version(), "commit": "unknown", "date": "unknown"},
        "started_at": started_at.isoformat().replace("+00:00", "Z"),
        "public_key": str(server.pk),
        "public_address": server.options.public_address,
        "sessions": len(server.routes),
        "streams": server.metrics.streams_now,
        "links": [_health_of_link(server, link) for link in server.peers],
        "servers_known": server.peers.wanted,
        "servers_missing": sorted(map(str, server.peers.missing)),
        "contested_keys": [
            {"public_key": str(each.pk), "replacements": each.replacements}
            for each in server.replacements.contested()
        ],
        "draining": server.is_draining,
    }


def _health_of_link(server: Server, link: Link) -> dict[str, object]:
    connection = link.session.connection
    return {
        "public_key": str(link.pk),
        "state": "open" if link.is_open else "draining",
        "dialed_here": link.dialed_here,
        "age_seconds": round(trio.current_time() - link.session.began, 1),
        "round_trip_ms": round(1000 * (connection.round_trip or 0), 3),
        "streams": connection.stream_count,
        "received_bytes": connection.received,
        "sent_bytes": connection.outbox.sent,
        "reconnects": server.peers.links.reconnects(link.pk),
    }


def private_address(address: str) -> str:
    """Give ``host:port`` a host if it has none: the one that only this machine reaches."""
    host, port = parse_host_port(address)
    return address if host else f"127.0.0.1:{port}"


def is_private(host: str) -> bool:
    """Tell whether only this machine reaches ``host``, as far as its name says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _version() -> str:
    try:
        return version("dmsg-trio")
    except PackageNotFoundError:
        return "unknown"
