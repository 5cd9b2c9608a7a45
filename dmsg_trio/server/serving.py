"""Running a server as its configuration says: listeners, discovery, health endpoint (`make_app`).

Kept apart from `dmsg_trio.server`, since who only embeds a `Server` needs no web framework.
"""

from __future__ import annotations

import logging
import socket
from contextlib import AsyncExitStack
from typing import Final

import trio

from dmsg_trio._asgi import serve_tcp
from dmsg_trio._errors import ConfigError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import listen_tcp, parse_host_port
from dmsg_trio.discovery import open_discovery

from ._config import Peer, ServerConfig, load_config, parse_config
from ._health import is_private, make_app, private_address
from ._peer_options import PeerOptions
from ._server import Server, ServerOptions

__all__ = [
    "Peer",
    "ServerConfig",
    "load_config",
    "make_app",
    "parse_config",
    "serve_from_config",
]

logger = logging.getLogger("dmsg_trio.server")

EVERYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
FAR_AWAY: Final = ("192.0.2.1", 9)  # an address of documentation: nobody is there


async def serve_from_config(
    config: ServerConfig, *, task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a server until cancelled, or until its `Server.drain` has had its way.

    It serves at once, and registers as soon as the discovery answers. ``task_status`` hands out
    the `Server`. Raises `ConfigError` if it cannot listen where it should.
    """
    for warning in config.warnings:
        logger.warning("%s", warning)
    async with AsyncExitStack() as stack:
        discovery = await stack.enter_async_context(open_discovery(config.discovery))
        listeners = await _listen(stack, "local_address", config.local_address)
        server = Server(
            config.secret_key,
            discovery=discovery,
            options=ServerOptions(
                public_address=_public_address(config.public_address, listeners[0]),
                public_address_v6=config.public_address_v6,
                max_sessions=config.max_sessions,
                update_interval=config.update_interval,
                drain_time=config.drain_time,
                server_type=config.server_type,
                peers=PeerOptions(
                    configured={peer.pk: peer.address for peer in config.peers},
                    accepted=frozenset(config.accepted_peer_pks),
                    max_links=config.max_peer_links,
                    on_demand=config.peer_links_on_demand,
                    look_interval=config.update_interval,
                ),
                max_relayed_streams=config.max_relayed_streams,
            ),
        )
        logger.info("server %s at %s", server.pk, server.options.public_address)
        _say_where("sessions", listeners)
        endpoints = await stack.enter_async_context(open_service_nursery())
        await _start_endpoints(stack, endpoints, server, config)
        task_status.started(server)
        await server.serve(listeners)


async def _start_endpoints(
    stack: AsyncExitStack, nursery: trio.Nursery, server: Server, config: ServerConfig
) -> None:
    """Tell of ``server`` over HTTP; one that drains tells of it to the end."""
    names = ("health_endpoint_address", "metrics_address")
    addresses = {name: getattr(config, name) for name in names if getattr(config, name)}
    for name, address in addresses.items():
        app = make_app(
            server,
            health=name == "health_endpoint_address",
            metrics=name == "metrics_address" or "metrics_address" not in addresses,
        )
        listeners = await _listen(stack, name, private_address(address))
        host, _ = parse_host_port(private_address(address))
        if not is_private(host):
            logger.warning("%s: others than this machine may reach %s", name, address)
        _say_where("HTTP", listeners)
        await nursery.start(serve_tcp, app, listeners)


async def _listen(stack: AsyncExitStack, name: str, address: str) -> list[trio.SocketListener]:
    try:
        listeners = await listen_tcp(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{name}: cannot listen on {address}: {reason}") from error
    for listener in listeners:
        stack.push_async_callback(listener.aclose)
    return listeners


def _say_where(what: str, listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        logger.info("%s on %s", what, _shown(*listener.socket.getsockname()[:2]))


# ---- where clients find the server ----


def _public_address(configured: str, listener: trio.SocketListener) -> str:
    bound_host, bound_port = listener.socket.getsockname()[:2]
    host, port = parse_host_port(configured) if configured else ("", 0)
    for found in (host, bound_host, _own_host()):
        if found not in EVERYWHERE:
            break
    address = _shown(found, port or bound_port)
    if host in EVERYWHERE:
        logger.warning("public_address: %r names no host, clients are told %s", configured, address)
    if is_private(found):
        logger.warning("public_address: only clients on this machine reach %s", address)
    return address


def _own_host() -> str:
    """The address that this machine has where it reaches others; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(FAR_AWAY)
        except OSError:
            return "127.0.0.1"
        return str(sock.getsockname()[0])


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
