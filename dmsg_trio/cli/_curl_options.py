"""The options of dmsgcurl that each transfer has: curl's, and the long ones of the reference's dmsgcurl."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

SAVING: Final = "What becomes of the answer"
ASKING: Final = "What is asked"

saving = partial(typer.Option, rich_help_panel=SAVING, show_default=False)
asking = partial(typer.Option, rich_help_panel=ASKING, show_default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavingOptions:
    """Where answers go."""

    output: Annotated[
        list[str] | None,
        saving(
            "-o",
            "--output",
            "--out",
            metavar="FILE",
            help="Write to FILE, which is replaced when all is there; - is standard output.",
        ),
    ] = None
    remote_name: Annotated[
        int, saving("-O", "--remote-name", count=True, help="Write to a file named as in the URL.")
    ] = 0
    remote_name_all: Annotated[bool, saving("--remote-name-all", help="-O for every URL.")] = False
    remote_header_name: Annotated[
        bool,
        saving(
            "-J", "--remote-header-name", help="With -O: take the name that the server proposes."
        ),
    ] = False
    output_dir: Annotated[
        Path, saving("--output-dir", metavar="FOLDER", help="Folder of these files.")
    ] = Path()
    create_dirs: Annotated[bool, saving("--create-dirs", help="Make missing folders.")] = False
    continue_at: Annotated[
        str,
        saving(
            "-C",
            "--continue-at",
            metavar="OFFSET",
            help="Go on with a download; - finds out where.",
        ),
    ] = ""
    parallel: Annotated[
        bool,
        saving(
            "-Z", "--parallel", help="Several URLs at once, and a large file over several streams."
        ),
    ] = False
    parallel_max: Annotated[
        int,
        saving("--parallel-max", metavar="N", min=1, max=300, help="How many URLs at once (50)."),
    ] = 50
    parallel_ranges: Annotated[
        int,
        saving(
            "--parallel-ranges",
            metavar="N",
            min=0,
            max=64,
            help="Over how many streams a large file comes (with -Z: 4).",
        ),
    ] = 0
    span: Annotated[
        str, saving("-r", "--range", metavar="RANGE", help="Only these bytes: 0-499, 500- or -500.")
    ] = ""
    include: Annotated[
        bool,
        saving("-i", "--include", help="Put the headers before the body."),
    ] = False
    dump_header: Annotated[
        str, saving("-D", "--dump-header", metavar="FILE", help="Write the headers to FILE.")
    ] = ""
    remote_time: Annotated[
        bool,
        saving("-R", "--remote-time", help="Give files the server's time."),
    ] = False
    compressed: Annotated[
        bool,
        saving("--compressed", help="Ask for compression, and unpack."),
    ] = False
    max_filesize: Annotated[
        str,
        saving("--max-filesize", metavar="BYTES", help="Refuse larger ones."),
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskingOptions:
    """What the requests are."""

    request: Annotated[
        str,
        asking("-X", "--request", metavar="METHOD", help="GET, PUT, DELETE…"),
    ] = ""
    data: Annotated[
        list[str] | None,
        asking(
            "-d",
            "--data",
            "--data-ascii",
            metavar="DATA",
            help="POST this; @FILE is a file without its line ends.",
        ),
    ] = None
    data_raw: Annotated[
        list[str] | None,
        asking("--data-raw", metavar="DATA", help="The same, an @ included."),
    ] = None
    data_binary: Annotated[
        list[str] | None,
        asking("--data-binary", metavar="DATA", help="POST this; @FILE is a file as it is."),
    ] = None
    data_urlencode: Annotated[
        list[str] | None,
        asking(
            "--data-urlencode",
            metavar="DATA",
            help="POST this, encoded: text, name=text, name@file.",
        ),
    ] = None
    json: Annotated[
        list[str] | None,
        asking("--json", metavar="DATA", help="POST this JSON."),
    ] = None
    form: Annotated[
        list[str] | None,
        asking(
            "-F",
            "--form",
            metavar="NAME=VALUE",
            help="POST a form; @FILE uploads one, <FILE takes its text.",
        ),
    ] = None
    form_string: Annotated[
        list[str] | None,
        asking(
            "--form-string", metavar="NAME=TEXT", help="The same, where @ and < are themselves."
        ),
    ] = None
    get: Annotated[
        bool,
        asking("-G", "--get", help="Put the data of -d in the URL."),
    ] = False
    upload_file: Annotated[
        list[str] | None,
        asking("-T", "--upload-file", metavar="FILE", help="PUT a file; - is standard input."),
    ] = None
    head: Annotated[bool, asking("-I", "--head", help="Only the headers.")] = False
    header: Annotated[
        list[str] | None,
        asking(
            "-H",
            "--header",
            metavar="LINE",
            help="Add, replace (Name: x), remove (Name:) a header; @FILE has many.",
        ),
    ] = None
    user_agent: Annotated[
        str | None, asking("-A", "--user-agent", "-a", "--agent", metavar="NAME", help="Who asks.")
    ] = None
    referer: Annotated[
        str,
        asking("-e", "--referer", metavar="URL", help="Where it was found."),
    ] = ""
    user: Annotated[
        str,
        asking(
            "-u",
            "--user",
            metavar="NAME[:PASSWORD]",
            help="Log in; without a password the terminal is asked.",
        ),
    ] = ""
    oauth2_bearer: Annotated[
        str,
        asking("--oauth2-bearer", metavar="TOKEN", help="Log in by a token."),
    ] = ""
    url_query: Annotated[
        list[str] | None,
        asking("--url-query", metavar="DATA", help="Put this in the URL, encoded."),
    ] = None
    globoff: Annotated[
        bool, asking("-g", "--globoff", help="Take {a,b} and [1-9] in URLs as they are.")
    ] = False
    location: Annotated[bool, asking("-L", "--location", help="Follow redirects.")] = False
    location_trusted: Annotated[
        bool, asking("--location-trusted", help="The same, and log in wherever they lead.")
    ] = False
    max_redirs: Annotated[
        int,
        asking("--max-redirs", metavar="N", min=-1, help="How many (50); -1: all."),
    ] = 50
