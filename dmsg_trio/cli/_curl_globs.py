"""Several URLs in one: ``{one,two}``, ``[1-100]``, ``[001-100]``, ``[a-z:2]``, as curl has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from dmsg_trio.apps.curl import ExitCode, TransferError

MAX_URLS: Final = 100_000  # of one pattern

_PLAIN: Final = re.compile(r"(?:[^\\{}\[\]]|\\.|\\$)+", re.DOTALL)
_SET: Final = re.compile(r"\{((?:[^{}\[\]\\]|\\.)*)\}", re.DOTALL)
_RANGE: Final = re.compile(
    r"\[(?:(\d{1,18})-(\d{1,18})|([a-z])-([a-z])|([A-Z])-([A-Z]))(?::(\d{1,9}))?\]"
)
_ESCAPED: Final = re.compile(r"\\([{}\[\]\\])")
_NUMBER: Final = re.compile(r"#(\d{1,3})")


@dataclass(frozen=True, slots=True)
class Globbed:
    """One of the texts that a pattern stands for, and what stands in the place of each part."""

    text: str
    chosen: tuple[str, ...] = ()

    def named(self, name: str) -> str:
        """Write what was chosen into the name of a file, where it says ``#1``, ``#2``…"""

        def choice(found: re.Match[str]) -> str:
            number = int(found[1])
            return self.chosen[number - 1] if 0 < number <= len(self.chosen) else found[0]

        return _NUMBER.sub(choice, name) if self.chosen else name


def expanded(pattern: str) -> list[Globbed]:
    """Give all that a pattern stands for; `TransferError` if it is none."""
    texts: list[str] = []  # with an empty one in the place of each part
    parts: list[Sequence[str]] = []
    at, count = 0, 1
    while at < len(pattern):
        if found := _PLAIN.match(pattern, at):
            texts.append(_ESCAPED.sub(r"\1", found[0]))
        elif (found := _SET.match(pattern, at)) or (found := _RANGE.match(pattern, at)):
            choices = _choices(found)
            count *= len(choices)
            texts.append("")
            parts.append(choices)
        if found is None or not count or count > MAX_URLS:
            reason = f"more than {MAX_URLS} URLs" if found and count else "bad pattern"
            raise TransferError(
                ExitCode.BAD_URL, f"{reason} at {at + 1} of {pattern!r} (-g takes it as it is)"
            )
        at = found.end()
    return [Globbed("".join(_filled(texts, chosen)), chosen) for chosen in product(*parts)]


def _choices(found: re.Match[str]) -> Sequence[str]:
    if found.re is _SET:
        return [_ESCAPED.sub(r"\1", each) for each in re.split(r"(?<!\\),", found[1])]
    first, last = [each for each in found.groups()[:6] if each is not None]
    step = int(found[7] or 1)
    if not step:
        return []
    if not first.isdigit():
        return [chr(each) for each in range(ord(first), ord(last) + 1, step)]
    if (int(last) - int(first)) // step >= MAX_URLS:
        return [""] * (MAX_URLS + 1)  # too many, which is for the caller to say
    width = len(first) if first.startswith("0") else 0
    return [str(each).zfill(width) for each in range(int(first), int(last) + 1, step)]


def _filled(texts: Sequence[str], chosen: Sequence[str]) -> Iterator[str]:
    rest = iter(chosen)
    for text in texts:
        yield text or next(rest)
