"""The discovery answers every recorded request as the reference did.

The recordings name their requests in words, so each is made again here with keys of our own. What
is compared is the status, the content type and the body, with keys, signatures and times blanked.
"""

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from dmsg_trio._keys import SecretKey
from dmsg_trio.discovery import ClientInfo, Entry, ServerInfo
from dmsg_trio.discovery._store import MemoryStore
from dmsg_trio.discovery.serving import DiscoveryService, Policy, make_app

CAPTURES = Path(__file__).parents[1] / "vectors" / "captures"
LINE = re.compile(r'(.*?)\s+(GET|POST|DELETE|HEAD)\s+(\S+)\s+-> (\d+) ct="(.*?)" (.*)')

CLIENT, SERVER, OTHER = (SecretKey(bytes([n]) * 32) for n in (1, 2, 3))
MONITOR, STRANGER = (SecretKey(bytes([n]) * 32) for n in (4, 5))
SECOND = 1_000_000_000
NOW = 1_795_368_278 * SECOND
HOUR = 3600 * SECOND
NO_KEY = "0" * 66

Body = bytes | None
Headers = dict[str, str]


@dataclass(frozen=True)
class Recorded:
    """One line of a recording."""

    name: str
    method: str
    path: str
    status: int
    content_type: str
    body: str


@dataclass(frozen=True)
class Given:
    """What is sent for a recorded line."""

    body: Body = None
    headers: Headers | None = None


def recorded(name: str) -> list[Recorded]:
    matches = map(LINE.fullmatch, (CAPTURES / name).read_text("utf-8").splitlines())
    return [
        Recorded(m[1].strip(), m[2], m[3], int(m[4]), m[5], m[6]) for m in matches if m is not None
    ]


# ---- the requests behind the names ----


def client(sequence: int, *, timestamp: int = NOW, client_type: str = "") -> Entry:
    return Entry(
        pk=CLIENT.pk,
        sequence=sequence,
        timestamp=timestamp,
        client=ClientInfo((SERVER.pk,)),
        client_type=client_type,
    ).signed(CLIENT)


def server(
    sequence: int,
    address: str = "1.2.3.4:8081",
    *,
    timestamp: int = NOW,
    sessions: int = 10,
    server_type: str = "",
) -> Entry:
    info = ServerInfo(address=address, available_sessions=sessions, server_type=server_type)
    return Entry(pk=SERVER.pk, sequence=sequence, timestamp=timestamp, server=info).signed(SERVER)


def changed(entry: Entry, **members: object) -> bytes:
    """The JSON of an entry with members that break it; ``None`` leaves one out."""
    merged = json.loads(entry.to_json()) | members
    return json.dumps({k: v for k, v in merged.items() if v is not None}).encode()


def unsigned(entry: Entry) -> bytes:
    return entry.signing_bytes()


VISOR_TIME = NOW + 10 * HOUR
BOTH = replace(server(50), client=ClientInfo(None)).signed(SERVER)
SIGNED = str(MONITOR.sign(str(MONITOR.pk).encode()))
GOOD: Headers = {"NM-PK": str(MONITOR.pk), "NM-Sign": SIGNED}
LAST_CLIENT = client(23, timestamp=VISOR_TIME, client_type="visor")

