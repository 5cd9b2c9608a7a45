"""The allow list of this machine's host, by its calls."""

from __future__ import annotations

import json
import sys
from typing import cast

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire import gob
from dmsg_trio._wire.pty import WHITELIST, WHITELIST_ADD, WHITELIST_REMOVE, WHITELIST_URI
from dmsg_trio._wire.rpc import Method
from dmsg_trio.apps.pty._rpc import RpcError, open_rpc

from ._pty_way import WayOptions, routed
from ._run import REFUSED, one_line


async def show_keys(way: WayOptions, *, as_json: bool) -> int:
    """Print who may enter."""
    answer = await _call(way, WHITELIST, {})
    keys = [str(PublicKey(raw)) for raw in cast("list[bytes]", answer)]
    if as_json:
        print(json.dumps(keys))
    elif keys:
        print("\n".join(keys))
    else:
        print("nobody may enter: the allow list is empty", file=sys.stderr)
    return 0


async def add_keys(way: WayOptions, keys: list[str]) -> int:
    """Let ``keys`` enter."""
    return await _change(way, WHITELIST_ADD, keys)


async def remove_keys(way: WayOptions, keys: list[str]) -> int:
    """Let ``keys`` enter no more."""
    return await _change(way, WHITELIST_REMOVE, keys)


async def _change(way: WayOptions, method: Method, texts: list[str]) -> int:
    try:
        keys: list[gob.Value] = [PublicKey.parse(text).raw for text in texts]
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        await _call(way, method, keys)
    except RpcError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return REFUSED
    return 0


async def _call(way: WayOptions, method: Method, argument: gob.Value) -> gob.Value:
    async with routed("", way) as route, await route.open(WHITELIST_URI) as stream:
        async with open_rpc(stream) as rpc:
            return await rpc.call(method, argument)
