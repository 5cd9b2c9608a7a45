"""The rules of the discovery, without HTTP and without a store."""

from dataclasses import replace

import pytest

from dmsg_trio._keys import SecretKey
from dmsg_trio.discovery import ClientInfo, Entry, ServerInfo
from dmsg_trio.discovery._rules import (
    CLIENT_LIFETIME,
    LOOPBACK,
    MAX_AVAILABLE_SERVERS,
    NEWEST_SERVER,
    OLD_SEQUENCE,
    OLD_TIMESTAMP,
    OLDEST_SERVER,
    OUTDATED,
    SERVER_LIFETIME,
    SHORT_LIFETIME,
    Policy,
    Refusal,
    check_iteration,
    check_withdrawal,
    choose_available,
    expires_at,
    read_published,
    read_withdrawn,
)

CLIENT, SERVER = (SecretKey(bytes([n]) * 32) for n in (1, 2))
NOW = 1_800_000_000_000_000_000
POLICY = Policy()


def client(sequence: int = 0, timestamp: int = NOW) -> Entry:
    info = ClientInfo((SERVER.pk,))
    return Entry(pk=CLIENT.pk, sequence=sequence, timestamp=timestamp, client=info).signed(CLIENT)


def server(
    address: str = "203.0.113.7:8081", *, server_type: str = "", timestamp: int = NOW, free: int = 1
) -> Entry:
    info = ServerInfo(address=address, available_sessions=free, server_type=server_type)
    return Entry(pk=SERVER.pk, timestamp=timestamp, server=info).signed(SERVER)


def published(entry: Entry, policy: Policy = POLICY, now: int = NOW) -> Entry:
    return read_published(entry.to_json(), policy, now)


def type_given_to(entry: Entry, policy: Policy) -> str:
    taken = published(entry, policy)
    assert taken.server is not None
    return taken.server.server_type


# ---- publishing ----


@pytest.mark.parametrize("age", [-OLDEST_SERVER, 0, NEWEST_SERVER])
def test_a_servers_timestamp_may_lie_a_little_off(age: int) -> None:
    assert published(server(timestamp=NOW + age)).timestamp == NOW + age


@pytest.mark.parametrize("age", [-OLDEST_SERVER - 1, NEWEST_SERVER + 1])
def test_a_servers_timestamp_may_not_lie_far_off(age: int) -> None:
    with pytest.raises(Refusal, match="outdated timestamp") as caught:
        published(server(timestamp=NOW + age))
    assert (caught.value.status, caught.value.text) == (422, OUTDATED)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", ":1"])
def test_a_server_on_this_host_is_taken_in_test_mode_alone(address: str) -> None:
    with pytest.raises(Refusal) as caught:
        published(server(address))
    assert caught.value.text == LOOPBACK
    assert published(server(address), Policy(test_mode=True)).server is not None


def test_loopback_does_not_hide_behind_ipv6() -> None:
    for address in ("[::ffff:127.0.0.1]:1", "[::1]:1"):
        with pytest.raises(Refusal, match="localhost"):
            published(server(address))
    info = ServerInfo(address="203.0.113.7:1", address_v6="[::1]:1", available_sessions=1)
    with pytest.raises(Refusal, match="localhost"):
        published(Entry(pk=SERVER.pk, timestamp=NOW, server=info).signed(SERVER))


def test_the_passphrase_makes_a_server_official_and_is_not_shown() -> None:
    policy = Policy(auth="open sesame")
    assert "open sesame" not in repr(policy)
    taken = published(server(server_type="open sesame"), policy)
    assert b"open sesame" not in taken.to_json()
    assert b'"serverType":"official"' in taken.to_json()
    assert type_given_to(server(server_type="official"), policy) == "community"
    assert type_given_to(server(), policy) == "community"


def test_a_server_may_be_official_by_its_key() -> None:
    policy = Policy(auth="open sesame", official_servers=frozenset({SERVER.pk}))
    assert type_given_to(server(), policy) == "official"


def test_what_a_server_signed_can_still_be_verified_by_who_reads_it() -> None:
    for posted in ("", "official", "community"):
        assert published(server(server_type=posted)).is_verified


def test_a_stranger_cannot_publish_for_somebody() -> None:
    forged = replace(client(), signature=SERVER.sign(client().signing_bytes()))
    with pytest.raises(Refusal, match="invalid signature") as caught:
        published(forged)
    assert caught.value.status == 401
    assert published(forged, Policy(load_testing=True)) == forged


# ---- iterations and withdrawals ----


def test_an_entry_is_replaced_by_a_newer_one_alone() -> None:
    assert check_iteration(None, client(7), POLICY) == "wrote a new entry"
    assert check_iteration(client(3), client(9), POLICY) == "wrote new entry iteration"
    for old, new, text in (
        (client(3), client(3), OLD_SEQUENCE),
        (client(3), client(2), OLD_SEQUENCE),
        (client(3), client(4, NOW - 1), OLD_TIMESTAMP),
    ):
        with pytest.raises(Refusal) as caught:
            check_iteration(old, new, POLICY)
        assert caught.value.text == text
        assert check_iteration(old, new, Policy(load_testing=True)) == "wrote new entry iteration"


def test_an_entry_kept_from_earlier_does_not_withdraw_a_newer_one() -> None:
    check_withdrawal(client(3), client(3), POLICY)
    check_withdrawal(client(3), client(4), POLICY)
    check_withdrawal(None, client(0), POLICY)
    for withdrawn, text in ((client(2), OLD_SEQUENCE), (client(3, NOW - 1), OLD_TIMESTAMP)):
        with pytest.raises(Refusal) as caught:
            check_withdrawal(client(3), withdrawn, POLICY)
        assert (caught.value.status, caught.value.text) == (422, text)


def test_a_server_withdraws_with_its_entry_as_the_discovery_shows_it() -> None:
    shown = published(server()).to_json()
    assert read_withdrawn(shown, POLICY, NOW).pk == SERVER.pk


# ---- lifetimes and lists ----


def test_how_long_entries_stand() -> None:
    assert expires_at(server(), POLICY, NOW) == NOW + SERVER_LIFETIME
    assert expires_at(client(), POLICY, NOW) == NOW + CLIENT_LIFETIME
    assert expires_at(client(), POLICY, NOW, short=True) == NOW + SHORT_LIFETIME
    assert expires_at(client(), Policy(client_lifetime=0), NOW) is None
    both = replace(server(), client=ClientInfo())
    assert expires_at(both, Policy(client_lifetime=0), NOW) == NOW + SERVER_LIFETIME


def test_servers_with_the_most_free_sessions_come_first_and_full_ones_not_at_all() -> None:
    servers = [server(free=free) for free in (3, 0, 9, -1, 5)]
    free = [entry.server.available_sessions for entry in choose_available(servers) if entry.server]
    assert free == [9, 5, 3]
    many = [server()] * (MAX_AVAILABLE_SERVERS + 1)
    assert len(choose_available(many)) == MAX_AVAILABLE_SERVERS
