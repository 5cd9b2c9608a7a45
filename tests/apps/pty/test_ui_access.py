"""Who gets anything from the web terminal: by which name it is called, and from whose page."""

from __future__ import annotations

import pytest

from dmsg_trio.apps.pty.ui._access import MAX_TOKENS, Access, parse_origin
from dmsg_trio.apps.pty.ui._files import PREFIX
from tests.apps.pty.ui_parts import ScriptedHost, ask, get, running_ui, upgrade


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8080",
        "127.0.0.1",
        "[::1]:8080",
        "localhost:9",
        "a.localhost",
        "192.0.2.7:8080",
        "LOCALHOST",
    ],
)
def test_addresses_and_localhost_are_its_own_names(host: str) -> None:
    assert Access().fault_untrusted(host, None) == ""
    assert Access().fault_untrusted(host, f"http://{host}") == ""


@pytest.mark.parametrize(
    "host",
    [
        "",
        "rebound.example",
        "127.0.0.1.example:8080",
        "localhost.example",
        "user@127.0.0.1",
        "::1",
        "127.0.0.1/x",
        "[::1",
        "a:b:c",
        "127.0.0.1:x",
    ],
)
def test_names_that_others_choose_are_not(host: str) -> None:
    assert "is not called" in Access().fault_untrusted(host, None)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "http://127.0.0.1:9999",
        "http://127.0.0.1",
        "http://127.0.0.1:8080.evil.example",
    ],
)
def test_pages_from_elsewhere_have_no_business_here(origin: str) -> None:
    assert "no business" in Access().fault_untrusted("127.0.0.1:8080", origin)


def test_a_name_can_be_allowed() -> None:
    access = Access(origins=[parse_origin("https://term.Example:444/")])
    assert access.fault_untrusted("term.example:444", "https://term.example:444") == ""
    assert (
        access.fault_untrusted("127.0.0.1:8080", "https://term.example:444") == ""
    )  # a proxy may say so
    assert access.fault_untrusted("other.example", None)


@pytest.mark.parametrize(
    "text", ["term.example", "ftp://x", "https://", "https://x/y", "https://u@x", "https://x?y"]
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"http\(s\)"):
        parse_origin(text)


def test_old_tokens_make_room() -> None:
    access = Access()
    tokens = [access.new_token() for _ in range(MAX_TOKENS + 1)]
    assert access.redeem_untrusted(tokens[0]) is None
    assert access.redeem_untrusted(tokens[1]) is not None


# ---- over HTTP ----


@pytest.mark.network
@pytest.mark.parametrize("target", ["/", "/any/path?x=1", PREFIX, PREFIX + "../../_server.py"])
async def test_every_path_is_the_page(target: str) -> None:
    async with running_ui(ScriptedHost().open_shell) as ui:
        answer = await get(ui.port, target)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert b"/_ui/page.js" in answer.body


@pytest.mark.network
async def test_the_page_runs_scripts_of_its_own_only() -> None:
    async with running_ui(ScriptedHost().open_shell) as ui:
        page = await get(ui.port)
        script = await get(ui.port, PREFIX + "xterm/xterm.mjs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert script.headers["content-type"].startswith("text/javascript")
    assert not {"content-encoding", "set-cookie", "server"} & page.headers.keys()


@pytest.mark.network
@pytest.mark.parametrize("websocket", [False, True])
async def test_another_name_or_origin_gets_nothing(websocket: bool) -> None:
    headers = upgrade() if websocket else []
    async with running_ui(ScriptedHost().open_shell) as ui:
        rebound = await get(ui.port, "/", *headers, host="rebound.example")
        foreign = await get(ui.port, "/", "Origin: http://evil.example", *headers)
    assert (rebound.status, foreign.status) == (403, 403)
    assert b"rebound.example" in rebound.body


@pytest.mark.network
async def test_other_methods_are_told_so_in_json() -> None:
    async with running_ui(ScriptedHost().open_shell) as ui:
        answer = await ask(
            ui.port, ["POST /x HTTP/1.1", f"Host: 127.0.0.1:{ui.port}", "Content-Length: 0"]
        )
    assert answer.status == 405
    assert answer.json == {
        "error_code": 405,
        "error_msg": "http method POST is invalid for path /x",
    }


@pytest.mark.network
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Upgrade: websocket"], 426),
        (["Upgrade: websocket", "Sec-WebSocket-Version: 8"], 426),
        (["Upgrade: websocket", "Sec-WebSocket-Version: 13"], 400),
        (["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Connection: Upgrade"], 400),
        ([*upgrade(), "Content-Length: 3"], 400),
    ],
)
async def test_a_bad_upgrade_is_refused(headers: list[str], status: int) -> None:
    async with running_ui(ScriptedHost().open_shell) as ui:
        assert (await get(ui.port, "/", *headers)).status == status


@pytest.mark.network
@pytest.mark.parametrize(
    "head", [["nonsense"], ["GET / HTTP/1.1"], ["GET / HTTP/1.1", "X: " + "x" * 70_000]]
)
async def test_what_is_not_http_is_refused(head: list[str]) -> None:
    async with running_ui(ScriptedHost().open_shell) as ui:
        assert (await ask(ui.port, head)).status == 400
        assert (await get(ui.port)).status == 200
