"""The options of dmsgcurl: curl's, and the long ones of the reference's dmsgcurl."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from ._options import HERE

SAVING: Final = "What becomes of the answer"
ASKING: Final = "What is asked"
FAILING: Final = "When something goes wrong"
REMEMBERING: Final = "What is known from before"
SHOWING: Final = "What is shown"
NETWORK: Final = "The network"

saving = partial(typer.Option, rich_help_panel=SAVING, show_default=False)
asking = partial(typer.Option, rich_help_panel=ASKING, show_default=False)
failing = partial(typer.Option, rich_help_panel=FAILING, show_default=False)
remembering = partial(typer.Option, rich_help_panel=REMEMBERING, show_default=False)
showing = partial(typer.Option, rich_help_panel=SHOWING, show_default=False)
network = partial(typer.Option, rich_help_panel=NETWORK, show_default=False)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingOptions:
    """When to give up, and when to try again."""

    fail: Annotated[
        bool,
        failing("-f", "--fail", help="A status from 400 on is a failure (22)."),
    ] = False
    fail_with_body: Annotated[
        bool,
        failing("--fail-with-body", help="The same, and the body is written."),
    ] = False
    connect_timeout: Annotated[
        float,
        failing(
            "--connect-timeout",
            metavar="SECONDS",
            min=0,
            help="To join the network, and to reach who is asked (30).",
        ),
    ] = 30.0
    max_time: Annotated[
        float | None,
        failing("-m", "--max-time", metavar="SECONDS", min=0, help="For a whole transfer; 0: any."),
    ] = None
    retry: Annotated[
        int | None,
        failing("--retry", metavar="TIMES", min=0, help="Try again, and go on where it broke off."),
    ] = None
    retry_delay: Annotated[
        float,
        failing(
            "--retry-delay",
            "--wait",
            metavar="SECONDS",
            min=0,
            help="Pause before it (0: 1, 2, 4…).",
        ),
    ] = 0.0
    retry_max_time: Annotated[
        float, failing("--retry-max-time", metavar="SECONDS", min=0, help="No new try after this.")
    ] = 0.0
    retry_all_errors: Annotated[
        bool,
        failing("--retry-all-errors", help="Whatever went wrong."),
    ] = False
    fail_early: Annotated[
        bool,
        failing("--fail-early", help="Of several URLs: end with the first that fails."),
    ] = False
    tries: Annotated[
        int | None,
        failing(
            "-t",
            "--try",
            metavar="TIMES",
            min=0,
            help="The same as --retry, the first one counted; 0: no end.",
        ),
    ] = None
    limit_rate: Annotated[
        str, failing("--limit-rate", metavar="SPEED", help="Bytes a second at the most: 500K, 2M.")
    ] = ""
    speed_limit: Annotated[
        int | None,
        failing(
            "-Y",
            "--speed-limit",
            metavar="BYTES",
            min=1,
            help="Give up below so many bytes a second…",
        ),
    ] = None
    speed_time: Annotated[
        int | None,
        failing("-y", "--speed-time", metavar="SECONDS", min=1, help="…for so long (30)."),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowingOptions:
    """What is told, on standard error."""

    silent: Annotated[bool, showing("-s", "--silent", help="No bar, no errors.")] = False
    show_error: Annotated[bool, showing("-S", "--show-error", help="With -s: errors.")] = False
    progress_bar: Annotated[bool, showing("-#", "--progress-bar", help="A plain bar.")] = False
    no_progress_meter: Annotated[bool, showing("--no-progress-meter", help="No bar.")] = False
    verbose: Annotated[
        bool,
        showing(
            "-v", "--verbose", help="Headers both ways, and each step; without a URL: the version."
        ),
    ] = False
    stderr: Annotated[
        str,
        showing("--stderr", metavar="FILE", help="Tell all this to FILE; - is standard output."),
    ] = ""
    write_out: Annotated[
        str,
        showing(
            "-w",
            "--write-out",
            metavar="FORMAT",
            help="Print this in the end, with %{http_code}, %{size_download}…",
        ),
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberingOptions:
    """What is known from before, and kept for later."""

    cookie: Annotated[
        list[str] | None,
        remembering(
            "-b",
            "--cookie",
            metavar="DATA|FILE",
            help="Send name=value; or read cookies from FILE, and keep those that come.",
        ),
    ] = None
    cookie_jar: Annotated[
        str,
        remembering(
            "-c",
            "--cookie-jar",
            metavar="FILE",
            help="Write all cookies to FILE in the end; - is standard output.",
        ),
    ] = ""
    junk_session_cookies: Annotated[
        bool,
        remembering(
            "-j", "--junk-session-cookies", help="Read no cookies that end with a session."
        ),
    ] = False
    time_cond: Annotated[
        str,
        remembering(
            "-z",
            "--time-cond",
            metavar="TIME|FILE",
            help="Only what is newer than that; with - in front, what is not.",
        ),
    ] = ""
    etag_save: Annotated[
        str, remembering("--etag-save", metavar="FILE", help="Write the ETag to FILE.")
    ] = ""
    etag_compare: Annotated[
        str,
        remembering("--etag-compare", metavar="FILE", help="Only what has another ETag."),
    ] = ""
    netrc: Annotated[
        bool, remembering("-n", "--netrc", help="Log in with what ~/.netrc has for the key.")
    ] = False
    netrc_file: Annotated[
        Path | None, remembering("--netrc-file", metavar="FILE", help="The same from FILE.")
    ] = None
    config: Annotated[
        list[str] | None,
        remembering("-K", "--config", metavar="FILE", help="Read options and URLs from FILE."),
    ] = None
    next_: Annotated[
        bool,
        remembering("-:", "--next", help="Begin anew, with other options for other URLs."),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """How to get onto the network."""

    discovery: Annotated[
        str,
        network(
            "--discovery",
            "--dmsg-disc",
            envvar="DMSG_DISCOVERY",
            metavar="URL",
            help="URL of the discovery; also -c URL.",
        ),
    ] = HERE
    sessions: Annotated[
        int,
        network("--sess", metavar="N", min=1, help="Servers to be connected to."),
    ] = 1
    loglvl: Annotated[
        str, typer.Option("-l", "--loglvl", hidden=True, help="The same as --log-level.")
    ] = ""
    secret: Annotated[
        str | None, typer.Option("--sk", hidden=True, help="Refused: others could read it.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredOptions:
    """What scripts that were written for others say, and what changes nothing here."""

    insecure: Annotated[bool, typer.Option("-k", "--insecure", hidden=True)] = False
    no_buffer: Annotated[bool, typer.Option("-N", "--no-buffer", hidden=True)] = False
    replace: Annotated[bool, typer.Option("--replace", hidden=True)] = False
    http11: Annotated[bool, typer.Option("--http1.1", hidden=True)] = False
    disable: Annotated[bool, typer.Option("-q", "--disable", hidden=True)] = False
    ipv4: Annotated[bool, typer.Option("-4", "--ipv4", hidden=True)] = False
    ipv6: Annotated[bool, typer.Option("-6", "--ipv6", hidden=True)] = False
    raw: Annotated[bool, typer.Option("--raw", hidden=True)] = False
    no_keepalive: Annotated[bool, typer.Option("--no-keepalive", hidden=True)] = False
    tcp_nodelay: Annotated[bool, typer.Option("--tcp-nodelay", hidden=True)] = False
    remove_on_error: Annotated[bool, typer.Option("--remove-on-error", hidden=True)] = False
    given: Annotated[list[str] | None, typer.Option("--given", hidden=True)] = None
    more: Annotated[list[str] | None, typer.Option("--more", hidden=True)] = None
