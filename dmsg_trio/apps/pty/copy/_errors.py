"""What ends a copy as a whole; what concerns one file is told by `Progress.problem`."""

from dmsg_trio._errors import DmsgError


class CopyError(DmsgError):
    """A copy ended before it was done; what can be resumed is kept."""


class CopyRefusedError(CopyError):
    """The other side does not do it, and says why."""


class CopyBrokenError(CopyError):
    """The connection was lost on the way."""
