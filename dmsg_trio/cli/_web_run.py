"""dmsgweb at work: it listens, joins the network, and says where to look."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

import trio

from dmsg_trio._address import Address
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.apps.access import AllowList
from dmsg_trio.apps.web import (
    Aliases,
    Book,
    Exposed,
    Forward,
    Names,
    Upstream,
    Ways,
    serve_exposed,
    serve_forwards,
    serve_proxy,
)
from dmsg_trio.client import Client, open_client

from ._access import audience
from ._joining import wait_until_reachable
from ._listening import listen_here, shown_place


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Under which key, and where."""

    sk: SecretKey
    discovery: str
    sessions: int
    as_json: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTask:
    """The proxy for browsers."""

    network: Network
    host: str
    port: int
    suffix: str
    aliases: Aliases
    upstream: Upstream | None
    only_dmsg: bool

    async def serve(self) -> None:
        """Serve until cancelled."""
        listeners = await listen_here(self.host, self.port, option="--socks")
        port: int = listeners[0].socket.getsockname()[1]
        async with _joined(self.network) as client, open_service_nursery() as nursery:
            ways = Ways(
                client,
                Names(self.suffix, self.aliases),
                upstream=self.upstream,
                only_dmsg=self.only_dmsg,
                own_ports={port},
            )
            await nursery.start(partial(serve_proxy, ways, listeners))
            self._print_place(port)
            await wait_until_reachable(client, self.network.discovery)
            await trio.sleep_forever()

    def _print_place(self, port: int) -> None:
        place = shown_place(self.host, port)
        pac = f"http://{place}/proxy.pac"
        if self.network.as_json:
            facts = {"proxy": f"http://{place}", "socks": f"socks5h://{place}", "pac": pac}
            print(json.dumps(facts | {"status": f"http://{place}/"}), flush=True)
            return
        others = f"through {self.upstream}" if self.upstream else "direct"
        lines = [
            f"proxy    {place}, for SOCKS5 and HTTP",
            f"others   {'refused' if self.only_dmsg else others}",
            f"status   http://{place}/",
            f"pac      {pac}",
            f"browser  chromium --proxy-pac-url={pac}",
            f"curl     curl -x http://{place} http://KEY{self.suffix}/",
        ]
        print("\n".join(lines), flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardTask:
    """Local ports that lead to addresses."""

    network: Network
    host: str
    forwards: Sequence[tuple[int, Address, bool]]

    async def serve(self) -> None:
        """Serve until cancelled."""
        found = [
            Forward(await listen_here(self.host, port, option="--port"), remote, raw)
            for port, remote, raw in self.forwards
        ]
        async with _joined(self.network) as client, open_service_nursery() as nursery:
            await nursery.start(partial(serve_forwards, client, found, book=Book()))
            self._print_place(found)
            await wait_until_reachable(client, self.network.discovery)
            await trio.sleep_forever()

    def _print_place(self, forwards: Sequence[Forward]) -> None:
        for each in forwards:
            place = shown_place(self.host, each.listeners[0].socket.getsockname()[1])
            url = place if each.raw else f"http://{place}/"
            if self.network.as_json:
                facts = {"local": url, "remote": str(each.remote), "raw": each.raw}
                print(json.dumps(facts), flush=True)
            else:
                print(f"forward  {url} to {each.remote}{' as TCP' * each.raw}", flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SrvTask:
    """Local ports on dmsg ports."""

    network: Network
    exposed: Sequence[Exposed]

    async def serve(self) -> None:
        """Serve until cancelled."""
        async with _joined(self.network) as client, open_service_nursery() as nursery:
            for each in self.exposed:
                if isinstance(each.allow, AllowList):
                    await nursery.start(each.allow.watch)
            await nursery.start(partial(serve_exposed, client, self.exposed, book=Book()))
            await wait_until_reachable(client, self.network.discovery)
            for each in self.exposed:
                self._print_place(client.pk, each)
            await trio.sleep_forever()

    def _print_place(self, pk: PublicKey, each: Exposed) -> None:
        port = "" if each.port == 80 else f":{each.port}"
        address = Address(pk, each.port)
        url = str(address) if each.raw else f"http://{pk}.dmsg{port}/"
        if self.network.as_json:
            facts = {"local": f"127.0.0.1:{each.local_port}", "address": str(address), "url": url}
            facts |= {} if each.raw else {"curl": f"dmsgcurl dmsg://{address}/"}
            print(json.dumps(facts), flush=True)
            return
        lines = [
            f"serving  127.0.0.1:{each.local_port}{' as TCP' * each.raw}",
            f"to       {audience(each.allow)}",
            f"at       {url}",
        ]
        print("\n".join(lines), flush=True)


# ---- all of them ----


def _joined(network: Network) -> AbstractAsyncContextManager[Client]:
    return open_client(
        network.sk, discovery=network.discovery, wait=False, min_sessions=network.sessions
    )
