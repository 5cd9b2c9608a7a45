"""Files with a secret in them, readable for their owner alone from the first moment on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dmsg_trio._errors import ConfigError


def write_private(path: Path, data: bytes, *, overwrite: bool, option: str) -> None:
    """Write ``data`` to a new file with mode 0600; ``option`` is what allows to overwrite one.

    Raises `ConfigError` if the file exists or cannot be written; then nothing is changed.
    """
    try:
        if overwrite:
            fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd, name = os.open(path, flags, 0o600), str(path)
    except FileExistsError:
        raise ConfigError(f"{path} exists; {option} overwrites it, and the key in it") from None
    except OSError as error:
        raise ConfigError(f"cannot create {path}: {error.strerror}") from error
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        if overwrite:
            os.replace(name, path)
    except OSError as error:
        os.unlink(name)
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
