"""Which targets a server connects to."""

import socket
from ipaddress import ip_address

import pytest

from dmsg_trio.apps.socks5 import Exemption, TargetRules
from dmsg_trio.apps.socks5._targets import is_dmsg_name, is_public


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "93.184.216.34",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_these_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),  # of clouds
        *("100.64.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.251", "239.1.1.1", "255.255.255.255"),
        *("240.0.0.1", "::", "::1", "fe80::1", "fd00:ec2::254", "fc00::1", "fec0::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1"),
        *(
            "2002:7f00:1::",
            "2002:a00:1::",
            "2002:101:101::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "4000::1",
        ),
    ],
)
def test_these_are_not(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not TargetRules().allow("", ip_address(address), 80)
    assert not TargetRules().allow("public.example", ip_address(address), 80)
    assert TargetRules(private=True).allow("", ip_address(address), 80)


def test_what_is_public_is_allowed_unless_this_machine_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert TargetRules().allow("", ip_address("93.184.216.34"), 80)

    class OurSocket(socket.socket):
        def connect(self, address: object) -> None: ...
        def getsockname(self) -> tuple[str, int]:
            return "93.184.216.34", 40000

    monkeypatch.setattr(socket, "socket", OurSocket)
    assert not TargetRules().allow("", ip_address("93.184.216.34"), 80)
    assert TargetRules().allow("", ip_address("93.184.216.35"), 80)


@pytest.mark.parametrize(
    ("text", "name", "address", "port", "allowed"),
    [
        ("10.0.0.7", "", "10.0.0.7", 80, True),
        ("10.0.0.7", "", "10.0.0.8", 80, False),
        ("10.0.0.7", "", "::ffff:10.0.0.7", 80, True),
        ("10.0.0.7:80", "", "10.0.0.7", 80, True),
        ("10.0.0.7:80", "", "10.0.0.7", 81, False),
        ("10.0.0.0/8", "any.example", "10.200.0.7", 81, True),
        ("10.0.0.0/8:22", "", "10.200.0.7", 81, False),
        ("fd00::/8", "", "fd12::1", 443, True),
        ("[fd00::1]:443", "", "fd00::1", 443, True),
        ("[fd00::1]:443", "", "fd00::1", 80, False),
        ("[fd00::1]", "", "fd00::1", 80, True),
        ("nas.lan", "NAS.lan.", "192.168.1.9", 80, True),
        ("Nas.Lan", "nas.lan", "192.168.1.9", 80, True),
        ("nas.lan", "", "192.168.1.9", 80, False),
        ("nas.lan", "other.lan", "192.168.1.9", 80, False),
        ("nas.lan:443", "nas.lan", "192.168.1.9", 80, False),
    ],
)
def test_an_exemption_allows_what_it_names_and_no_more(
    text: str, name: str, address: str, port: int, allowed: bool
) -> None:
    rules = TargetRules(exempt=(Exemption.parse(text),))
    assert rules.allow(name, ip_address(address), port) is allowed


@pytest.mark.parametrize(
    "text",
    [
        *("", ":80", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.256", "1.2.3", "host:0", "host:65536"),
        *("host:x", "[fd00::1", "[fd00::1]80", "fd00:::1", "a b", "a/8", "host:999999999999"),
    ],
)
def test_what_names_nothing_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Exemption.parse(text)


def test_names_of_dmsg_are_known_by_their_end() -> None:
    assert all(map(is_dmsg_name, ["a.dmsg", "dmsg", "A.DMSG.", "x.y.dmsg"]))
    assert not any(map(is_dmsg_name, ["dmsg.example", "admsg", "a.dmsg.example", ""]))
