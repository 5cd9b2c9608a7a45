"""Identity files: who may read them, what breaks them, and that a key is never lost or shown."""

import errno
import io
import json
import os
import stat
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import nacl.exceptions
import nacl.pwhash
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.traceback import Traceback

from dmsg_trio._errors import ConfigError, IdentityError
from dmsg_trio._identity import (
    MAX_FILE_SIZE,
    MODERATE,
    Cost,
    Hidden,
    Sealed,
    create_identity,
    identity_untrusted,
    load_identity,
    open_identity,
    read_identity,
    read_limited,
    read_public_key,
    seal,
    unseal,
)
from dmsg_trio._identity._form import MAX_MEMORY, MAX_PASSES
from dmsg_trio._keys import SecretKey

SK = SecretKey(bytes(range(1, 33)))
SECRET = SK.reveal().hex()
OTHER = SecretKey(bytes([9]) * 32)
CHEAP = Cost(passes=1, memory=8192)
SEALED = Sealed.of(SK, "open sesame", CHEAP)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity"


def write(path: Path, content: str | bytes | dict[str, object], mode: int = 0o600) -> Path:
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def sealed_settings(**changes: object) -> dict[str, object]:
    sealed = {
        "kdf": "argon2id",
        "passes": CHEAP.passes,
        "memory": CHEAP.memory,
        "salt": SEALED.salt.hex(),
        "box": SEALED.box.hex(),
    }
    return {"dmsg_identity": 1, "public_key": str(SK.pk), "sealed": sealed | changes}


def fault_of(call: Callable[[], object]) -> str:
    with pytest.raises(IdentityError) as caught:
        call()
    message = str(caught.value)
    shown = message + with_locals(caught.value)
    assert SECRET[4:20] not in shown.lower()
    return message


def with_locals(error: BaseException) -> str:
    """Show all variables of all frames below the test, as the most talkative of reporters would."""
    traces = error.__traceback__
    while traces and traces.tb_next and traces.tb_frame.f_code.co_filename == __file__:
        traces = traces.tb_next
    console = Console(file=io.StringIO(), width=300)
    console.print(
        Traceback.from_exception(
            type(error), error, traces, show_locals=True, locals_max_string=10_000
        )
    )
    assert isinstance(console.file, io.StringIO)
    plain = traceback.TracebackException(type(error), error, traces, capture_locals=True)
    return console.file.getvalue() + "".join(plain.format())


def never() -> str:
    raise AssertionError("asked for a passphrase without need")


# ---- making ----


def test_a_new_file_is_for_its_owner_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        create_identity(path, SK)
    finally:
        os.umask(before)
    assert stat.filemode(path.stat().st_mode) == "-rw-------"
    assert load_identity(path, passphrase=never) == SK
    assert load_identity(path) == SK
    assert read_public_key(path) == SK.pk


def test_a_plain_file_is_what_the_documentation_shows(path: Path) -> None:
    create_identity(path, SK)
    assert json.loads(path.read_text()) == {
        "dmsg_identity": 1,
        "public_key": str(SK.pk),
        "secret_key": SECRET,
    }


def test_a_file_is_never_overwritten(path: Path) -> None:
    create_identity(path, SK)
    fault = fault_of(lambda: create_identity(path, OTHER))
    assert fault == f"{path} exists, and a key is never overwritten"
    assert load_identity(path) == SK


def test_a_symbolic_link_is_not_written_through(path: Path) -> None:
    target = path.with_name("target")
    path.symlink_to(target)
    assert "exists" in fault_of(lambda: create_identity(path, SK))
    assert not target.exists()


def test_a_folder_that_is_not_there_is_named(path: Path) -> None:
    inside = path / "no" / "identity"
    fault = fault_of(lambda: create_identity(inside, SK))
    assert fault == f"cannot create {inside}: No such file or directory"


def test_a_disk_that_is_full_leaves_no_half_of_a_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", disk_full)
    fault = fault_of(lambda: create_identity(path, SK))
    assert fault == f"cannot write {path}: No space left on device"
    assert list(path.parent.iterdir()) == []


