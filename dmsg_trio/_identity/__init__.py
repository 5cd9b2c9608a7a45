"""Identity files: a secret key at rest, which its owner alone can read.

A file is made once and never overwritten by another key; sealing and unsealing replace it in one
step, so there is no moment at which a crash could lose the key. What stands in it: `_form`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dmsg_trio._errors import IdentityError
from dmsg_trio._files import NotAFileError, fault_of_readers, opened, read_at_most
from dmsg_trio._keys import PublicKey, SecretKey

from ._form import MODERATE, Cost, Hidden, Sealed, Understood, form_of, understand_untrusted

__all__ = [
    "MAX_FILE_SIZE",
    "MODERATE",
    "Cost",
    "Hidden",
    "Sealed",
    "create_identity",
    "identity_untrusted",
    "load_identity",
    "open_identity",
    "read_identity",
    "read_limited",
    "read_private_file",
    "read_public_key",
    "seal",
    "unseal",
]

MAX_FILE_SIZE: Final = 64 * 1024  # an identity has 500 bytes; a configuration may hold much more


def create_identity(
    path: Path, sk: SecretKey, *, passphrase: str | None = None, cost: Cost = MODERATE
) -> None:
    """Write ``sk`` to a new file that only its owner can read; never overwrite one."""
    new = form_of(sk if passphrase is None else _seal(sk, passphrase, cost))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileExistsError:
        raise IdentityError(f"{path} exists, and a key is never overwritten") from None
    except OSError as error:
        raise IdentityError(f"cannot create {path}: {error.strerror}") from error
    try:
        _write(fd, new)
        _sync_folder(path)
    except OSError as error:
        path.unlink()
        raise IdentityError(f"cannot write {path}: {error.strerror}") from error


def load_identity(path: Path, *, passphrase: Callable[[], str] | None = None) -> SecretKey:
    """Read the secret key of a file; ``passphrase`` is asked only if the file is sealed."""
    return open_identity(read_identity(path), str(path), passphrase=passphrase)


def read_public_key(path: Path) -> PublicKey:
    """Tell whose file this is; a sealed one needs no passphrase for that."""
    return read_identity(path).pk


def seal(path: Path, passphrase: str, *, cost: Cost = MODERATE) -> PublicKey:
    """Put the key of a plain file under a passphrase."""
    identity = _read_to_replace(path)
    if isinstance(identity, Sealed):
        raise IdentityError(f"{path} is sealed already")
    _replace(path, form_of(_seal(identity, passphrase, cost)))
    return identity.pk


def unseal(path: Path, passphrase: Callable[[], str]) -> PublicKey:
    """Write the key of a sealed file back in the clear."""
    identity = _read_to_replace(path)
    if isinstance(identity, SecretKey):
        raise IdentityError(f"{path} is not sealed")
    sk = open_identity(identity, str(path), passphrase=passphrase)
    _replace(path, form_of(sk))
    return sk.pk


# ---- in ----


def read_identity(path: Path) -> SecretKey | Sealed:
    """Read what a file holds, if only its owner can read it."""
    return identity_untrusted(read_private_file(path), str(path))


def identity_untrusted(data: Hidden, where: str) -> SecretKey | Sealed:
    """Understand what was read from a file, pipe or variable; ``where`` names it in errors."""
    return _understand(data, where).identity


def open_identity(
    identity: SecretKey | Sealed, where: str, *, passphrase: Callable[[], str] | None = None
) -> SecretKey:
    """Come from what was read to the secret key, with a passphrase if it is sealed."""
    if isinstance(identity, SecretKey):
        return identity
    if passphrase is None:
        raise IdentityError(f"{where} is sealed, and nothing says how to get its passphrase")
    try:
        return identity.open(passphrase())
    except ValueError as error:
        fault = str(error)
    raise IdentityError(f"{where}: {fault}")


def read_private_file(path: Path) -> Hidden:
    """Read a small regular file; refuse one that others can read, and say how to mend it."""
    try:
        with opened(path) as fd:
            if fault := fault_of_readers(path, os.fstat(fd).st_mode):
                raise IdentityError(fault)
            return read_limited(fd, str(path))
    except (NotAFileError, IsADirectoryError):
        raise IdentityError(f"{path} is not a regular file") from None
    except OSError as error:
        raise IdentityError(f"cannot open {path}: {error.strerror}") from error


def read_limited(fd: int, where: str) -> Hidden:
    """Read to the end, unless that is further away than any identity needs."""
    try:
        data = read_at_most(fd, MAX_FILE_SIZE)
    except OSError as error:
        raise IdentityError(f"cannot read {where}: {error.strerror}") from error
    if len(data) > MAX_FILE_SIZE:
        del data
        raise IdentityError(f"{where} is larger than the {MAX_FILE_SIZE} bytes that a key may take")
    return Hidden(data)


def _understand(data: Hidden, where: str) -> Understood:
    try:
        return understand_untrusted(data)
    except ValueError as error:
        fault = str(error)
    raise IdentityError(f"{where}: {fault}")


def _read_to_replace(path: Path) -> SecretKey | Sealed:
    understood = _understand(read_private_file(path), str(path))
    if names := ", ".join(understood.other_settings):
        raise IdentityError(f"{path} holds more than a key, which would be lost: {names}")
    return understood.identity


# ---- out ----


def _seal(sk: SecretKey, passphrase: str, cost: Cost) -> Sealed:
    try:
        return Sealed.of(sk, passphrase, cost)
    except ValueError as error:
        fault = str(error)
    raise IdentityError(fault)


def _replace(path: Path, new: Hidden) -> None:
    path = path.resolve()  # a symbolic link stays, what it points at is replaced
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    except OSError as error:
        raise IdentityError(f"cannot write in {path.parent}: {error.strerror}") from error
    try:
        _write(fd, new)
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise IdentityError(f"cannot replace {path}: {error.strerror}") from error
    _sync_folder(path)


def _write(fd: int, new: Hidden) -> None:
    with open(fd, "wb") as file:
        file.write(new.raw)
        file.flush()
        os.fsync(fd)


def _sync_folder(path: Path) -> None:
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
