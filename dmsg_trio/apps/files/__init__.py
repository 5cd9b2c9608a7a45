"""dmsghttp: a folder over HTTP, for who has a key that may."""

from ._answers import Answered
from ._app import FilesApp
from ._arriving import UploadOptions

__all__ = ["Answered", "FilesApp", "UploadOptions"]