def disk_full(_fd: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# ---- sealing ----


def test_a_sealed_file_shows_whose_it_is_and_opens_with_its_passphrase(path: Path) -> None:
    create_identity(path, SK, passphrase="open sesame", cost=CHEAP)
    assert SECRET not in path.read_text()
    assert stat.filemode(path.stat().st_mode) == "-rw-------"
    assert read_public_key(path) == SK.pk
    assert load_identity(path, passphrase=lambda: "open sesame") == SK


def test_the_default_cost_takes_a_quarter_of_a_gibibyte(path: Path) -> None:
    create_identity(path, SK, passphrase="open sesame")
    identity = read_identity(path)
    assert isinstance(identity, Sealed)
    assert identity.cost == MODERATE == Cost(passes=3, memory=2**28)


def test_what_is_sealed_twice_differs_each_time() -> None:
    again = Sealed.of(SK, "open sesame", CHEAP)
    assert again.salt != SEALED.salt
    assert again.box != SEALED.box


def test_a_wrong_passphrase_is_said_to_be_wrong(path: Path) -> None:
    create_identity(path, SK, passphrase="open sesame", cost=CHEAP)
    fault = fault_of(lambda: load_identity(path, passphrase=lambda: "open barley"))
    assert fault == f"{path}: wrong passphrase"


def test_without_a_way_to_ask_a_sealed_file_stays_closed(path: Path) -> None:
    create_identity(path, SK, passphrase="open sesame", cost=CHEAP)
    assert "is sealed, and nothing says" in fault_of(lambda: load_identity(path))


def test_an_empty_passphrase_seals_nothing(path: Path) -> None:
    fault = fault_of(lambda: create_identity(path, SK, passphrase="", cost=CHEAP))
    assert fault == "an empty passphrase seals nothing"
    assert not path.exists()


def test_a_passphrase_is_the_same_however_its_letters_are_composed() -> None:
    sealed = Sealed.of(SK, "caf\N{LATIN SMALL LETTER E WITH ACUTE}", CHEAP)
    assert sealed.open("cafe\N{COMBINING ACUTE ACCENT}") == SK


def test_a_machine_with_too_little_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> bytes:
        raise nacl.exceptions.RuntimeError("Unexpected library error")

    monkeypatch.setattr(nacl.pwhash.argon2id, "kdf", no_memory)
    with pytest.raises(ValueError, match=r"^to try a passphrase 256 MiB of memory are needed$"):
        Sealed.of(SK, "open sesame", MODERATE)


def test_sealing_and_unsealing_keep_the_key_and_leave_nothing_behind(path: Path) -> None:
    create_identity(path, SK)
    plain = path.read_bytes()
    assert seal(path, "open sesame", cost=CHEAP) == SK.pk
    assert isinstance(read_identity(path), Sealed)
    assert fault_of(lambda: seal(path, "again", cost=CHEAP)) == f"{path} is sealed already"
    assert "wrong passphrase" in fault_of(lambda: unseal(path, lambda: "open barley"))
    assert unseal(path, lambda: "open sesame") == SK.pk
    assert fault_of(lambda: unseal(path, never)) == f"{path} is not sealed"
    assert path.read_bytes() == plain
    assert stat.filemode(path.stat().st_mode) == "-rw-------"
    assert list(path.parent.iterdir()) == [path]


def test_sealing_through_a_symbolic_link_keeps_the_link(path: Path) -> None:
    target = path.with_name("target")
    create_identity(target, SK)
    path.symlink_to(target)
    seal(path, "open sesame", cost=CHEAP)
    assert path.is_symlink()
    assert isinstance(read_identity(target), Sealed)


def test_bare_digits_can_be_sealed(path: Path) -> None:
    write(path, SECRET)
    assert seal(path, "open sesame", cost=CHEAP) == SK.pk
    assert load_identity(path, passphrase=lambda: "open sesame") == SK


def test_a_configuration_is_not_reduced_to_its_key(path: Path) -> None:
    write(path, {"secret_key": SECRET, "discovery": "http://d", "max_sessions": 7})
    before = path.read_bytes()
    fault = fault_of(lambda: seal(path, "open sesame", cost=CHEAP))
    assert fault.endswith("holds more than a key, which would be lost: discovery, max_sessions")
    assert path.read_bytes() == before


@pytest.mark.parametrize("step", ["mkstemp", "fsync", "replace"])
def test_a_failure_while_sealing_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        disk_full(0)

    create_identity(path, SK)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile if step == "mkstemp" else os, step, fail)
        fault = fault_of(lambda: seal(path, "open sesame", cost=CHEAP))
    assert fault.startswith("cannot ")
    assert fault.endswith("No space left on device")
    assert load_identity(path) == SK
    assert list(path.parent.iterdir()) == [path]


