"""Who may come to an app: lists of keys that count while connections live, and files that change."""

from ._admission import Admission, admission
from ._allow import AllowList, Listed
from ._changes import call_at_changes
from ._watched import WatchedFile

__all__ = [
    "Admission",
    "AllowList",
    "Listed",
    "WatchedFile",
    "admission",
    "call_at_changes",
]
