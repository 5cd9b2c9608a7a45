"""dmsgip: the address of this machine as servers see it, and whether they see the same one."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, TypeAlias

import typer

from dmsg_trio._errors import DmsgError, ErrorCode, RemoteProtocolError, UnreachableError
from dmsg_trio._keys import PublicKey, SecretKey

from ._access import keys_named
from ._main import main_of
from ._options import (
    HERE,
    AsJson,
    KeyOptions,
    ReferenceLevel,
    SecretArgument,
    ToolLogOptions,
    discovery_option,
    spread,
)
from ._parties import DialTimeout
from ._run import one_line, program, run
from ._secrets import refuse_on_command_line
from ._version import Version

if TYPE_CHECKING:
    from dmsg_trio.client import Client
    from dmsg_trio.discovery import Discovery

IpAddress: TypeAlias = IPv4Address | IPv6Address

VARIABLE: Final = "DMSGIP_SK"  # as the reference calls it
ASKED: Final = 5  # servers, if nobody says how many
AT_ONCE: Final = 8
UNANSWERED: Final = 1  # exit codes
CONTRADICTED: Final = 3

app = program()


def main() -> NoReturn:
    """Run the command, as the console script and ``python -m`` do."""
    main_of(app, "dmsgip", "ip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one server says."""

    server: PublicKey
    address: IpAddress | None = None
    milliseconds: float | None = None
    error: str = ""


@app.command()
@spread
def dmsgip(
    *,
    server: Annotated[
        list[str] | None,
        typer.Option("--srv", "-d", metavar="PK,…", help="Ask these servers, and no others."),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=0, help="How many servers to ask; 0: all.")
    ] = ASKED,
    four: Annotated[bool, typer.Option("-4", help="Show IPv4 addresses alone.")] = False,
    six: Annotated[bool, typer.Option("-6", help="Show IPv6 addresses alone.")] = False,
    table: Annotated[
        bool, typer.Option("--all", "-a", help="Show what each of them says.")
    ] = False,
    wait: DialTimeout = 10.0,
    as_json: AsJson = False,
    discovery: Annotated[str, discovery_option("-c", "--dmsg-disc")] = HERE,
    loglvl: ReferenceLevel = "",
    secret: SecretArgument = "",
    _version: Version = False,
    keys: KeyOptions,
    log: ToolLogOptions,
) -> None:
    """Show the address at which servers see this machine: on a line, or one for each that they see.

    Exit code 0 if the servers agree, 1 if none answered, 3 if they see different addresses of one
    kind: then connections leave this machine's network in more than one place.
    """
    refuse_on_command_line(secret, VARIABLE)
    log.set_up(loglvl)
    sk = keys.secret_key(VARIABLE)
    versions = {4} if four and not six else {6} if six and not four else {4, 6}
    said = run(partial(_ask, sk, discovery, keys_named(server or (), "--srv"), count, wait))
    said = [each for each in said if each.address is None or each.address.version in versions]
    (_print_json if as_json else partial(_print, as_table=table))(said)
    sys.exit(_exit_code(said))


# ---- asking ----


async def _ask(
    sk: SecretKey | None, url: str, servers: Sequence[PublicKey], count: int, wait: float
) -> list[Said]:
    from dmsg_trio.client import open_client
    from dmsg_trio.discovery import HttpDiscovery

    from ._joining import wait_for_servers

    async with HttpDiscovery(url) as discovery:
        await wait_for_servers(discovery, url, wait)
        chosen = list(servers) or await _best(discovery, count)
        async with open_client(sk, discovery=discovery, wait=False) as client:
            return await _ask_all(client, chosen, wait)


async def _best(discovery: Discovery, count: int) -> list[PublicKey]:
    servers = await discovery.available_servers()
    return [entry.pk for entry in servers[: count or None]]


async def _ask_all(client: Client, servers: Sequence[PublicKey], wait: float) -> list[Said]:
    """Ask all servers, some at once; in their order."""
    import trio

    said: dict[PublicKey, Said] = {}
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def ask(pk: PublicKey) -> None:
        async with limiter:
            said[pk] = await _ask_one(client, pk, wait)

    async with trio.open_nursery() as nursery:
        for pk in dict.fromkeys(servers):
            nursery.start_soon(ask, pk)
    return [said[pk] for pk in dict.fromkeys(servers)]


async def _ask_one(client: Client, pk: PublicKey, wait: float) -> Said:
    import trio

    began = trio.current_time()
    try:
        with trio.fail_after(wait):
            address = _address_untrusted(await client.look_up_ip(pk))
    except trio.TooSlowError:
        return Said(server=pk, error=f"no answer within {wait:g} s")
    except RemoteProtocolError as error:
        return Said(server=pk, error=f"it answers wrong: {error}")
    except UnreachableError as error:
        if error.code == ErrorCode.ENTRY_NOT_FOUND:
            return Said(server=pk, error="the discovery knows no server of this key")
        return Said(server=pk, error=f"no session with it: {one_line(error.reason)}")
    except DmsgError as error:
        return Said(server=pk, error=one_line(str(error)))
    return Said(
        server=pk, address=address, milliseconds=round(1000 * (trio.current_time() - began), 3)
    )


def _address_untrusted(data: bytes) -> IpAddress:
    """Read an address of 4 or 16 bytes; one of IPv4 may come in the form of IPv6."""
    if len(data) not in (4, 16):
        raise RemoteProtocolError(f"an address of {len(data)} bytes")
    address = ip_address(data)
    return getattr(address, "ipv4_mapped", None) or address


# ---- telling ----


def _addresses(said: Sequence[Said]) -> list[IpAddress]:
    """Give all addresses, what most servers see first."""
    seen = [each.address for each in said if each.address is not None]
    return sorted(dict.fromkeys(seen), key=seen.count, reverse=True)


def _print(said: Sequence[Said], *, as_table: bool) -> None:
    addresses = _addresses(said)
    if not said:
        print("no server sees an address of this kind", file=sys.stderr)
    if as_table:
        for each in said:
            seen = str(each.address or "-")
            time = f"{each.milliseconds} ms" if each.address else ""
            print(f"{each.server}  {seen:<15}  {each.error or time}")
        return
    for address in addresses:
        print(address)
    for each in said:
        if each.error:
            print(f"{each.server.short}: {each.error}", file=sys.stderr)
    if _exit_code(said) == CONTRADICTED:
        print("the servers see different addresses; --all shows who sees which", file=sys.stderr)
    for address in addresses:
        if not address.is_global:
            print(f"{address} is not a public address", file=sys.stderr)


def _print_json(said: Sequence[Said]) -> None:
    servers = [
        {
            "server": str(each.server),
            "address": str(each.address) if each.address else None,
            "ms": each.milliseconds,
            "error": each.error or None,
        }
        for each in said
    ]
    addresses = [
        {"address": str(each), "version": each.version, "public": each.is_global}
        for each in _addresses(said)
    ]
    print(json.dumps({"addresses": addresses, "servers": servers}, indent=2))


def _exit_code(said: Sequence[Said]) -> int:
    addresses = _addresses(said)
    if not addresses:
        return UNANSWERED
    versions = [each.version for each in addresses]
    return CONTRADICTED if len(versions) > len(set(versions)) else 0
