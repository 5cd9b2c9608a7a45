"""Command lines as curl has them: several in one (`--next`), or in files (`-K`).

What is here knows which options take a value, and nothing else of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dmsg_trio._errors import ConfigError

MAX_FILES: Final = 10  # that name each other
NEXT: Final = ("--next", "-:")
FILES: Final = ("--config", "-K")

_LINE: Final = re.compile(r"\s*([^\s=:]+)(?:\s*[=:\s]\s*(.*))?", re.DOTALL)
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"?.*', re.DOTALL)
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_DISCOVERY: Final = re.compile(r"https?://")


class Option(NamedTuple):
    """An option that there is, under one of its names."""

    name: str
    takes_value: bool


class Said(NamedTuple):
    """An option on a command line, or a URL, which has no name."""

    name: str
    value: str | None = None


@dataclass(slots=True)
class _Part:
    """The words of a command line up to ``--next``."""

    options: list[Said] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        words = [word for said in self.options for word in said if word is not None]
        return [*words, "--", *self.urls] if self.urls else words


def parts(args: Sequence[str], options: Mapping[str, Option]) -> list[list[str]]:
    """Cut a command line at each ``--next``, with files in the place of their names."""
    found = [_Part()]
    for said in _read(args, options, 0):
        part = found[-1]
        if said.name in NEXT:
            found.append(_Part())
        elif not said.name or said.name == "--url":
            part.urls.append(said.value or "")
        elif said.name == "-c" and _DISCOVERY.match(said.value or ""):
            part.options.append(Said("--discovery", said.value))  # as the reference has it
        elif (positive := _denied(said, options)) is not None:
            part.options = [
                each for each in part.options if options.get(each.name) != options[positive]
            ]
        else:
            part.options.append(said)
    return [each.words for each in found]


def _denied(said: Said, options: Mapping[str, Option]) -> str | None:
    """Say which option ``--no-option`` takes back."""
    positive = f"--{said.name.removeprefix('--no-')}"
    is_known = said.name in options or not said.name.startswith("--no-")
    return None if is_known or positive not in options else positive


def _read(args: Sequence[str], options: Mapping[str, Option], depth: int) -> Iterator[Said]:
    rest = iter(args)
    for word in rest:
        if word == "--":
            yield from (Said("", each) for each in rest)
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            if not _takes_value(name, options):
                yield Said(word)
            else:
                said = Said(name, value if equals else _value(name, rest))
                yield from _with_files(said, options, depth)
        elif word.startswith("-") and len(word) > 1:
            for said in _letters(word, rest, options):
                yield from _with_files(said, options, depth)
        else:
            yield Said("", word)


def _letters(word: str, rest: Iterator[str], options: Mapping[str, Option]) -> Iterator[Said]:
    """Read ``-sSo file`` and ``-ofile``."""
    for at, letter in enumerate(word[1:], start=2):
        if letter == "-":
            raise ConfigError(f"{word}: there is no option '-' among letters")
        name = f"-{letter}"
        if _takes_value(name, options):
            yield Said(name, word[at:] or _value(name, rest))
            return
        yield Said(name)


def _value(name: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        raise ConfigError(f"{name} needs a value")
    return value


def _takes_value(name: str, options: Mapping[str, Option]) -> bool:
    return name in FILES or name == "--url" or (name in options and options[name].takes_value)


def _with_files(said: Said, options: Mapping[str, Option], depth: int) -> Iterator[Said]:
    if said.name not in FILES or said.value is None:
        yield said
        return
    if depth == MAX_FILES:
        raise ConfigError(f"-K: more than {MAX_FILES} files that name each other: {said.value}")
    from ._curl_bodies import content_of  # slow to import

    text = content_of(said.value).decode(errors="surrogateescape")
    words: list[str] = []
    for line in text.splitlines():
        words += _words(line)
    yield from _read(words, options, depth + 1)


def _words(line: str) -> list[str]:
    """Read a line of a file: ``# remark``, ``silent``, ``-o file``, ``output = "a file"``."""
    found = _LINE.fullmatch(line.strip())
    if found is None or line.lstrip().startswith("#"):
        return []
    name = found[1] if found[1].startswith("-") else f"--{found[1]}"
    value = found[2]
    if value is None or value.startswith("#"):
        return [name]
    if quoted := _QUOTED.fullmatch(value):
        return [name, re.sub(r"\\(.)", lambda each: _ESCAPES.get(each[1], each[1]), quoted[1])]
    return [name, *value.split()[:1]]
