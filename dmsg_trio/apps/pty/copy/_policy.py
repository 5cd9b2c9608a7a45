"""What a receiver does with what is there, and with what a sender says of permissions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PERMISSIONS: Final = 0o777  # what a sender may set; never setuid, setgid or the sticky bit


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How to write: with permissions and times, over what is there, going on, folders too."""

    preserve: bool = False
    overwrite: bool = True
    resume: bool = True
    recursive: bool = True
