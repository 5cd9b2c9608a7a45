"""dmsgpty-cli: a shell on any machine that has a key, files to and from it, and its ports.

What the commands do is in modules of their own, which are imported when they run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from dmsg_trio._errors import ConfigError

from ._forward_specs import ForwardSpec
from ._group import Group
from ._main import main_of
from ._options import AsJson, ToolLogOptions, spread
from ._pty_way import ShortWayOptions, WayOptions
from ._run import STOPS, clearly, program, run
from ._version import Version

if TYPE_CHECKING:
    from typer._click import Context
    from typer._click.shell_completion import CompletionItem

OWN_FAILURE: Final = 255  # as ssh exits if it is not the command that failed
KEEP: Final = 300  # seconds for which a shell outlives a lost connection
SHELL: Final = "shell"  # the command that needs no name
BREAK: Final = "\0--"  # stands for the "--" before a command, which the parser would swallow


class _Program(Group):
    """Takes what is no command for the address of a host."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Put the name of the command in front: that which is meant if none is named."""
        if ctx.resilient_parsing and not args:
            return super().parse_args(ctx, args)  # a shell asks with what one may begin
        at = self._first_word(args)
        word = args[at] if at < len(args) else ""
        if word in self.commands:
            args = [word, *args[:at], *args[at + 1 :]]
        elif args not in (["--help"], ["--version"], ["-v"]):
            args = [SHELL, *args]
        if args[0] == SHELL and "--" in args:
            args[args.index("--")] = BREAK
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Context) -> object:
        """Run the command; its exit code tells a failure of ours also where others call us."""
        return clearly(partial(super().invoke, ctx), failure=OWN_FAILURE)

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        """Offer all commands, and the options of that which needs no name."""
        found = super().shell_complete(ctx, incomplete)
        found += self.commands[SHELL].shell_complete(ctx, incomplete)
        return list({each.value: each for each in found}.values())

    def _first_word(self, args: list[str]) -> int:
        """Find the first argument that is no option and no option's value."""
        with_value = {
            name
            for option in self.commands[SHELL].params
            if not getattr(option, "is_flag", True)
            for name in option.opts
        }
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] != "--":
            at += 2 if args[at] in with_value else 1
        return at


app = program(cls=_Program)


def main() -> NoReturn:
    """Run the command, as the console script and ``python -m`` do."""
    main_of(app, "dmsgpty-cli", "pty", "cli", failure=OWN_FAILURE)


def _exit_with(do: Callable[[], Awaitable[int]]) -> NoReturn:
    # Who ignores SIGHUP from the start, as with `nohup`, means to go on without a terminal.
    hang_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    sys.exit(run(do, failure=OWN_FAILURE, stops=(*STOPS, *hang_up)))


@app.callback()
def dmsgpty_cli(*, _version: Version = False) -> None:
    """Have a shell on another machine: dmsgpty-cli PK[:port] [COMMAND ARGS...].

    Options stand before PK; 'dmsgpty-cli shell --help' shows them. Without a key of yours (--key-file
    and others) the host on this machine carries it; without PK it is a shell on this machine. Exit
    code: the command's, 128 and the number of the signal that ended it, 255 for a failure of this
    program.
    """


Host = Annotated[
    str, typer.Argument(metavar="[PK[:port]]", help="The host; none is this machine's.")
]


@app.command(SHELL, context_settings={"allow_interspersed_args": False})
@spread
def shell(
    host: Host = "",
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND ARGS...]", help="What to run there.")
    ] = None,
    *,
    terminal: Annotated[
        bool | None,
        typer.Option("--tty/--no-tty", "-t/-T", help="Give a command a terminal, or none."),
    ] = None,
    escape: Annotated[
        str, typer.Option("--escape", "-e", help="The escape character; 'none' is none.")
    ] = "~",
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="End the shell when the connection is lost.")
    ] = False,
    here: Annotated[
        list[str] | None,
        typer.Option("-L", metavar="[BIND:]PORT:HOST:PORT", help="Forward a port of this machine."),
    ] = None,
    there: Annotated[
        list[str] | None,
        typer.Option("-R", metavar="[BIND:]PORT:HOST:PORT", help="Forward a port of the host."),
    ] = None,
    no_command: Annotated[
        bool, typer.Option("-N", help="Run nothing, forward ports only.")
    ] = False,
    addr: Annotated[str, typer.Option(help="The host, as the reference names it.")] = "",
    cmd: Annotated[
        str, typer.Option("--cmd", "-c", help="What to run on a terminal, as the reference has it.")
    ] = "",
    args: Annotated[
        list[str] | None, typer.Option("--args", "-a", help="Its arguments, with commas between.")
    ] = None,
    way: ShortWayOptions,
    log: ToolLogOptions,
) -> None:
    """Have a shell on a host, or run a command there.

    On a terminal: ~. ends the session, ~d detaches, ~? shows more. A command has no terminal unless
    -t is given: input, output and errors pass as they are.
    """
    log.set_up()
    host, wanted = _split(host, command or [])
    if host and addr:
        raise ConfigError(f"one host is enough, and both {host} and --addr {addr} are given")
    if cmd:
        if wanted:
            raise ConfigError("either --cmd or a command behind the host, not both")
        wanted = (cmd, *(word for each in args or () for word in each.split(",")))
        terminal = True if terminal is None else terminal
    if escape != "none" and (len(escape) > 1 or not escape.isascii()):
        raise ConfigError(f"--escape: one ASCII character or 'none', not {escape!r}")

    from ._pty_shell import ShellTask

    task = ShellTask(
        host=host or addr,
        argv=wanted or None,
        on_terminal=(not wanted and os.isatty(0)) if terminal is None else terminal,
        escape="" if escape == "none" else escape,
        keep=0 if no_resume else KEEP,
        here=tuple(map(ForwardSpec.parse, here or ())),
        there=tuple(map(ForwardSpec.parse, there or ())),
        runs_command=not no_command,
        way=way,
    )
    _exit_with(task.run)


