"""Configuration files that are shell scripts for others: read, never run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._errors import ConfigError, IdentityError
from dmsg_trio.cli._web_conf import (
    ARRAYS,
    KNOWN,
    PROXY_TEMPLATE,
    SRV_TEMPLATE,
    parse_conf,
    read_conf,
)
from dmsg_trio.cli._web_settings import allowed
from tests.cli.running import NOBODY

SCALARS = sorted(KNOWN - ARRAYS)
PLAIN = st.text(
    st.characters(
        codec="utf-8", exclude_characters="'\"\\$`\n\r\0", categories=("L", "N", "P", "S", "Zs")
    ),
    max_size=20,
)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {}),
        ("# PROXYPORT=1\n\n  # x", {}),
        ("PROXYPORT=4446", {"PROXYPORT": "4446"}),
        ("export PROXYPORT='4446'  # a port\r\n", {"PROXYPORT": "4446"}),
        ("ADDPROXY=\"127.0.0.1\":10'80'", {"ADDPROXY": "127.0.0.1:1080"}),
        ("ADDPROXY=", {"ADDPROXY": ""}),
        ("WEBPORT=('8080')", {"WEBPORT": ("8080",)}),
        (
            "WEBPORT=( 8080 # one\n  '8081'\n)\nRAWTCP=()",
            {"WEBPORT": ("8080", "8081"), "RAWTCP": ()},
        ),
        ("RESOLVEPK=('')", {"RESOLVEPK": ()}),
        ("DMSGPORT=80", {"DMSGPORT": ("80",)}),
        ("ADDPROXY=a#b", None),
    ],
)
def test_assignments_are_read(text: str, settings: dict[str, object] | None) -> None:
    if settings is None:
        with pytest.raises(ConfigError):
            parse_conf(text, "f")
    else:
        assert parse_conf(text, "f") == settings


@pytest.mark.parametrize(
    "line",
    [
        "PROXYPORT=$(id)",
        "PROXYPORT=`id`",
        "PROXYPORT=$HOME",
        'PROXYPORT="$HOME"',
        'PROXYPORT="`id`"',
        "PROXYPORT=1; id",
        "PROXYPORT=1 id",
        "PROXYPORT=1 && id",
        "PROXYPORT=1 > f",
        "PROXYPORT=~/x",
        "PROXYPORT=\\1",
        "PROXYPORT='1",
        'PROXYPORT="1',
        "WEBPORT=(1",
        "WEBPORT=(1 $(id))",
        "WEBPORT=(1; id)",
        "WEBPORT=(1) id",
        "WEBPORT=({1,2})",
        "PROXYPORT = 1",
        "PROXYPORT",
        "id",
        "if true; then",
        "source other",
        ". other",
        "PROXYPROT=1",
        "PROXYPORT+=1",
        "PROXYPORT[0]=1",
        "declare -a WEBPORT",
    ],
)
def test_what_a_shell_would_do_is_an_error_that_names_the_line(line: str) -> None:
    with pytest.raises(ConfigError, match=r"^f, line 3: "):
        parse_conf(f"# one\nADDPROXY=x\n{line}\n", "f")


@given(st.dictionaries(st.sampled_from(SCALARS), PLAIN, max_size=4))
def test_what_a_shell_would_assign_is_what_is_read(settings: dict[str, str]) -> None:
    text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    assert parse_conf(text, "f") == settings


@given(
    st.text(max_size=60) | st.from_regex(r"(PROXYPORT=|WEBPORT=\(|['\"()# \na$])*", fullmatch=True)
)
def test_whatever_is_in_it_is_settings_or_a_line_that_is_wrong(text: str) -> None:
    try:
        settings = parse_conf(text, "f")
    except ConfigError as error:
        assert str(error).startswith("f, line ")  # noqa: PT017 - either is fine
    else:
        assert set(settings) <= KNOWN


@pytest.mark.parametrize("template", [PROXY_TEMPLATE, SRV_TEMPLATE])
def test_a_template_says_nothing_until_a_line_of_it_is_uncommented(template: str) -> None:
    assert parse_conf(template, "f") == {}
    every = "\n".join(
        line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line
        for line in template.splitlines()
    )
    assert len(parse_conf(every, "f")) >= 6


def test_a_file_with_a_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    (path := tmp_path / "conf").write_text("DMSGWEBSK='" + "1" * 64 + "'")
    path.chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600") as refused:
        read_conf(path)
    assert "1111" not in str(refused.value)
    path.chmod(0o600)
    assert read_conf(path)["DMSGWEBSK"] == "1" * 64


OTHER = "03" + NOBODY[2:]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [None, None]),
        ([NOBODY], [{NOBODY}, {NOBODY}]),
        ([f"80={NOBODY}", f"81={OTHER}", NOBODY], [{NOBODY}, {OTHER, NOBODY}]),
        ([NOBODY, f"80={OTHER}"], [{NOBODY, OTHER}, {NOBODY}]),
        ([f"80={NOBODY}", OTHER, "81=*"], [{NOBODY, OTHER}, None]),
    ],
)
def test_keys_are_for_all_ports_or_for_the_one_before(
    words: list[str], found: list[set[str] | None]
) -> None:
    lists = allowed(words, (), [80, 81])
    assert [None if each is None else set(map(str, each.keys)) for each in lists] == found


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ([f"80={NOBODY}"], "names nobody for port 81"),
        ([f"82={NOBODY}"], "nothing is at port 82"),
        (["80="], "a public key is 66 hex digits"),
        (["x=*"], "not a number"),
        (["*"], "a public key is 66 hex digits"),
    ],
)
def test_a_list_that_leaves_a_port_open_by_mistake_is_an_error(
    words: list[str], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        allowed(words, (), [80, 81])


@pytest.mark.parametrize(
    ("words", "files", "found"),
    [
        ([], ["one"], [{NOBODY}, {NOBODY}]),
        ([], ["80=one", "81=two"], [{NOBODY}, {OTHER}]),
        (["81=*"], ["80=one"], [{NOBODY}, None]),
        ([OTHER], ["80=one"], [{NOBODY, OTHER}, {OTHER}]),
        ([OTHER], ["empty"], [{OTHER}, {OTHER}]),
        ([], ["a=b"], [{OTHER}, {OTHER}]),
    ],
)
def test_files_are_for_all_ports_or_for_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    files: list[str],
    found: list[set[str] | None],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"one": NOBODY, "two": OTHER, "empty": "", "a=b": OTHER}.items():
        Path(name).write_text(text)
    lists = allowed(words, files, [80, 81])
    assert [None if each is None else set(map(str, each.keys)) for each in lists] == found


@pytest.mark.parametrize(
    ("words", "files", "fault"),
    [
        ([], ["80=one"], "--allow-file names nobody for port 81"),
        ([], ["one", "81=one"], "port 81 has two files"),
        ([], ["82=one"], "nothing is at port 82"),
        ([], ["empty"], "empty names no key"),
        ([], ["absent"], "cannot read absent"),
        ([], ["wrong"], "wrong, line 2: a public key is 66 hex digits"),
        (["80=*"], ["one"], "everybody come, and --allow-file only some"),
    ],
)
def test_a_file_that_would_let_in_others_than_it_says_is_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    files: list[str],
    fault: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"one": NOBODY, "empty": "# none", "wrong": f"{NOBODY}\nx"}.items():
        Path(name).write_text(text)
    with pytest.raises(ConfigError, match=fault):
        allowed(words, files, [80, 81])