# ---- reading: the file ----


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644])
def test_a_file_that_others_can_reach_is_refused_with_what_mends_it(path: Path, mode: int) -> None:
    path = path.with_name("my identity")
    create_identity(path, SK)
    path.chmod(mode)
    fault = fault_of(lambda: load_identity(path))
    assert f"({stat.filemode(stat.S_IFREG | mode)})" in fault
    assert fault.endswith(f"mend it: chmod 600 '{path}'")
    assert fault_of(lambda: read_public_key(path)) == fault
    assert os.system(fault.rpartition("mend it: ")[2]) == 0
    assert load_identity(path) == SK


def test_a_file_that_nobody_can_write_is_fine(path: Path) -> None:
    assert load_identity(write(path, SECRET, mode=0o400)) == SK


def test_a_symbolic_link_is_read_through(path: Path) -> None:
    target = path.with_name("target")
    create_identity(target, SK)
    path.symlink_to(target)
    assert load_identity(path) == SK


def test_what_is_no_regular_file_is_refused_without_waiting(path: Path) -> None:
    os.mkfifo(path, 0o600)
    assert fault_of(lambda: load_identity(path)) == f"{path} is not a regular file"
    assert "is not a regular file" in fault_of(lambda: load_identity(path.parent))


def test_a_file_that_is_not_there_is_named(path: Path) -> None:
    fault = fault_of(lambda: load_identity(path))
    assert fault == f"cannot open {path}: No such file or directory"


def test_a_file_is_read_up_to_a_bound(path: Path) -> None:
    write(path, SECRET + " " * (MAX_FILE_SIZE - len(SECRET)))
    assert load_identity(path) == SK
    write(path, SECRET + " " * (MAX_FILE_SIZE - len(SECRET) + 1))
    fault = fault_of(lambda: load_identity(path))
    assert fault == f"{path} is larger than the {MAX_FILE_SIZE} bytes that a key may take"


def test_a_descriptor_that_cannot_be_read_is_named(path: Path) -> None:
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        fault = fault_of(lambda: read_limited(fd, "file descriptor 3"))
    finally:
        os.close(fd)
    assert fault == "cannot read file descriptor 3: Is a directory"


# ---- reading: what stands in it ----


@pytest.mark.parametrize(
    "content",
    [
        SECRET,
        f"\n  {SECRET.upper()}\r\n",
        {"secret_key": SECRET},
        {"secret_key": SECRET, "public_key": str(SK.pk), "discovery": "http://d", "log": None},
        {"sk": SECRET, "pk": str(SK.pk), "wl": None, "dmsgport": 22},
        {"sk": SECRET, "dmsg_identity": 1},
    ],
)
def test_these_forms_hold_a_key_in_the_clear(path: Path, content: str | dict[str, object]) -> None:
    assert load_identity(write(path, content), passphrase=never) == SK


