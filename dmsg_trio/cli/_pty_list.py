"""The allow list of this machine's host, by its calls."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.pty import WHITELIST, WHITELIST_ADD, WHITELIST_REMOVE, WHITELIST_URI
from dmsg_trio._wire.rpc import Method
from dmsg_trio.apps.pty._rpc import RpcClient, RpcError, open_rpc

from ._pty_route import routed
from ._pty_way import WayOptions
from ._run import REFUSED, one_line


async def show_keys(way: WayOptions, *, as_json: bool) -> int:
    """Print who may enter."""
    async with _open_list(way) as allowed:
        keys = [str(pk) for pk in await allowed.keys()]
    if as_json:
        print(json.dumps(keys))
    elif keys:
        print("\n".join(keys))
    else:
        print("nobody may enter: the allow list is empty", file=sys.stderr)
    return 0


async def add_keys(way: WayOptions, texts: list[str], *, as_json: bool) -> int:
    """Let keys enter."""
    change = await _change(way, WHITELIST_ADD, texts, is_looked_at=as_json)
    if as_json:
        _print_json(
            added=[pk for pk in change.keys if pk in change.after and pk not in change.before],
            already_there=[pk for pk in change.keys if pk in change.before],
        )
    return change.code


async def remove_keys(way: WayOptions, texts: list[str], *, as_json: bool) -> int:
    """Let keys enter no more."""
    change = await _change(way, WHITELIST_REMOVE, texts, is_looked_at=as_json)
    if as_json:
        _print_json(
            removed=[pk for pk in change.keys if pk in change.before and pk not in change.after],
            not_there=[pk for pk in change.keys if pk not in change.before],
        )
    return change.code


@dataclass(frozen=True, slots=True)
class _Change:
    """What was asked for, the exit code, and the list around it if somebody looked."""

    keys: tuple[PublicKey, ...]
    code: int
    before: tuple[PublicKey, ...]
    after: tuple[PublicKey, ...]


async def _change(
    way: WayOptions, method: Method, texts: list[str], *, is_looked_at: bool
) -> _Change:
    keys = _parsed(texts)
    async with _open_list(way) as allowed:
        before = await allowed.keys() if is_looked_at else ()
        code = await allowed.change(method, keys)
        after = await allowed.keys() if is_looked_at else ()
    return _Change(keys, code, before, after)


def _parsed(texts: list[str]) -> tuple[PublicKey, ...]:
    """Read keys, each of them once."""
    try:
        return tuple(dict.fromkeys(map(PublicKey.parse, texts)))
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _print_json(**keys: list[PublicKey]) -> None:
    print(json.dumps({what: [str(pk) for pk in those] for what, those in keys.items()}))


@asynccontextmanager
async def _open_list(way: WayOptions) -> AsyncIterator[_AllowList]:
    async with routed("", way) as route, await route.open(WHITELIST_URI) as stream:
        async with open_rpc(stream) as rpc:
            yield _AllowList(rpc)


class _AllowList:
    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc

    async def keys(self) -> tuple[PublicKey, ...]:
        raw = cast("list[bytes]", await self._rpc.call(WHITELIST, {}))
        return tuple(map(PublicKey, raw))

    async def change(self, method: Method, keys: tuple[PublicKey, ...]) -> int:
        """Make a change, and give the exit code; what the host says against it is printed."""
        try:
            await self._rpc.call(method, [pk.raw for pk in keys])
        except RpcError as error:
            print(f"error: {one_line(str(error))}", file=sys.stderr)
            return REFUSED
        return 0
