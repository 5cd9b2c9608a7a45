"""dmsg keys: what it makes and tells, and where passphrases come from."""

import json
import os
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from dmsg_trio._identity import Cost, Sealed, create_identity, load_identity, read_identity
from dmsg_trio._keys import SecretKey
from dmsg_trio.cli import keys
from dmsg_trio.cli._run import call
from tests.cli.running import DMSG, environment

SK = SecretKey(bytes([5]) * 32)
CHEAP = Cost(passes=1, memory=8192)


class Run(Protocol):
    def __call__(self, *arguments: object) -> tuple[int, str, str]: ...


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command; tell its exit code, output and errors."""

    def run_keys(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            call(partial(keys.app, [str(each) for each in arguments]))
        out, err = capfd.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return code, out, err

    return run_keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity"


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    return private(tmp_path / "passphrase", "open sesame\n")


def private(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


def pipe_with(content: bytes) -> int:
    near, far = os.pipe()
    os.write(far, content)
    os.close(far)
    return near


# ---- new and show ----


def test_new_makes_a_file_and_prints_its_public_key(run: Run, path: Path) -> None:
    code, out, err = run("new", path)
    assert (code, out, err) == (0, f"{load_identity(path).pk}\n", "")
    assert run("show", path) == (0, out, "")


def test_new_takes_another_key_each_time(run: Run, tmp_path: Path) -> None:
    assert run("new", tmp_path / "a")[1] != run("new", tmp_path / "b")[1]


def test_new_refuses_to_overwrite(run: Run, path: Path) -> None:
    create_identity(path, SK)
    code, out, err = run("new", path)
    assert (code, out) == (1, "")
    assert err == f"error: {path} exists, and a key is never overwritten\n"
    assert load_identity(path) == SK


def test_without_a_path_it_is_the_users_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert run("show")[0] == 1
    code, out, _ = run("new")
    own = tmp_path / "config" / "dmsg" / "identity"
    assert (code, out) == (0, f"{load_identity(own).pk}\n")
    assert stat.filemode(own.parent.stat().st_mode) == "drwx------"
    assert run("show") == (0, out, "")


@pytest.mark.parametrize("configured", ["", "relative/folder"])
def test_a_config_folder_that_is_none_is_the_one_in_the_home(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configured: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", configured)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("new")[0] == 0
    assert (tmp_path / ".config" / "dmsg" / "identity").exists()


def test_new_takes_the_key_of_another_programs_configuration(
    run: Run, path: Path, tmp_path: Path
) -> None:
    settings = {"secret_key": SK.reveal().hex(), "discovery": "http://d"}
    source = private(tmp_path / "config.json", json.dumps(settings))
    assert run("new", path, "--from", source) == (0, f"{SK.pk}\n", "")
    assert load_identity(path) == SK


def test_new_takes_a_key_from_standard_input(path: Path) -> None:
    done = subprocess.run(
        [DMSG, "keys", "new", path, "--from", "-"],
        input=SK.reveal().hex().encode(),
        env=environment(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == f"{SK.pk}\n"
    assert load_identity(path) == SK


def test_programs_get_json(run: Run, path: Path) -> None:
    code, out, _ = run("new", path, "--json")
    told = {"path": str(path), "public_key": str(load_identity(path).pk), "sealed": False}
    assert (code, json.loads(out)) == (0, told)
    assert json.loads(run("show", path, "--json")[1]) == told
    assert json.loads(run("check", path, "--json")[1]) == told | {"ok": True}


# ---- check ----


def test_check_finds_nothing_wrong_with_a_file_that_is_right(run: Run, path: Path) -> None:
    create_identity(path, SK)
    said = f"{path} is right: the plain identity of {SK.pk}\n"
    assert run("check", path) == (0, said, "")


def test_check_says_what_is_wrong(run: Run, path: Path) -> None:
    create_identity(path, SK)
    path.chmod(0o644)
    code, out, err = run("check", path)
    assert (code, out) == (1, "")
    assert err.endswith(f"mend it: chmod 600 {path}\n")
    code, out, err = run("check", path, "--json")
    assert (code, err) == (1, "")
    told = json.loads(out)
    assert told["ok"] is False
    assert told["fault"].endswith(f"chmod 600 {path}")


def test_check_warns_of_a_folder_in_which_others_can_exchange_the_file(
    run: Run, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    create_identity(shared / "identity", SK)
    shared.chmod(0o777)
    code, _, err = run("check", shared / "identity")
    assert code == 1
    assert "others can put another file in its place" in err
    shared.chmod(0o1777)
    assert run("check", shared / "identity")[0] == 0


def test_check_can_try_the_passphrase(run: Run, path: Path, passphrase: Path) -> None:
    create_identity(path, SK, passphrase="open sesame", cost=CHEAP)
    assert run("check", path)[:2] == (0, f"{path} is right: the sealed identity of {SK.pk}\n")
    assert run("check", path, "--open", "--passphrase-file", passphrase)[0] == 0
    wrong = pipe_with(b"open barley")
    code, _, err = run("check", path, "--open", "--passphrase-fd", wrong)
    assert (code, err) == (1, f"error: {path}: wrong passphrase\n")
    os.close(wrong)


# ---- seal, unseal and passphrases ----


def test_seal_and_unseal_change_the_file_and_not_the_key(
    run: Run, path: Path, passphrase: Path
) -> None:
    create_identity(path, SK)
    assert run("seal", path, "--passphrase-file", passphrase) == (0, f"{SK.pk}\n", "")
    assert isinstance(read_identity(path), Sealed)
    code, _, err = run("seal", path)
    assert (code, err) == (1, f"error: {path} is sealed already\n")
    assert run("unseal", path, "--passphrase-file", passphrase) == (0, f"{SK.pk}\n", "")
    assert read_identity(path) == SK


def test_new_seals_from_the_beginning(
    run: Run, path: Path, passphrase: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMSG_PASSPHRASE_FILE", str(passphrase))
    _, out, _ = run("new", path, "--seal")
    assert f"{load_identity(path, passphrase=lambda: 'open sesame').pk}\n" == out


@pytest.mark.parametrize("content", ["", "\n", "two\nlines\n"])
def test_a_passphrase_file_holds_one_line(
    run: Run, path: Path, tmp_path: Path, content: str
) -> None:
    source = private(tmp_path / "words", content)
    code, _, err = run("new", path, "--seal", "--passphrase-file", source)
    assert (code, err) == (1, f"error: {source} is not one line of text with a passphrase\n")
    assert not path.exists()


def test_a_passphrase_that_is_no_text_is_refused(run: Run, path: Path) -> None:
    fd = pipe_with(b"\xff\xfe")
    code, _, err = run("new", path, "--seal", "--passphrase-fd", fd)
    assert (code, err) == (
        1,
        f"error: file descriptor {fd} is not one line of text with a passphrase\n",
    )
    os.close(fd)


def test_a_passphrase_file_that_others_can_read_is_refused(
    run: Run, path: Path, passphrase: Path
) -> None:
    passphrase.chmod(0o640)
    code, _, err = run("new", path, "--seal", "--passphrase-file", passphrase)
    assert code == 1
    assert f"chmod 600 {passphrase}" in err
    assert not path.exists()


def test_without_a_terminal_nobody_is_asked(path: Path) -> None:
    done = subprocess.run(
        [DMSG, "keys", "new", path, "--seal"],
        input=b"open sesame\nopen sesame\n",
        env=environment(),
        capture_output=True,
        start_new_session=True,  # without a controlling terminal
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: no terminal to ask for the passphrase: use --passphrase")
    assert not path.exists()


def test_at_a_terminal_the_passphrase_is_asked_twice_and_not_shown(path: Path) -> None:
    code, shown = at_a_terminal(["new", str(path), "--seal"], ["open sesame", "open sesame"])
    assert code == 0
    assert "sesame" not in shown
    assert "new passphrase: " in shown
    assert "the same again: " in shown
    code, shown = at_a_terminal(["check", str(path), "--open"], ["open sesame"])
    assert code == 0
    assert "is right" in shown


def test_two_passphrases_that_differ_seal_nothing(path: Path) -> None:
    code, shown = at_a_terminal(["new", str(path), "--seal"], ["open sesame", "open barley"])
    assert code == 1
    assert "error: the two passphrases differ" in shown
    assert not path.exists()


def test_a_terminal_that_ends_is_no_passphrase(path: Path) -> None:
    code, shown = at_a_terminal(["new", str(path), "--seal"], ["\x04"])
    assert code == 1
    assert "error: no passphrase was typed" in shown


TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def at_a_terminal(arguments: list[str], answers: list[str]) -> tuple[int, str]:
    """Run `dmsg keys` in a terminal, and answer each of its questions when it has been asked."""
    ours, its = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, DMSG, "keys", *arguments],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment(),
        start_new_session=True,
    )
    os.close(its)
    shown = b""
    while piece := read_terminal(ours):
        shown += piece
        if shown.endswith(b": "):
            os.write(ours, answers.pop(0).encode() + b"\n")
    os.close(ours)
    return process.wait(), shown.decode()


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1000)
    except OSError:  # how Linux says that the other side is gone
        return b""


# ---- help ----


@pytest.mark.parametrize("command", ["new", "show", "check", "seal", "unseal"])
def test_each_command_explains_itself(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "--json" in out


def test_wrong_usage_is_exit_code_2(run: Run) -> None:
    assert run("show", "a", "b")[0] == 2
    assert run("forget")[0] == 2
    assert run("new", "--passphrase-fd", "-1")[0] == 2