GIVEN: dict[str, Given] = {
    "not json": Given(b"nonsense"),
    "empty body": Given(b""),
    "json array": Given(b"[]"),
    "empty object": Given(b"{}"),
    "bad pk in static": Given(changed(client(0), static="02zz")),
    "unsigned": Given(unsigned(client(0))),
    "no version": Given(changed(client(0), version=None)),
    "null static": Given(changed(client(0), static=NO_KEY)),
    "neither client nor server": Given(changed(client(0), client=None)),
    "bad signature": Given(changed(client(0), sequence=1)),
    "sig not hex": Given(changed(client(0), signature="no hex")),
    "new entry with sequence 5": Given(client(5).to_json()),
    "same sequence again": Given(client(5).to_json()),
    "lower sequence": Given(client(4).to_json()),
    "older timestamp": Given(client(6, timestamp=NOW - 1).to_json()),
    "same timestamp, next sequence": Given(client(6).to_json()),
    "sequence jump": Given(client(20).to_json()),
    "client timestamp far future": Given(client(21, timestamp=VISOR_TIME).to_json()),
    "POST to entry/<otherpk>": Given(client(22, timestamp=VISOR_TIME).to_json()),
    "POST to entry (no slash)": Given(client(23, timestamp=VISOR_TIME).to_json()),
    "POST timeout=true": Given(LAST_CLIENT.to_json()),
    "server empty addr": Given(server(0, "").to_json()),
    "server 2min old": Given(server(0, timestamp=NOW - 120 * SECOND).to_json()),
    "server 6s future": Given(server(0, timestamp=NOW + 6 * SECOND).to_json()),
    "server ok (no serverType)": Given(server(0).to_json()),
    "server update serverType=official": Given(server(1, server_type="official").to_json()),
    "server 0 sessions": Given(server(2, sessions=0, server_type="official").to_json()),
    "server addr 127.0.0.1:1": Given(server(3, "127.0.0.1:1").to_json()),
    "server addr localhost:1": Given(server(4, "localhost:1").to_json()),
    "server addr :1": Given(server(5, ":1").to_json()),
    "server addr [::1]:5": Given(server(6, "[::1]:5").to_json()),
    "server addr nocolon": Given(server(7, "nocolon").to_json()),
    "server addr 127.0.0.1": Given(server(8, "127.0.0.1").to_json()),
    "entry with server+client": Given(BOTH.to_json()),
    "delete no body": Given(b""),
    "delete with slash": Given(LAST_CLIENT.to_json()),
    "delete unsigned": Given(unsigned(LAST_CLIENT)),
    "delete bad sig": Given(changed(LAST_CLIENT, sequence=99)),
    "delete ok": Given(LAST_CLIENT.to_json()),
    "delete again": Given(LAST_CLIENT.to_json()),
    "delete server using its entry": Given(BOTH.to_json()),
    "deregister no headers": Given(b"[]"),
    "deregister unknown NM-PK": Given(b"[]", GOOD | {"NM-PK": str(STRANGER.pk)}),
    "deregister no sign": Given(b"[]", {"NM-PK": str(MONITOR.pk)}),
    "deregister wrong sign": Given(
        b"[]", GOOD | {"NM-Sign": str(STRANGER.sign(str(MONITOR.pk).encode()))}
    ),
    "deregister empty body": Given(b"", GOOD),
    "deregister bad json": Given(b"{}", GOOD),
    "deregister bad key": Given(b'["02zz"]', GOOD),
    "deregister unknown key": Given(json.dumps([str(OTHER.pk)]).encode(), GOOD),
    "deregister empty list": Given(b"[]", GOOD),
}


# ---- comparing ----


def blanked(text: str) -> object:
    """A body without what differs from run to run; its layout is checked on the way."""
    if not text.startswith(("{", "[")):
        return text
    parsed: object = json.loads(text)
    assert text == json.dumps(parsed, separators=(",", ":")), "the body is not compact"
    text = re.sub(r"[0-9a-f]{130}", "<signature>", text)
    text = re.sub(r"[0-9a-f]{66}", "<key>", text)
    # Pairs, so that the order of the members counts.
    return json.loads(
        re.sub(r'"timestamp":\d+', '"timestamp":0', text), object_pairs_hook=list[object]
    )


def in_any_order(body: object) -> object:
    return sorted(body, key=str) if isinstance(body, list) else body


def path_of(line: Recorded, last_post: str) -> str:
    """The recorded path with our keys in the place of theirs."""
    if line.name == "get" and line.path.endswith("0"):
        return line.path
    ours = {"get": last_post, "POST to entry/<otherpk>": str(SERVER.pk)}.get(line.name, last_post)
    return re.sub(r"0[23][0-9a-f]{64}", ours, line.path)