def _split(host: str, command: list[str]) -> tuple[str, tuple[str, ...]]:
    """Tell a host and a command apart, where only one of them may be there."""
    words = [host, *command]
    if BREAK in words[:2]:
        at = words.index(BREAK)
        return "".join(words[:at]), tuple(words[at + 1 :])
    if command and command[0].startswith("-"):
        raise ConfigError(
            f"{command[0]} behind {host}: options stand before PK,"
            f" and a command that begins like one stands behind a '--'"
        )
    return host, tuple("--" if word == BREAK else word for word in command)


# ---- sessions that were left ----


@app.command()
@spread
def ls(
    host: Host = "", *, as_json: AsJson = False, way: ShortWayOptions, log: ToolLogOptions
) -> None:
    """Show the sessions that you have on a host."""
    log.set_up()
    from ._pty_sessions import show_sessions

    _exit_with(partial(show_sessions, host, way, as_json=as_json))


@app.command()
@spread
def attach(
    session: Annotated[str, typer.Argument(help="The session, or how its name begins; see 'ls'.")],
    host: Host = "",
    *,
    way: ShortWayOptions,
    log: ToolLogOptions,
) -> None:
    """Go on with a session that was left, or take it over."""
    log.set_up()
    from ._pty_sessions import go_on

    _exit_with(partial(go_on, session, host, way))


# ---- files ----


@app.command()
@spread
def cp(
    paths: Annotated[
        list[str], typer.Argument(metavar="SOURCE... TARGET", help="One side is PK[:port]:PATH.")
    ],
    *,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Copy folders with all that is in them.")
    ] = False,
    preserve: Annotated[
        bool, typer.Option("--preserve", "-p", help="Keep permissions and times.")
    ] = False,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Begin anew what was broken off.")
    ] = False,
    no_overwrite: Annotated[
        bool, typer.Option("--no-overwrite", help="Leave what is there alone.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    way: WayOptions,
    log: ToolLogOptions,
) -> None:
    """Copy files and folders to a host or from it.

    A copy takes the place of its target when it is complete and was compared. What a lost connection
    broke off goes on where it was when cp is run again. Exit code 1: something was left out.
    """
    log.set_up()
    from dmsg_trio.apps.pty.copy import CopyOptions

    from ._pty_copy import CopyPlan, copy

    plan = CopyPlan.parse(paths)
    options = CopyOptions(
        recursive=recursive,
        preserve=preserve,
        overwrite=not no_overwrite,
        resume=not no_resume,
    )
    _exit_with(partial(copy, plan, way, options, quiet=quiet))


# ---- who may enter this machine's host ----

Keys = Annotated[list[str], typer.Argument(metavar="PK...", help="The keys.")]


@app.command()
@spread
def whitelist(*, as_json: AsJson = False, way: ShortWayOptions, log: ToolLogOptions) -> None:
    """Show the keys that may enter this machine's host."""
    log.set_up()
    from ._pty_list import show_keys

    _exit_with(partial(show_keys, way, as_json=as_json))


@app.command("whitelist-add")
@spread
def whitelist_add(
    keys: Keys, *, as_json: AsJson = False, way: ShortWayOptions, log: ToolLogOptions
) -> None:
    """Let keys enter this machine's host. Exit code 1: one of them could already."""
    log.set_up()
    from ._pty_list import add_keys

    _exit_with(partial(add_keys, way, keys, as_json=as_json))


@app.command("whitelist-remove")
@spread
def whitelist_remove(
    keys: Keys, *, as_json: AsJson = False, way: ShortWayOptions, log: ToolLogOptions
) -> None:
    """Let keys enter no more, and end their sessions."""
    log.set_up()
    from ._pty_list import remove_keys

    _exit_with(partial(remove_keys, way, keys, as_json=as_json))
