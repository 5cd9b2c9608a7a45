"""Write manual pages from what the programs say of themselves.

    python docs/make/man.py build/man
    MANPATH=$PWD/build/man man dmsgcurl

Each program of pyproject.toml has a page, and each command of `dmsg` that is no program. What is in
it comes from the declared options; only what all have in common is written here.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from dmsg_trio.cli import _settings, dmsg, pty
from dmsg_trio.cli._options import DEFAULT_VARIABLE

if TYPE_CHECKING:
    from typer._click import Command, Context

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLI: Final = "dmsg_trio.cli."

EXIT_CODES: Final = {
    "0": "Done; of a service also: ended by SIGINT or SIGTERM.",
    "1": "Refused or failed. One line on standard error says why.",
    "2": "Wrong usage.",
    "130, 143": "Stopped by SIGINT, SIGTERM.",
}
FILES: Final = {
    "~/.config/dmsg/config.toml": (
        "Settings that stay, under $XDG_CONFIG_HOME if that is set. The variable DMSG_CONFIG names"
        " another file."
    )
}
HELP: Final = ("--help", "Show this message and exit.")
SETTINGS: Final = (
    "A variable counts where the command line does not say otherwise, and before the file with"
    " settings."
)
# What would be typeset as something else, or obeyed.
ESCAPES: Final = {
    "\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Program:
    """A page: what it is about, and what it is called."""

    name: str
    path: tuple[str, ...]  # the words behind `dmsg`
    command: Command
    line: str  # what it does, in a line
    key_variable: str = ""  # where the reference's program of this name has its key


def main(folder: Path) -> None:
    """Write all pages."""
    os.environ[_settings.FILE_VARIABLE] = os.devnull  # whoever makes the pages has settings too
    pages = folder / "man1"
    pages.mkdir(parents=True, exist_ok=True)
    programs = list(all_programs())
    for each in programs:
        (pages / f"{each.name}.1").write_text(page(each, programs))


# ---- what there is ----


def all_programs() -> Iterator[Program]:
    """Find all programs, `dmsg` first."""
    names = {
        place.removeprefix(CLI).removesuffix(":main"): name
        for name, place in PROJECT["scripts"].items()
    }
    yield Program("dmsg", (), dmsg.umbrella(), _first_line(dmsg.umbrella().help))
    lines: dict[tuple[str, ...], tuple[str, str]] = {
        **{(name,): line for name, line in dmsg.COMMANDS.items()},
        **{("pty", name): line for name, line in pty.COMMANDS.items()},
    }
    for path, (module, line) in lines.items():
        program = import_module(CLI + module)
        command = get_command(program.app)
        _settings.prepare(command, path, ())
        name = names.get(module, "-".join(("dmsg", *path)))
        yield Program(name, path, command, line, getattr(program, "VARIABLE", ""))


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


# ---- a page ----


def page(program: Program, programs: Iterable[Program]) -> str:
    """Write one page."""
    command = program.command
    context = command.context_class(command, info_name=program.name)
    sections = {
        "NAME": f"{text(program.name)} \\- {text(_lowered(program.line))}\n",
        "SYNOPSIS": f".B {text(program.name)}\n{text(' '.join(command.collect_usage_pieces(context)))}\n",
        "DESCRIPTION": "".join(_description(program)),
        "ARGUMENTS": _definitions(_arguments(command, context)),
        "OPTIONS": "".join(_options(command, context)),
        "COMMANDS": "".join(_commands(program, context, programs)),
        "ENVIRONMENT": _environment(program, context),
        "EXIT STATUS": _exit_status(command),
        "FILES": _definitions(FILES),
        "SEE ALSO": _see_also(program, programs),
    }
    title = f'.TH {program.name.upper()} 1 "" "dmsg_trio {PROJECT["version"]}" "dmsg"\n'
    return title + "".join(f".SH {name}\n{body}" for name, body in sections.items() if body)


def _lowered(line: str) -> str:
    return (line[:1].lower() + line[1:]).removesuffix(".")


def _description(program: Program) -> Iterator[str]:
    yield from _paragraphs(program.command.help)
    if program.path and program.name != "-".join(("dmsg", *program.path)):
        yield f".PP\n{bold('dmsg ' + ' '.join(program.path))} is the same program.\n"


def _paragraphs(help_text: str | None) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", (help_text or "").strip())):
        yield f"{'.PP' if number else ''}\n{text(' '.join(paragraph.split()))}\n".lstrip("\n")


def _arguments(command: Command, context: Context) -> Iterator[tuple[str, str]]:
    for each in command.get_params(context):
        record = each.get_help_record(context)
        if record is not None and not isinstance(each, TyperOption):
            yield re.sub(r" <\S+>$", "", record[0]), record[1]  # of what type it is, as a text


def _option_records(
    command: Command, context: Context
) -> Iterator[tuple[TyperOption, tuple[str, str]]]:
    for each in command.get_params(context):
        record = each.get_help_record(context)
        if record is not None and isinstance(each, TyperOption):
            yield each, record


def _options(command: Command, context: Context) -> Iterator[str]:
    """Write the options, under the headings that they name."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for option, record in _option_records(command, context):
        panels.setdefault(option.rich_help_panel or "", []).append(record)
    rest = panels.pop("", [])
    for title, records in panels.items():
        yield f".SS {text(title)}\n{_definitions(records)}"
    if rest:
        yield (".SS The rest\n" if panels else "") + _definitions(rest)