Start = Callable[[Policy], httpx.AsyncClient]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    clients: list[httpx.AsyncClient] = []

    def start(policy: Policy) -> httpx.AsyncClient:
        store = MemoryStore(lambda: NOW)
        app = make_app(DiscoveryService(store, policy, wall_clock=lambda: NOW))
        transport = httpx.ASGITransport(app)
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://discovery"))
        return clients[-1]

    yield start
    for client in clients:
        await client.aclose()


async def replay(http: httpx.AsyncClient, lines: list[Recorded]) -> list[str]:
    """Send every recorded request again, and name those that were answered otherwise."""
    different = []
    last_post = ""
    for line in lines:
        given = GIVEN.get(line.name, Given())
        if line.name.startswith("server"):
            last_post = str(SERVER.pk)
        elif line.method == "POST" and given.body is not None:
            last_post = str(SERVER.pk if given.body == BOTH.to_json() else CLIENT.pk)
        response = await http.request(
            line.method, path_of(line, last_post), content=given.body, headers=given.headers
        )
        ours = (
            response.status_code,
            response.headers.get("content-type", ""),
            in_any_order(blanked(response.text)),
        )
        theirs = (line.status, line.content_type, in_any_order(blanked(line.body)))
        if ours != theirs:
            different.append(f"{line.name}: {ours} and not {theirs}")
    return different


async def test_everything_recorded_in_test_mode_is_answered_alike(start: Start) -> None:
    http = start(Policy(test_mode=True, monitors=frozenset({MONITOR.pk})))
    # Another server was registered before the recording began.
    info = ServerInfo(address="127.0.0.1:18081", available_sessions=2047)
    other = Entry(pk=OTHER.pk, sequence=1, timestamp=NOW, server=info).signed(OTHER)
    posted = await http.post("/dmsg-discovery/entry/", content=other.to_json())
    assert posted.status_code == 200
    lines = recorded("discovery-http-testmode.txt")
    assert len(lines) == 63
    assert await replay(http, lines) == []


async def test_everything_recorded_in_production_mode_is_answered_alike(start: Start) -> None:
    http = start(Policy(auth="a passphrase"))
    # The recording begins when a client has already been through the same posts.
    posted = await http.post("/dmsg-discovery/entry/", content=LAST_CLIENT.to_json())
    assert posted.status_code == 200
    lines = recorded("discovery-http-prodmode.txt")
    assert len(lines) == 31
    assert await replay(http, lines) == []


async def test_the_recordings_own_entries_are_taken_in(start: Start) -> None:
    for name in ("testmode", "prodmode"):
        text = (CAPTURES / f"discovery-http-{name}.txt").read_text("utf-8")
        found: list[str] = re.findall(r"^(?:CLIENT|BOTH) JSON: (.*)$", text, re.MULTILINE)
        assert len(found) == 2
        http = start(Policy(test_mode=True))
        for entry in found:
            posted = await http.post("/dmsg-discovery/entry/", content=entry)
            assert posted.json() == {"message": "wrote a new entry", "code": 200}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/dmsg-discovery/entry", "DELETE"),
        ("DELETE", "/dmsg-discovery/entry/", "POST"),
        ("PUT", "/dmsg-discovery/entry/02", "GET, POST"),
        ("HEAD", "/health", "GET"),
        ("HEAD", "/dmsg-discovery/entries", "GET"),
        ("GET", "/dmsg-discovery/deregister", "DELETE"),
        ("GET", "/dmsg-discovery/entries/batch", "POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    start: Start, method: str, path: str, allowed: str
) -> None:
    response = await start(Policy()).request(method, path)
    assert (response.status_code, response.content) == (405, b"")
    assert response.headers["allow"] == allowed
    assert "content-type" not in response.headers


@pytest.mark.parametrize("path", ["/", "/health/", "/dmsg-discovery", "/dmsg-discovery/nothing"])
async def test_an_unknown_path_is_said_in_text(start: Start, path: str) -> None:
    response = await start(Policy()).get(path)
    assert (response.status_code, response.text) == (404, "404 page not found\n")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
