"""The receiving end without its stream: what a sender says becomes files, in blocking calls.

Nothing has its name before it is whole and its digest is the sender's. What cannot be written is
told, and the rest goes on; what breaks a rule of the protocol ends everything (`ValueError`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress

from dmsg_trio._wire.file_copy import (
    MAX_PATH,
    Abandoned,
    At,
    Complete,
    Data,
    Done,
    Event,
    Failed,
    File,
    Finished,
    Folder,
    FromReceiver,
    Link,
    Order,
    Up,
)

from ._arriving import ArrivingFile, WrongContentError
from ._policy import Policy
from ._settling import Settling
from ._target import Place, Target, look_at, umask
from ._walk import Walk


class Receiver:
    """Writes what a sender says into ``target``; ``checkpoint`` may raise to end a long step."""

    def __init__(self, target: Target, policy: Policy, checkpoint: Callable[[], None]) -> None:
        self._target = target
        self._policy = policy
        self._checkpoint = checkpoint
        self._umask = umask()
        self._order = Order()
        self._walk = Walk(target, policy, self._umask, self._fail)
        self._arriving: ArrivingFile | None = None  # None: what comes is not written
        self._settling = Settling(self._fail)
        self._replies: list[FromReceiver] = []
        self._is_closed = False

    def take_untrusted(self, events: Iterable[Event]) -> list[FromReceiver]:
        """Do what a sender says, and give what is to be answered."""
        content: list[bytes] = []
        for event in events:
            self._order.check(event)
            if isinstance(event, Data):
                content.append(event.data)
                continue
            self._write(content)
            self._take_untrusted(event)
        self._write(content)
        replies, self._replies = self._replies, []
        return replies

    def _take_untrusted(self, event: Event) -> None:
        match event:
            case Folder():
                self._walk.enter_untrusted(self._order.item, event)
            case Up():
                if (left := self._walk.leave()) is not None:
                    self._settling.add(left)
            case Link():
                self._make_link_untrusted(event)
            case File():
                self._begin_untrusted(event)
            case At(offset):
                self._go_on_at_untrusted(offset)
            case Complete(digest):
                self._complete(digest)
            case Abandoned():
                self._drop(keep=False)
            case Done():
                self._settling.settle()
                with suppress(OSError):  # there are systems on which folders know no such thing
                    os.fsync(self._target.number)
                self._replies.append(Finished())
            case _:  # Unreadable: for whoever watches
                pass

    # ---- links ----

    def _make_link_untrusted(self, link: Link) -> None:
        place = self._walk.place_untrusted(link.name)
        if not self._policy.recursive:
            raise ValueError(f"{link.name!r} is a link, which was not asked for")
        if place is None:
            return
        try:
            self._make_link(place, link)
        except OSError as error:
            self._fail(self._order.item, place.path, error)

    def _make_link(self, place: Place, link: Link) -> None:
        folder, name = place.folder, place.name
        look_at(place, overwrite=self._policy.overwrite)
        with ExitStack() as undo:
            hidden = name
            if self._policy.overwrite:
                hidden = f".dmsg-{secrets.token_hex(16)}.part".encode()
            os.symlink(link.target, hidden, dir_fd=folder)
            undo.callback(os.unlink, hidden, dir_fd=folder)
            if self._policy.preserve:
                times = (link.mtime, link.mtime)
                os.utime(hidden, ns=times, dir_fd=folder, follow_symlinks=False)
            if hidden != name:
                os.rename(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
            undo.pop_all()

    # ---- files ----

    def _begin_untrusted(self, file: File) -> None:
        place = self._walk.place_untrusted(file.name)
        if place is None:
            return
        arriving = ArrivingFile(self._order.item, file, place, self._policy, self._checkpoint)
        self._arriving = arriving
        try:
            have = arriving.open(self._umask, self._walk.stale)
        except OSError as error:
            self._give_up(arriving, error)
        else:
            self._replies += [] if have is None else [have]

    def _go_on_at_untrusted(self, offset: int) -> None:
        if (arriving := self._arriving) is None:
            return
        try:
            if not arriving.go_on_at_untrusted(offset):
                self._drop(keep=False)
        except OSError as error:
            self._give_up(arriving, error)

    def _write(self, content: list[bytes]) -> None:
        arriving = self._arriving
        if content and arriving is not None:
            try:
                arriving.write(content)
            except OSError as error:
                self._give_up(arriving, error)
        content.clear()

    def _complete(self, digest: bytes) -> None:
        if (arriving := self._arriving) is None:
            return
        try:
            whole = arriving.complete(digest)
        except WrongContentError as error:
            self._give_up(arriving, error, keep=False)
            return
        self._arriving = None
        if whole is not None:
            self._settling.add(whole)

    def _give_up(self, arriving: ArrivingFile, error: OSError, *, keep: bool = True) -> None:
        """What came of the file stays for the next run, when there may be room for the rest."""
        self._fail(arriving.item, arriving.place.path, error)
        self._drop(keep=keep)

    def _drop(self, *, keep: bool) -> None:
        if self._arriving is not None:
            self._arriving.drop(keep=keep)
            self._arriving = None

    # ---- failing and ending ----

    def _fail(self, item: int, path: bytes, error: OSError) -> None:
        self._replies.append(Failed(item, path[-MAX_PATH:], error.strerror or str(error)))

    def close(self) -> None:
        """End, wherever it was: what can be resumed stays, hidden; twice is as once."""
        if self._is_closed:
            return
        self._is_closed = True
        with ExitStack() as closing:
            closing.callback(self._walk.close)
            closing.callback(self._settling.close)
            closing.callback(self._drop, keep=True)
