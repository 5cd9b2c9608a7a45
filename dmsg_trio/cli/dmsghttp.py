"""dmsghttp: a folder of this machine, for anybody or for the keys on a list."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey, SecretKey

from ._access import AllowedKeys, AllowFile, allow_list, audience, keys_named
from ._main import main_of
from ._options import (
    HERE,
    AsJson,
    KeyOptions,
    ReferenceDiscovery,
    SecretArgument,
    ToolLogOptions,
    spread,
)
from ._run import printable, program, run
from ._secrets import refuse_on_command_line
from ._version import Version

if TYPE_CHECKING:
    from dmsg_trio.apps.access import AllowList
    from dmsg_trio.apps.files import Answered, UploadOptions

HTTP_PORT: Final = 80
VARIABLE: Final = "DMSGHTTP_SK"
THEIR_KEY: Final = "your.id"  # stands for the file of whoever is on the list

_SIZE: Final = re.compile(r"([0-9]{1,15})([kMGT]?)(i?)B?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

app = program()


def main() -> NoReturn:
    """Run the command, as the console script and ``python -m`` do."""
    main_of(app, "dmsghttp", "http")


@app.command()
@spread
def dmsghttp(
    folder: Annotated[
        str, typer.Argument(metavar="[DIR]", help="The folder to serve.", show_default=False)
    ] = "",
    *,
    directory: Annotated[
        str, typer.Option("--dir", "-d", metavar="DIR", help="The same as an option.")
    ] = ".",
    port: Annotated[
        int, typer.Option("--port", "-p", min=1, max=65535, help="The dmsg port.")
    ] = HTTP_PORT,
    wl: AllowedKeys = None,
    allow_file: AllowFile = None,
    all_files: Annotated[
        bool, typer.Option("--all", "-a", help="Serve files with a dot in front, too.")
    ] = False,
    upload: Annotated[
        bool, typer.Option("--upload", help="Let whoever may come add files, too.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --upload: let them replace files.")
    ] = False,
    max_upload: Annotated[
        str, typer.Option("--max-upload", metavar="SIZE", help="With --upload: size of a file.")
    ] = "10G",
    discovery: ReferenceDiscovery = HERE,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing about each request.")
    ] = False,
    as_json: AsJson = False,
    secret: SecretArgument = "",
    _version: Version = False,
    keys: KeyOptions,
    log: ToolLogOptions,
) -> None:
    """Serve a folder over dmsg, until SIGTERM or SIGINT; print where it is.

    Without --wl and --allow-file everybody may come who has the key. Each request is a line on standard error. The key may also be in the variable DMSGHTTP_SK; without
    one there is a new key each time.
    """
    refuse_on_command_line(secret, VARIABLE)
    if folder and directory != ".":
        raise ConfigError(f"one folder is enough: {folder} or {directory}")
    if overwrite and not upload:
        raise ConfigError("--overwrite needs --upload")
    service = _Service(
        root=_readable(folder or directory),
        port=port,
        discovery=discovery,
        allowed=_allowed(wl, allow_file),
        show_hidden=all_files,
        upload=upload,
        overwrite=overwrite,
        max_upload=_size(max_upload),
        access=None if quiet else (json_line if log.log_json else line),
        as_json=as_json,
    )
    sk = keys.secret_key(VARIABLE)
    log.set_up()
    run(partial(service.serve, sk or SecretKey.generate()), service=True)


# ---- settings ----


def _readable(folder: str) -> str:
    """Give the folder's own path, so that it does not matter where this program is run."""
    try:
        os.listdir(folder)
        return os.path.abspath(folder)
    except OSError as error:
        raise ConfigError(f"cannot serve {folder}: {error.strerror}") from None


def _allowed(wl: list[str] | None, allow_file: Path | None) -> AllowList | None:
    given = keys_named(wl or (), "--wl")
    if wl and not given:
        raise ConfigError("--wl names no key; leave it away to let everybody come")
    if not given and allow_file is None:
        return None
    return allow_list(allow_file, given)


def _size(text: str) -> int:
    if not (found := _SIZE.fullmatch(text)):
        raise ConfigError(f"--max-upload: not a size like 500M or 2GiB: {text}")
    number, unit, binary = found.groups()
    base, power = 1024 if binary else 1000, _POWERS[unit.lower()]
    return int(number) * math.prod([base] * power)


# ---- the service ----


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    root: str
    port: int
    discovery: str
    allowed: AllowList | None
    show_hidden: bool
    upload: bool
    overwrite: bool
    max_upload: int
    access: Callable[[Answered], str] | None
    as_json: bool

    async def serve(self, sk: SecretKey) -> None:
        """Serve the folder until cancelled; answers under way still get their time."""
        import trio

        from dmsg_trio._net.nurseries import open_service_nursery
        from dmsg_trio.apps.files import FilesApp
        from dmsg_trio.client import open_client
        from dmsg_trio.http import serve_asgi

        from ._joining import wait_until_reachable

        files = FilesApp(
            self.root,
            show_hidden=self.show_hidden,
            uploads=self._uploads() if self.upload else None,
            allowed=self.allowed,
            on_answered=self._tell_of,
        )
        async with (
            open_client(sk, discovery=self.discovery, wait=False) as client,
            open_service_nursery() as nursery,
        ):
            if self.allowed is not None:
                await nursery.start(self.allowed.watch)
            await nursery.start(serve_asgi, files, client, self.port)
            await wait_until_reachable(client, self.discovery)
            self._print_place(client.pk)
            await trio.sleep_forever()

    def _uploads(self) -> UploadOptions:
        from dmsg_trio.apps.files import UploadOptions

        return UploadOptions(max_size=self.max_upload, overwrite=self.overwrite)

    # ---- what it says ----

    def _print_place(self, pk: PublicKey) -> None:
        url = f"dmsg://{pk}:{self.port}/"
        key = "" if self.allowed is None else f"--key-file {THEIR_KEY} "
        curl = f"dmsgcurl -c {self.discovery} {key}{url}"
        if self.as_json:
            place = {"url": url, "pk": str(pk), "port": self.port, "dir": self.root, "curl": curl}
            print(json.dumps(place), flush=True)
            return
        lines = [
            f"serving  {printable(self.root)}",
            f"to       {self._audience()}",
            f"at       {url}",
            f"get      {curl}",
        ]
        print("\n".join(lines), flush=True)

    def _audience(self) -> str:
        who = audience(self.allowed)
        return f"{who}, who may add files" if self.upload else who

    def _tell_of(self, answered: Answered) -> None:
        if self.access is not None:
            print(self.access(answered), file=sys.stderr, flush=True)


def line(answered: Answered) -> str:
    """Write an answer as a line for people."""
    broken = "" if answered.is_whole else " broken off"
    return (
        f"{_now()} {printable(answered.client)} {answered.method} {printable(answered.path)}"
        f" {answered.status or '-'} {answered.size} {answered.seconds:.3f}{broken}"
    )


def json_line(answered: Answered) -> str:
    """Write an answer as a line for programs."""
    fields = {
        "time": _now(),
        "client": answered.client,
        "method": answered.method,
        "path": answered.path,
        "status": answered.status or None,
        "bytes": answered.size,
        "seconds": round(answered.seconds, 6),
        "whole": answered.is_whole,
    }
    return json.dumps(fields)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