def test_the_sealed_form_is_what_the_documentation_shows(path: Path) -> None:
    assert load_identity(write(path, sealed_settings()), passphrase=lambda: "open sesame") == SK


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff\x00", "neither JSON nor hex digits: byte 0 is no text"),
        (SECRET[:-1], "a secret key is 64 hex digits, not 63"),
        (SECRET[:-1] + "x", "a secret key is hex digits only, not 'x' at place 64"),
        ("[" + SECRET[:-1], "a secret key is hex digits only, not '[' at place 1"),
        ('{"secret_key": "' + SECRET, "not JSON: Unterminated string starting at in line 1"),
        ('{"a":' * 10_000, "nested deeper than any identity"),
        ("{}", "secret_key is missing"),
        ({"sk": None}, "sk is missing"),
        ({"secret_key": 7}, "secret_key is not a text"),
        ({"secret_key": SECRET[:-2]}, "a secret key is 64 hex digits, not 62"),
        ({"secret_key": SECRET, "public_key": SECRET}, "a public key is 66 hex digits, not 64"),
        ({"secret_key": SECRET, "public_key": 1}, "public_key is not a text"),
        (
            {"secret_key": SECRET, "public_key": str(OTHER.pk)},
            f"secret_key belongs to {SK.pk}, but public_key is {OTHER.pk}",
        ),
        ({"sk": SECRET, "pk": str(OTHER.pk)}, f"sk belongs to {SK.pk}, but pk is {OTHER.pk}"),
        (
            {"dmsg_identity": 2, "secret_key": SECRET},
            "an identity of version 2, this program knows 1",
        ),
        ({"sealed": {}}, "public_key is missing"),
        ({"public_key": str(SK.pk), "sealed": []}, "sealed is not an object"),
        (sealed_settings(kdf="scrypt"), "sealed.kdf is not 'argon2id'"),
        (sealed_settings(passes="3"), "sealed.passes is not a whole number"),
        (sealed_settings(passes=True), "sealed.passes is not a whole number"),
        (sealed_settings(memory=None), "sealed.memory is not a whole number"),
        (
            sealed_settings(passes=MAX_PASSES + 1),
            f"sealed with {MAX_PASSES + 1} passes, 1 to {MAX_PASSES} are accepted",
        ),
        (sealed_settings(passes=0), f"sealed with 0 passes, 1 to {MAX_PASSES} are accepted"),
        (
            sealed_settings(memory=MAX_MEMORY + 1),
            f"sealed with {MAX_MEMORY + 1} bytes of memory, 8192 to {MAX_MEMORY} are accepted",
        ),
        (
            sealed_settings(memory=8191),
            f"sealed with 8191 bytes of memory, 8192 to {MAX_MEMORY} are accepted",
        ),
        (sealed_settings(salt="00"), "sealed.salt is not 16 bytes in hex"),
        (sealed_settings(box=7), "sealed.box is not 72 bytes in hex"),
        (sealed_settings(box="x" * 144), "sealed.box is not 72 bytes in hex"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    path: Path, content: str | bytes | dict[str, object], fault: str
) -> None:
    write(path, content)
    assert fault_of(lambda: load_identity(path, passphrase=never)) == f"{path}: {fault}"


def test_the_public_key_of_a_sealed_file_is_checked_when_it_is_opened(path: Path) -> None:
    write(path, sealed_settings() | {"public_key": str(OTHER.pk)})
    assert read_public_key(path) == OTHER.pk
    fault = fault_of(lambda: load_identity(path, passphrase=lambda: "open sesame"))
    assert fault.endswith(f"the sealed key belongs to {SK.pk}, the file claims {OTHER.pk}")


@given(
    st.binary(max_size=300)
    | st.dictionaries(
        st.sampled_from(["dmsg_identity", "secret_key", "sk", "pk", "public_key", "sealed", "x"]),
        st.none() | st.integers() | st.text(max_size=5) | st.sampled_from([SECRET, str(SK.pk)]),
    ).map(lambda settings: json.dumps(settings).encode())
)
@example(SECRET.encode())
@example(json.dumps(sealed_settings()).encode())
def test_any_bytes_are_an_identity_or_an_error_that_names_the_source(data: bytes) -> None:
    try:
        identity = identity_untrusted(Hidden(data), "standard input")
    except IdentityError as error:
        told = str(error)
    else:
        told = f"standard input: {identity.pk}"
    assert told.startswith("standard input: ")
    assert SECRET not in told


@given(st.integers(0, 71), st.integers(1, 255))
def test_a_sealed_key_with_one_byte_changed_does_not_open(at: int, change: int) -> None:
    box = bytearray(SEALED.box)
    box[at] ^= change
    sealed = Sealed(SK.pk, CHEAP, SEALED.salt, bytes(box))
    fault = fault_of(lambda: open_identity(sealed, "it", passphrase=lambda: "open sesame"))
    assert fault == "it: wrong passphrase"


def test_whatever_is_wrong_with_an_identity_is_a_wrong_setting() -> None:
    assert issubclass(IdentityError, ConfigError)


def test_bytes_of_a_key_do_not_show() -> None:
    assert repr(Hidden(SECRET.encode())) == "Hidden()"
