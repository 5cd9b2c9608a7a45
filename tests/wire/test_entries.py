"""Entries: their bytes, their signatures, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._keys import PublicKey, SecretKey, Signature
from dmsg_trio._wire.entries import (
    MAX_ENTRY_SIZE,
    ClientInfo,
    Entry,
    EntryError,
    Flaw,
    ServerInfo,
)
from dmsg_trio._wire.entry_json import MAX_DELEGATED_SERVERS, compact

CLIENT = SecretKey(b"\x01" * 32)
SERVER = SecretKey(b"\x02" * 32)
NOW = 1_800_000_000_000_000_000


class Vector(TypedDict):
    """One entry as the reference signed it."""

    entry_json: str
    signature: str
    signed_bytes_utf8: str
    sk: str


VECTORS: list[Vector] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "entries.json").read_text("utf-8")
)


def client_entry(*, sequence: int = 0) -> Entry:
    servers = ClientInfo((SERVER.pk,))
    return Entry(pk=CLIENT.pk, sequence=sequence, timestamp=NOW, client=servers).signed(CLIENT)


def server_entry(server_type: str = "") -> Entry:
    info = ServerInfo(address="203.0.113.7:8081", available_sessions=3, server_type=server_type)
    return Entry(pk=SERVER.pk, timestamp=NOW, server=info).signed(SERVER)


def members_of(entry: Entry) -> dict[str, object]:
    members: dict[str, object] = json.loads(entry.to_json())
    return members


def read(members: object) -> Entry:
    return Entry.parse_untrusted(json.dumps(members).encode())


# ---- the reference's bytes ----


@pytest.mark.parametrize("vector", VECTORS)
def test_the_references_entries_are_read_verified_and_written_back(vector: Vector) -> None:
    entry = Entry.parse_untrusted(vector["entry_json"].encode())
    assert entry.signing_bytes() == vector["signed_bytes_utf8"].encode()
    assert str(entry.signature) == vector["signature"]
    assert entry.verify()
    assert entry.to_json() == vector["entry_json"].encode()


@pytest.mark.parametrize("vector", VECTORS)
def test_an_entry_signed_here_differs_from_the_references_in_the_signature_alone(
    vector: Vector,
) -> None:
    # The reference signs with a random nonce, so its signatures cannot be repeated.
    entry = replace(Entry.parse_untrusted(vector["entry_json"].encode()), signature=None)
    ours = entry.signed(SecretKey.parse(vector["sk"]))
    assert ours.verify()
    text = ours.to_json().decode().replace(str(ours.signature), vector["signature"])
    assert text == vector["entry_json"]


def test_all_members_stand_in_the_order_of_signing() -> None:
    info = ServerInfo(
        address="a:1",
        address_v6="b",
        address_udp="c",
        address_udp_v6="d",
        address_ws="e",
        address_wt="f",
        cert_hash_wt="0a",
        cert_hash_wt_next="0b",
        available_sessions=1,
        server_type="official",
    )
    entry = Entry(
        pk=SERVER.pk,
        timestamp=NOW,
        client=ClientInfo(()),
        client_type="visor",
        server=info,
        protocol="yamux",
    ).signed(SERVER)
    members = members_of(entry)
    assert " ".join(members) == (
        "version sequence timestamp static client client_type server signature protocol"
    )
    assert isinstance(members["server"], dict)
    assert " ".join(members["server"]) == (
        "address address_v6 address_udp address_udp_v6 address_ws address_wt cert_hash_wt"
        " cert_hash_wt_next availableSessions serverType"
    )
    assert b'"signature"' not in entry.signing_bytes()


def test_text_is_spelled_as_the_reference_spells_it() -> None:
    assert compact({"a": "<&>é\u2028\u2029\n\x01\x7f\\"}) == (
        '{"a":"<&>é\\u2028\\u2029\\n\\u0001\x7f\\\\"}'.encode()
    )


def test_no_delegated_servers_and_an_empty_list_of_them_are_signed_differently() -> None:
    none, empty = (
        Entry(pk=CLIENT.pk, timestamp=NOW, client=ClientInfo(servers)) for servers in (None, ())
    )
    assert b'"delegated_servers":null' in none.signing_bytes()
    assert b'"delegated_servers":[]' in empty.signing_bytes()
    assert none.delegated_servers == empty.delegated_servers == ()


# ---- what came from elsewhere ----


def test_members_that_nobody_knows_here_survive_and_are_covered() -> None:
    plain = compact({"version": "0.0.2", "sequence": 0, "timestamp": NOW, "static": str(CLIENT.pk)})
    signed = plain[:-1] + b',"mood":[1.50,1e5,"\\u0041"],"client":{"delegated_servers":[],"x":{}}}'
    signature = str(CLIENT.sign(signed)).encode()
    entry = Entry.parse_untrusted(signed[:-1] + b',"signature":"' + signature + b'"}')
    assert entry.verify()
    assert entry.as_signed() is entry
    assert b'"mood":[1.50,1e5,"\\u0041"]' in entry.to_json()
    assert not Entry.parse_untrusted(entry.to_json().replace(b"1e5", b"2e5")).verify()


def test_the_layout_of_a_received_entry_does_not_matter() -> None:
    members = members_of(client_entry())
    untidy = json.dumps(dict(reversed(members.items())), indent=4).encode()
    entry = Entry.parse_untrusted(untidy)
    assert entry.verify()
    assert entry.as_signed().to_json() == client_entry().to_json()


def test_members_that_somebody_added_to_a_signed_entry_are_dropped() -> None:
    entry = read(members_of(client_entry()) | {"added": "by somebody"})
    assert entry.verify()
    assert b"added" in entry.to_json()
    assert entry.as_signed().to_json() == client_entry().to_json()


@pytest.mark.parametrize("change", [{"sequence": 9}, {"client_type": "visor"}, {"protocol": "x"}])
def test_a_changed_member_breaks_the_signature(change: dict[str, object]) -> None:
    assert read(members_of(client_entry())).is_verified
    changed = read(members_of(client_entry()) | change)
    assert not changed.verify()
    assert not changed.is_verified


@pytest.mark.parametrize("posted", ["", "official", "community"])
@pytest.mark.parametrize("shown", ["official", "community"])
def test_the_type_that_a_discovery_gives_a_server_stands_outside_of_what_is_verified(
    posted: str, shown: str
) -> None:
    received = Entry.parse_untrusted(server_entry(posted).to_json()).with_server_type(shown)
    fetched = Entry.parse_untrusted(received.to_json())
    assert fetched.server is not None
    assert fetched.server.server_type == shown
    assert fetched.verify() is (posted == shown)
    assert fetched.is_verified
    forged = Entry.parse_untrusted(fetched.to_json().replace(b"203.0.113.7", b"203.0.113.8"))
    assert not forged.is_verified


def test_a_server_type_is_put_where_the_reference_has_it() -> None:
    entry = Entry.parse_untrusted(server_entry().to_json()).with_server_type("official")
    assert b'"availableSessions":3,"serverType":"official"}' in entry.to_json()
    assert server_entry().with_server_type("official").to_json() == entry.to_json()
    assert client_entry().with_server_type("official") == client_entry()


# ---- what is refused ----

FLAWS: list[tuple[dict[str, object], Flaw, str]] = [
    ({"version": ""}, Flaw.NO_VERSION, "no version"),
    ({"version": None}, Flaw.NO_VERSION, "no version"),
    ({"signature": None}, Flaw.NO_SIGNATURE, "no signature"),
    ({"static": None}, Flaw.NO_KEY, "static"),
    ({"static": "0" * 66}, Flaw.NO_KEY, "static"),
    ({"client": None}, Flaw.NEITHER_CLIENT_NOR_SERVER, "neither"),
    ({"server": {}}, Flaw.NO_ADDRESS, "server.address"),
    ({"signature": "zz"}, Flaw.BAD_SIGNATURE, "130 hex digits"),
    ({"static": "02ab"}, Flaw.UNREADABLE, "static.*66 hex digits, not 4"),
    ({"sequence": -1}, Flaw.UNREADABLE, "sequence.*-1"),
    ({"sequence": 2**64}, Flaw.UNREADABLE, "sequence.*18446744073709551616"),
    ({"sequence": 1.5}, Flaw.UNREADABLE, "sequence"),
    ({"timestamp": 2**63}, Flaw.UNREADABLE, "timestamp"),
    ({"server": {"address": 5}}, Flaw.UNREADABLE, r"server\.address"),
    ({"server": {"address": "a:1", "availableSessions": 2**63}}, Flaw.UNREADABLE, "Sessions"),
    ({"client": {"delegated_servers": ["00"]}}, Flaw.UNREADABLE, "null key"),
    ({"client": {"delegated_servers": "no"}}, Flaw.UNREADABLE, r"client\.delegated_servers"),
]


@pytest.mark.parametrize(("change", "flaw", "message"), FLAWS)
def test_a_refusal_says_which_member_is_wrong(
    change: dict[str, object], flaw: Flaw, message: str
) -> None:
    with pytest.raises(EntryError, match=message) as caught:
        read(members_of(client_entry()) | change)
    assert caught.value.flaw is flaw


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{} {}",
        b'{"version":NaN}',
        b'{"x":"\xff"}',
        b'{"x":"\\ud800"}',
        b'{"x":' + b"[" * 50_000,
        b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"sequence":' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_not_an_entry_is_unreadable(data: bytes) -> None:
    with pytest.raises(EntryError) as caught:
        Entry.parse_untrusted(data)
    assert caught.value.flaw is Flaw.UNREADABLE


def test_an_entry_has_a_largest_size() -> None:
    members = members_of(client_entry())
    room = MAX_ENTRY_SIZE - len(json.dumps(members | {"filler": ""}))
    read(members | {"filler": "x" * room})
    with pytest.raises(EntryError, match="65537 bytes, more than 65536"):
        read(members | {"filler": "x" * (room + 1)})


def test_an_entry_names_a_bounded_number_of_servers() -> None:
    servers = [str(SERVER.pk)] * MAX_DELEGATED_SERVERS
    read(members_of(client_entry()) | {"client": {"delegated_servers": servers}})
    with pytest.raises(EntryError, match="delegated_servers"):
        read(members_of(client_entry()) | {"client": {"delegated_servers": [*servers, "02"]}})


def test_an_entry_is_only_signed_by_whom_it_is_about() -> None:
    with pytest.raises(ValueError, match="is not signed by"):
        client_entry().signed(SERVER)
    forged = replace(client_entry(), signature=SERVER.sign(client_entry().signing_bytes()))
    assert not forged.verify()
    assert not replace(client_entry(), signature=None).verify()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequence": -1}, "not -1"),
        ({"timestamp": 2**63}, "not 9223372036854775808"),
        ({"client": None}, "client or of a server"),
    ],
)
def test_an_entry_that_breaks_the_rules_cannot_be_made(
    arguments: dict[str, int | None], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(client_entry(), **arguments)  # type: ignore[arg-type]  # that is the point


# ---- iterations ----


def test_the_next_iteration_is_unsigned_and_one_on() -> None:
    first = Entry.parse_untrusted(client_entry(sequence=4).to_json())
    second = first.next_iteration(timestamp=NOW + 1, client=ClientInfo(()))
    assert (second.sequence, second.timestamp, second.delegated_servers) == (5, NOW + 1, ())
    assert second.signature is None
    assert first.next_iteration(timestamp=NOW, sequence=9).sequence == 9
    assert Entry.parse_untrusted(second.signed(CLIENT).to_json()).verify()


keys = st.binary(min_size=32, max_size=32).filter(lambda raw: 0 < int.from_bytes(raw) < 2**255)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    keys.map(SecretKey),
    st.integers(0, 2**64 - 1),
    st.none() | st.builds(tuple[PublicKey, ...], st.lists(keys.map(SecretKey), max_size=3)),
    text,
    text.filter(bool),
    st.integers(-(2**63) + 1, 2**63 - 1),
)
def test_what_is_signed_here_is_read_equal_and_verified(
    sk: SecretKey,
    sequence: int,
    servers: tuple[SecretKey, ...] | None,
    client_type: str,
    address: str,
    sessions: int,
) -> None:
    entry = Entry(
        pk=sk.pk,
        sequence=sequence,
        timestamp=NOW,
        client=ClientInfo(None if servers is None else tuple(key.pk for key in servers)),
        client_type=client_type,
        server=ServerInfo(address=address, available_sessions=sessions),
    ).signed(sk)
    again = Entry.parse_untrusted(entry.to_json())
    assert again == entry
    assert again.signing_bytes() == entry.signing_bytes()
    assert again.to_json() == entry.to_json()
    assert isinstance(again.signature, Signature)
    assert again.verify()
