"""Values that need no checking: texts, paths, numbers and defaults are taken without what checks others.

That is pydantic, which takes a tenth of a second to import and to prepare for fifty options.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from typer._click.core import ParameterSource
from typer._coercion import RuntimeParam, TypeDescriptor, build_runtime_param
from typer._param_types import coerce_cli_path
from typer.core import TyperArgument, TyperOption, _TyperParameter

if TYPE_CHECKING:
    from typer._click import Command, Context

_NOT_PLAIN: Final = object()
_PLAIN_NUMBERS: Final = {
    int: re.compile(r"\d{1,15}", re.ASCII),
    float: re.compile(r"\d{1,15}(\.\d{1,6})?", re.ASCII),
}


def take_plain_values(command: Command) -> None:
    """Let the parameters of a command take plain values as they are."""
    for each in command.params:
        if isinstance(each, TyperArgument | TyperOption) and each._runtime_param is None:
            each._runtime_param = _Plain.of(each.type_descriptor)
    context = command.context_class(command, **command.context_settings)
    if option := command.get_help_option(context):
        option.default = False  # Typer's own is None, which it would have checked


@dataclass(frozen=True)
class _Plain(RuntimeParam):
    """What makes the value of a parameter of what was given for it."""

    descriptor: TypeDescriptor

    @classmethod
    def of(cls, descriptor: TypeDescriptor) -> _Plain:
        return cls(descriptor.parameter_info, descriptor.annotation, descriptor)

    def _coerce_value(self, value: object, param: _TyperParameter, ctx: Context) -> object:
        plain = self._plain(value, param, ctx)
        if plain is not _NOT_PLAIN:
            return plain
        return build_runtime_param(self.descriptor).coerce(value, param=param, ctx=ctx)

    def _plain(self, value: object, param: _TyperParameter, ctx: Context) -> object:
        if self.parameter_info.parser is not None or self.descriptor.is_file:
            return _NOT_PLAIN
        if not self.descriptor.is_list:
            return self._one(self.annotation, value, param, ctx)
        if not isinstance(value, list | tuple):
            return _NOT_PLAIN
        (kind,) = get_args(self.annotation)
        values = [self._one(kind, each, param, ctx) for each in value]
        return _NOT_PLAIN if _NOT_PLAIN in values else values

    def _one(self, kind: object, value: object, param: _TyperParameter, ctx: Context) -> object:
        if kind is Path and isinstance(value, str | Path):
            info = self.parameter_info
            return coerce_cli_path(Path(value), info, path_type=Path, param=param, ctx=ctx)
        for number, form in _PLAIN_NUMBERS.items():
            if kind is number and isinstance(value, str) and form.fullmatch(value):
                return self._bounded(number(value))
        is_default = ctx.get_parameter_source(param.name or "") is ParameterSource.DEFAULT
        is_typed = isinstance(kind, type) and isinstance(value, kind)
        return value if is_typed and (kind is str or is_default) else _NOT_PLAIN

    def _bounded(self, number: float) -> object:
        low, high = self.parameter_info.min, self.parameter_info.max
        is_within = (low is None or number >= low) and (high is None or number <= high)
        return number if is_within else _NOT_PLAIN
