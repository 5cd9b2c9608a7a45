"""The JSON of entries as text: what is looked at in it, and how its members are put together.

Members of a received object are kept as the text that came, since a signature covers text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

MAX_DELEGATED_SERVERS: Final = 64
MAX_TEXT: Final = 4096  # characters of one text; the longest known ones are 130 digits


_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] | None


class ClientMembers(msgspec.Struct):
    """`client`, before it is known to be right."""

    delegated_servers: (
        Annotated[list[str], msgspec.Meta(max_length=MAX_DELEGATED_SERVERS)] | None
    ) = None


class ServerMembers(msgspec.Struct):
    """`server`, before it is known to be right."""

    address: _Text = None
    address_v6: _Text = None
    address_udp: _Text = None
    address_udp_v6: _Text = None
    address_ws: _Text = None
    address_wt: _Text = None
    cert_hash_wt: _Text = None
    cert_hash_wt_next: _Text = None
    available_sessions: int | None = msgspec.field(name="availableSessions", default=None)
    server_type: _Text = msgspec.field(name="serverType", default=None)


class EntryMembers(msgspec.Struct):
    """The members of an entry, before they are known to be right."""

    version: _Text = None
    sequence: int | None = None
    timestamp: int | None = None
    static: _Text = None
    client: ClientMembers | None = None
    client_type: _Text = None
    server: ServerMembers | None = None
    signature: _Text = None
    protocol: _Text = None


def compact(members: Mapping[str, object]) -> bytes:
    """Write members in the order they have, as the reference spells them."""
    text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
    # The reference escapes the two that JavaScript takes for ends of lines.
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


def string(value: str) -> bytes:
    """Write one JSON string."""
    return json.dumps(value, ensure_ascii=False).encode()


def split(raw: bytes) -> dict[str, bytes]:
    """Take an object apart into its members' names and texts."""
    members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    return {name: bytes(value) for name, value in members.items()}


def join(members: Mapping[str, bytes]) -> bytes:
    """Put an object together from its members' names and texts."""
    return b"{%s}" % b",".join(b"%s:%s" % (string(name), raw) for name, raw in members.items())


def insert_after(
    where: str, members: Mapping[str, bytes], name: str, raw: bytes
) -> dict[str, bytes]:
    """Add a member behind another one, or at the end if that is not there."""
    out: dict[str, bytes] = {}
    for known, value in members.items():
        out[known] = value
        if known == where:
            out[name] = raw
    out.setdefault(name, raw)
    return out