def _commands(program: Program, context: Context, programs: Iterable[Program]) -> Iterator[str]:
    command = program.command
    if not isinstance(command, TyperGroup):
        return
    pages = {each.path: each for each in programs}
    for name in command.list_commands(context):
        if each := pages.get((*program.path, name)):
            yield _definitions({name: f"{each.line} See {each.name}(1)."})
    yield from _inner_commands([*_inner(command, context)])


def _inner(
    group: TyperGroup, context: Context, *words: str
) -> Iterator[tuple[str, Command, Context]]:
    """Find the commands that have no page of their own."""
    for name, command in group.commands.items():
        inside = command.context_class(command, info_name=name, parent=context)
        if isinstance(command, TyperGroup):
            yield from _inner(command, inside, *words, name)
        elif not command.hidden:
            yield " ".join((*words, name)), command, inside


def _inner_commands(commands: list[tuple[str, Command, Context]]) -> Iterator[str]:
    """Write them all; what several of them take is told once, at their end."""
    options = {
        name: [record for _, record in _option_records(command, context) if record != HELP]
        for name, command, context in commands
    }
    counts = Counter(record for records in options.values() for record in records)
    for name, command, context in commands:
        yield f".SS {text(' '.join((name, *command.collect_usage_pieces(context))))}\n"
        yield from _paragraphs(command.help)
        yield _definitions(_arguments(command, context))
        yield _definitions(record for record in options[name] if counts[record] == 1)
        shared = [_longest(record) for record in options[name] if counts[record] > 1]
        if shared:
            yield f".PP\nTakes {', '.join(map(bold, shared))} too, see below.\n"
    if several := [record for record, count in counts.items() if count > 1]:
        yield f".SS What several of these take\n{_definitions(several)}"


def _longest(record: tuple[str, str]) -> str:
    """Name an option of a help record: its longest name, without what follows it."""
    return max((word.strip(",") for word in record[0].split() if word.startswith("-")), key=len)


def _environment(program: Program, context: Context) -> str:
    variables = {name: _meaning(option) for name, option in _variables(program.command, context)}
    takes_key = "--key-env" in _names(program.command)
    if isinstance(program.command, TyperGroup) and program.command.commands:
        for _, command, inside in _inner(program.command, context):
            takes_key |= "--key-env" in _names(command)
            for name, option in _variables(command, inside):
                if option.show_envvar:  # the others go by the rule
                    variables[name] = _meaning(option)
        rule = "_".join(("dmsg", *program.path, "command", "option")).upper().replace("-", "_")
        variables[rule] = "Stands for --option of the command, with _ for each - in the names."
    if not variables:
        return ""
    if takes_key:
        for name in filter(None, (DEFAULT_VARIABLE, program.key_variable)):
            variables[name] = "Holds the secret key, if no option says where it is."
    return f"{SETTINGS}\n{_definitions(sorted(variables.items()))}"


def _names(command: Command) -> set[str]:
    return {name for each in command.params for name in each.opts}


def _meaning(option: TyperOption) -> str:
    return f"Stands for {max(option.opts, key=len)}."


def _variables(command: Command, context: Context) -> Iterator[tuple[str, TyperOption]]:
    for each in command.get_params(context):
        if isinstance(each, TyperOption) and each.envvar and not each.hidden:
            names = [each.envvar] if isinstance(each.envvar, str) else each.envvar
            yield from ((name, each) for name in names)


def _exit_status(command: Command) -> str:
    """Say what the codes mean: those of all programs, unless the help says that they are others."""
    sentences = re.split(r"(?<=\.)\s+", " ".join((command.help or "").split()))
    own = " ".join(each for each in sentences if re.search(r"\bexit codes?\b", each, re.IGNORECASE))
    more = not own or re.search(r"exit code \d", own, re.IGNORECASE)  # on one of them
    return (f"{text(own)}\n" if own else "") + (_definitions(EXIT_CODES) if more else "")


def _see_also(program: Program, programs: Iterable[Program]) -> str:
    others = [each.name for each in programs if each.name != program.name]
    if program.path:  # `dmsg` leads to all of them; a command to its siblings
        group = next((set(g) for g in dmsg.GROUPS.values() if program.path[0] in g), set())
        near = {p.name for p in programs if p.path and p.path[0] in group}
        others = [name for name in others if name in near or name in ("dmsg", "dmsg-keys")]
    return ",\n".join(f".BR {text(name)} (1)" for name in sorted(set(others))) + "\n"


# ---- the language of such pages ----


def _definitions(records: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    pairs = records.items() if isinstance(records, Mapping) else records
    return "".join(
        f".TP\n{bold(term)}\n{text(meaning) or 'See above.'}\n" for term, meaning in pairs
    )


def bold(words: str) -> str:
    """Make words bold."""
    return rf"\fB{text(words)}\fR"


def text(words: str) -> str:
    """Write words so that they are nothing but words: no request, no escape, all to copy."""
    plain = "".join(map(_character, words))
    return re.sub(r"^(?=\.)", r"\\&", plain, flags=re.MULTILINE)


def _character(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    return character if character.isascii() else rf"\[u{ord(character):04X}]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
