"""What the helper is told to become: everything is decided before, by the host."""

from typing import TypedDict


class User(TypedDict):
    """Whom to become; the group of terminals is -1 where there is none."""

    name: str
    uid: int
    gid: int
    terminals_gid: int


class Plan(TypedDict):
    """What to become."""

    argv: list[str]
    executable: str
    environment: dict[str, str]
    directory: str | None
    home: str
    user: User | None
    terminal: bool
    no_new_privileges: bool
