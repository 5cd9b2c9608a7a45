"""A command without a terminal where the host has nothing but terminals, as those of the reference.

A small script there makes the terminal pass bytes as they are, and puts pipes between it and the
command. It says when it is ready, and behind all output how the command ended. What it reads are
frames: a count and as many bytes of input, none for its end; the name of a signal; a full stop when
nobody wants any more of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dmsg_trio._errors import RemoteProtocolError

MAX_FRAME: Final = 32768  # bytes, as the reference's programs write at the most
MAX_INPUT: Final = MAX_FRAME - len(f"{MAX_FRAME}\n")
MAX_CODE: Final = 4  # characters behind the last mark: three digits and a full stop
END_OF_INPUT: Final = b"0\n"
LEAVE: Final = b".\n"
SHELL: Final = "/bin/sh"

# A signal is for the command alone: a trap that does nothing keeps the shells between alive, and
# unlike an ignored signal is not inherited by what they run.
_SCRIPT: Final = """\
stty raw -echo || exit
mark=$1
shift
heed() { trap : HUP INT QUIT TERM USR1 USR2 ALRM; }
feed() {
  while read -r frame; do
    case $frame in
      .) break ;;
      0) exec >/dev/null ;;
      [A-Z]*) kill -s "$frame" 0 ;;
      *) dd bs="$frame" count=1 iflag=fullblock 2>/dev/null || break ;;
    esac
  done
}
heed
printf %s "$mark"
[ $# -gt 0 ] || set -- "${SHELL:-/bin/sh}"
{ heed; feed; } |
  { heed; "$@" 2>&1; printf %s%d. "$mark" $?; } 2>/dev/null |
  { trap '' HUP INT QUIT TERM USR1 USR2 ALRM; exec cat; }
"""


def wrapped(argv: tuple[str, ...], mark: str) -> tuple[str, ...]:
    """Say what to run on a terminal so that ``argv`` has pipes; none is a shell."""
    return (SHELL, "-c", _SCRIPT, "sh", mark, *argv)


def input_frame(data: bytes) -> bytes:
    """Wrap up to `MAX_INPUT` bytes of input."""
    return b"%d\n%b" % (len(data), data)


def signal_frame(name: str) -> bytes:
    """Ask for a signal, named without SIG."""
    return f"{name}\n".encode()


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """What was found in a piece of output."""

    data: bytes = b""  # of the command's
    is_ready: bool = False  # it may have input
    code: int | None = None  # how it ended


class Unwrapper:
    """Tells the command's output from what the script says."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._held = b""  # what may be a mark, or a code
        self._is_ready = False

    @property
    def complaint(self) -> str:
        """What came before it was ready: why it never will be."""
        return self._held.decode(errors="replace").strip()

    def receive_data(self, data: bytes) -> Unwrapped:
        """Take in what was read."""
        data = self._held + data
        if not self._is_ready:
            before, found, data = data.partition(self._mark)
            if not found:
                self._held = before
                return Unwrapped()
            self._is_ready = True
        output, found, rest = data.partition(self._mark)
        if not found:
            kept = self._start_of_mark(output)
            self._held = output[len(output) - kept :]
            return Unwrapped(output[: len(output) - kept], is_ready=True)
        code, stop, _ = rest.partition(b".")
        if stop:
            return Unwrapped(output, is_ready=True, code=_code(code))
        if len(rest) >= MAX_CODE:
            raise RemoteProtocolError(f"an exit code that begins with {rest[:MAX_CODE]!r}")
        self._held = found + rest
        return Unwrapped(output, is_ready=True)

    def _start_of_mark(self, data: bytes) -> int:
        """Count the bytes at the end that a mark may begin with."""
        for count in range(min(len(self._mark) - 1, len(data)), 0, -1):
            if data.endswith(self._mark[:count]):
                return count
        return 0


def _code(digits: bytes) -> int:
    if not digits.isdigit() or (code := int(digits)) > 255:
        raise RemoteProtocolError(f"an exit code of {digits!r}")
    return code
