"""The options of dmsgcurl that are not about one answer: failing, remembering, showing, the network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from ._options import HERE

FAILING: Final = "When something goes wrong"
REMEMBERING: Final = "What is known from before"
SHOWING: Final = "What is shown"
NETWORK: Final = "The network"

failing = partial(typer.Option, rich_help_panel=FAILING, show_default=False)
remembering = partial(typer.Option, rich_help_panel=REMEMBERING, show_default=False)
showing = partial(typer.Option, rich_help_panel=SHOWING, show_default=False)
network = partial(typer.Option, rich_help_panel=NETWORK, show_default=False)


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
        remembering(
            *("-K", "--config"),
            metavar="FILE",
            is_eager=True,  # so it is no setting, as it could not name itself
            help="Read options and URLs from FILE.",
        ),
    ] = None
    next_: Annotated[
        bool,
        remembering(
            *("-:", "--next"),
            is_eager=True,
            help="Begin anew, with other options for other URLs.",
        ),
    ] = False


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
