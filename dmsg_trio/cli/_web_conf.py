"""The configuration files of the reference's dmsgweb, which are shell scripts for it, and not for us.

    # a comment
    PROXYPORT=4445
    export ADDPROXY='127.0.0.1:1080'
    RESOLVEPK=('02…ab:80' "03…cd")   # over several lines, too

Assignments of words and arrays are all there is. What a shell would run or look up is an error.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from dmsg_trio._errors import ConfigError, IdentityError

MAX_FILE: Final = 1024 * 1024  # bytes

Value: TypeAlias = str | tuple[str, ...]

PROXY: Final = "ADDPROXY"  # which may have a password in it
SECRETS: Final = frozenset({"DMSGWEBSK", "DMSGWEBSRVSK"})
ARRAYS: Final = frozenset(
    {"WEBPORT", "RESOLVEPK", "RAWTCP", "DMSGPORT", "LOCALPORT", "WHITELISTPKS"}
)
KNOWN: Final = SECRETS | ARRAYS | {"PROXYPORT", PROXY, "DMSGSESSIONS"}

_NAME: Final = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=")
_BARE: Final = re.compile(r"[A-Za-z0-9_./:@%+,=^-]+")
_SINGLE: Final = re.compile(r"'([^'\n]*)'")
_DOUBLE: Final = re.compile(r'"([^"\\$`\n]*)"')
_BLANK: Final = re.compile(r"[ \t]+")
_COMMENT: Final = re.compile(r"#[^\n]*")


def read_conf(path: Path) -> Mapping[str, Value]:
    """Read a file; `ConfigError` names the line that is wrong, and never what a secret is."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_FILE + 1)
        text = data.decode()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text") from None
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path} is larger than {MAX_FILE} bytes")
    settings = parse_conf(text, str(path))
    if stat.S_IMODE(mode) & 0o077:
        if any(settings.get(name) for name in SECRETS):
            raise IdentityError(f"{path}: others can read the key in it; mend it: chmod 600 {path}")
        if "@" in settings.get(PROXY, ""):
            raise ConfigError(
                f"{path}: others can read the password in {PROXY}; mend it: chmod 600 {path}"
            )
    return settings


def parse_conf(text: str, where: str) -> dict[str, Value]:
    """Read the text of a file; `ConfigError` names the line that is wrong."""
    return _Parser(text.replace("\r\n", "\n"), where).settings()


@dataclass
class _Parser:
    text: str
    where: str
    position: int = 0

    def settings(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while self._skip_to_something():
            name = self._take(_NAME)
            if name is None:
                raise self._error("not NAME=value")
            if name not in KNOWN:
                raise self._error(f"{name} is no setting of dmsgweb")
            if self._peek() == "(":
                found[name] = self._array()
            else:
                word = self._word()
                found[name] = (word,) if name in ARRAYS and word else word or ""
            self._end_of_line()
        return found

    def _array(self) -> tuple[str, ...]:
        words: list[str] = []
        begin = self.position
        self.position += 1
        while self._skip_to_something():
            if self._peek() == ")":
                self.position += 1
                return tuple(word for word in words if word)
            word = self._word()
            if word is None:
                raise self._error(f"{self._peek()!r} in a list means something to a shell")
            words.append(word)
        self.position = begin
        raise self._error("a list has no ) at its end")

    def _word(self) -> str | None:
        """Take pieces that stand together; None if there is not even an empty one."""
        pieces: list[str] = []
        while (
            piece := next(
                (p for p in map(self._take, (_BARE, _SINGLE, _DOUBLE)) if p is not None), None
            )
        ) is not None:
            pieces.append(piece)
        return "".join(pieces) if pieces else None

    def _end_of_line(self) -> None:
        before = self.position
        self._take(_BLANK)
        if self.position > before or self._peek() != "#":
            self._take(_COMMENT)
        if self._peek() not in ("", "\n"):
            raise self._error(f"{self._peek()!r} behind a value means something to a shell")

    def _skip_to_something(self) -> bool:
        while self._peek() in (" ", "\t", "\n", "#") and self._peek():
            if self._take(_BLANK) is None and self._take(_COMMENT) is None:
                self.position += 1
        return self.position < len(self.text)

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self.text, self.position)
        if found is None:
            return None
        self.position = found.end()
        return found[1] if found.re.groups else found[0]

    def _error(self, what: str) -> ConfigError:
        line = self.text.count("\n", 0, self.position) + 1
        return ConfigError(
            f"{self.where}, line {line}: {what}; only NAME=value and NAME=( … ) are read"
        )


PROXY_TEMPLATE: Final = """\
# Settings of dmsgweb. Name this file in the variable DMSGWEB; flags and variables come first.
# It is read, and not run: no $VARIABLES and no commands.

# the port of the proxy on 127.0.0.1, for SOCKS5 and HTTP
#PROXYPORT=4445

# another proxy, for everything that is not on dmsg; with a password in it nobody else may read this file
#ADDPROXY='127.0.0.1:1080'

# local ports that lead to addresses, instead of the proxy; as many of one as of the other
#WEBPORT=('8080')
#RESOLVEPK=('')
# and for each whether it carries bytes and not HTTP
#RAWTCP=('false')

# servers to have sessions with (0: all)
#DMSGSESSIONS=1

# the secret key; then nobody else may read this file
#DMSGWEBSK=''
"""
SRV_TEMPLATE: Final = """\
# Settings of dmsgweb srv. Name this file in the variable DMSGWEBSRV; flags and variables come first.
# It is read, and not run: no $VARIABLES and no commands.

# local ports, and the dmsg ports where they are; as many of one as of the other
#LOCALPORT=('8086')
#DMSGPORT=('80')
# and for each whether it carries bytes and not HTTP
#RAWTCP=('false')

# keys that may come (none: everybody); '80=KEY' for one dmsg port
#WHITELISTPKS=('')

# servers to have sessions with (0: all)
#DMSGSESSIONS=1

# the secret key; then nobody else may read this file
#DMSGWEBSRVSK=''
"""
