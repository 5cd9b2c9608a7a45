"""dmsg keys: make, show and check the files that hold who somebody is."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Annotated

import typer

from dmsg_trio import _identity
from dmsg_trio._errors import IdentityError
from dmsg_trio._identity import Sealed
from dmsg_trio._keys import PublicKey, SecretKey

from . import _secrets
from ._options import AsJson, PassphraseOptions, spread
from ._run import printable, program

app = program(no_args_is_help=True)

File = Annotated[
    Path | None,
    typer.Argument(
        help="The identity file; by default 'dmsg/identity' in the user's config folder."
    ),
]


@app.callback()
def keys() -> None:
    """Make, show and check identity files, which hold a secret key for its owner alone.

    A passphrase comes from --passphrase-file, --passphrase-fd or the terminal, never from an
    argument. Exit codes: 0 done, 1 refused (one line says why), 2 wrong usage.
    """


@app.command()
@spread
def new(
    passphrase: PassphraseOptions,
    path: File = None,
    *,
    seal: Annotated[bool, typer.Option("--seal", help="Put it under a passphrase.")] = False,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Take the key of another file, or of - for standard input, not a new one.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an identity file, with a new key; print its public key.

    The file is never overwritten. --from also reads 64 hex digits, and the configuration files of
    other dmsg programs.
    """
    if source is None:
        sk = SecretKey.generate()
    else:
        sk = _secrets.key_from_file(source, passphrase.passphrase)
    if path is None:
        path = _secrets.default_identity()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _identity.create_identity(path, sk, passphrase=passphrase.new_passphrase() if seal else None)
    _tell(path, sk.pk, sealed=seal, as_json=as_json)


@app.command()
def show(path: File = None, *, as_json: AsJson = False) -> None:
    """Print the public key of an identity file; a sealed one needs no passphrase for that."""
    path = path or _secrets.default_identity()
    identity = _identity.read_identity(path)
    _tell(path, identity.pk, sealed=isinstance(identity, Sealed), as_json=as_json)


@app.command()
@spread
def check(
    passphrase: PassphraseOptions,
    path: File = None,
    *,
    open_it: Annotated[
        bool, typer.Option("--open", help="Try the passphrase of a sealed file too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell whether an identity file is right, and if not, what is wrong with it."""
    path = path or _secrets.default_identity()
    try:
        identity = _identity.read_identity(path)
        _check_folder(path)
        if open_it:
            _identity.open_identity(identity, str(path), passphrase=passphrase.passphrase)
    except IdentityError as error:
        if not as_json:
            raise
        print(json.dumps({"path": str(path), "ok": False, "fault": str(error)}))
        raise typer.Exit(1) from None
    sealed = isinstance(identity, Sealed)
    if as_json:
        _tell(path, identity.pk, sealed=sealed, as_json=True, ok=True)
    else:
        form = "sealed" if sealed else "plain"
        print(f"{printable(str(path))} is right: the {form} identity of {identity.pk}")


@app.command()
@spread
def seal(passphrase: PassphraseOptions, path: File = None, *, as_json: AsJson = False) -> None:
    """Put a plain identity file under a passphrase.

    What stood in the clear may survive on the disk, in backups and snapshots: a key that was sealed
    from the beginning (dmsg keys new --seal) is better protected.
    """
    path = path or _secrets.default_identity()
    if isinstance(_identity.read_identity(path), Sealed):
        raise IdentityError(f"{path} is sealed already")  # before anybody types a passphrase
    pk = _identity.seal(path, passphrase.new_passphrase())
    _tell(path, pk, sealed=True, as_json=as_json)


@app.command()
@spread
def unseal(passphrase: PassphraseOptions, path: File = None, *, as_json: AsJson = False) -> None:
    """Write the key of a sealed identity file back in the clear."""
    path = path or _secrets.default_identity()
    pk = _identity.unseal(path, passphrase.passphrase)
    _tell(path, pk, sealed=False, as_json=as_json)


def _check_folder(path: Path) -> None:
    folder = path.resolve().parent
    mode = folder.stat().st_mode
    if mode & 0o022 and not mode & stat.S_ISVTX:
        shown = f"{folder} ({stat.filemode(mode)})"
        raise IdentityError(
            f"in {shown}, where {path.name} is, others can put another file in its place"
        )


def _tell(path: Path, pk: PublicKey, *, sealed: bool, as_json: bool, **more: object) -> None:
    if as_json:
        print(json.dumps({"path": str(path), **more, "public_key": str(pk), "sealed": sealed}))
        return
    print(pk)
    if sys.stdout.isatty():
        print(f"{printable(str(path))}, {'sealed' if sealed else 'plain'}", file=sys.stderr)
