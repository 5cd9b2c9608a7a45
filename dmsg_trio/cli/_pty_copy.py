"""`dmsgpty-cli cp`: which side is the host's, and how it went."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

from dmsg_trio._errors import ConfigError
from dmsg_trio.apps.pty.copy import CopyOptions, Outcome, get, put

from ._pty_progress import copy_progress
from ._pty_route import routed
from ._pty_way import WayOptions
from ._run import REFUSED

# A host is named by its key: what else has a colon in it is a path.
_REMOTE = re.compile(r"(0[23][0-9a-fA-F]{64}(?::\d{1,5})?):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What goes where."""

    host: str
    sources: tuple[bytes, ...]
    target: bytes
    is_upload: bool

    @classmethod
    def parse(cls, paths: list[str]) -> CopyPlan:
        """Read ``SOURCE... TARGET``, of which either all sources or the target are a host's."""
        if len(paths) < 2:
            raise ConfigError("cp needs a source and a target")
        *sources, target = [_REMOTE.fullmatch(path) for path in paths]
        texts = [os.fsencode(path) for path in paths]
        if target and not any(sources):
            return cls(target[1], tuple(texts[:-1]), os.fsencode(target[2]), is_upload=True)
        remote = [match for match in sources if match]
        hosts = {match[1] for match in remote}
        if target or len(remote) != len(sources) or len(hosts) != 1:
            raise ConfigError(
                "either the target is PK[:port]:PATH, or all sources are, of one host"
            )
        found = tuple(os.fsencode(match[2]) for match in remote)
        return cls(hosts.pop(), found, texts[-1], is_upload=False)


async def copy(plan: CopyPlan, way: WayOptions, options: CopyOptions, *, quiet: bool) -> int:
    """Copy, and give the exit code: 1 if something was left out."""
    async with routed(plan.host, way) as route:
        with copy_progress(quiet=quiet) as progress:
            do = put if plan.is_upload else get
            outcome = await do(
                route.open, plan.sources, plan.target, options=options, progress=progress
            )
    return _told(outcome)


def _told(outcome: Outcome) -> int:
    if outcome.is_complete:
        return 0
    print(f"dmsgpty-cli: {outcome.problems} not copied", file=sys.stderr)
    return REFUSED
