"""What Gate changes in Typer: how it lays out help pages, and how the text of an argument becomes its value.

Help is plain text that wraps between words, so that an option or a default can be copied whole. Typer's own wrapping breaks
words at hyphens and cuts long ones; rich, which it would draw boxes with, takes 0.1 s to import.

Text, numbers, switches and paths are read here. Typer builds a pydantic model for each of them, and importing pydantic takes
0.2 s: longer than all the rest of `gate check`. Other kinds are left to Typer. `tests/cli/test_quick.py` fails if that import
comes back.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
import typer.core
from typer._click import _textwrap
from typer._click.exceptions import BadParameter
from typer._coercion import RuntimeParam, build_runtime_param


class WholeWords(_textwrap.TextWrapper):
    """Never breaks a word, also not `./gate-data` at its hyphen; one that is longer than a line has a line of its own."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(width, **options)
        self.break_on_hyphens = self.break_long_words = False

    _handle_long_word = textwrap.TextWrapper._handle_long_word  # respects the options above; Typer's own does not


def _type_unless_named(argument: typer.core.TyperArgument, ctx: Any) -> str | None:
    """Leave out types such as `list[str]` if the argument has a metavar."""
    return None if argument.metavar is not None else argument.display_type(ctx)


def lay_out_plainly() -> None:
    """Make Typer lay out each page in this way."""
    typer.core.HAS_RICH = False
    _textwrap.TextWrapper = WholeWords  # type: ignore[misc, assignment]
    typer.core.TyperArgument.display_type_rich = _type_unless_named  # type: ignore[method-assign, assignment]


_YES, _NO = frozenset({"1", "true", "t", "yes", "y", "on"}), frozenset({"0", "false", "f", "no", "n", "off", ""})
# More digits than any number here has; Python itself refuses thousands.
_MAX_NUMBER_CHARS = 40


def _switch(text: str) -> bool:
    word = text.strip().lower()
    if word not in _YES | _NO:
        raise ValueError
    return word in _YES


def _whole(text: str) -> int:
    if len(text) > _MAX_NUMBER_CHARS:
        raise ValueError
    return int(text)


_READ: Mapping[Any, tuple[Callable[[str], Any], str]] = {
    str: (str, "text"),
    bool: (_switch, "yes or no"),
    int: (_whole, "a whole number"),
    float: (float, "a number"),
    Path: (Path, "a path"),
}


@dataclass(frozen=True)
class PlainParam(RuntimeParam):
    """Reads one parameter without pydantic."""

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        kind: Any = self.annotation
        if get_origin(kind) is list:
            (each,) = get_args(kind)
            return [self._read(one, each, param, ctx) for one in value]
        return self._read(value, kind, param, ctx)

    def _read(self, value: Any, kind: Any, param: Any, ctx: Any) -> Any:
        read, words = _READ[kind]
        if not isinstance(value, str):  # a default
            return value
        try:
            found = read(value)
        except ValueError:
            raise BadParameter(f"write {words}, not {value[:_MAX_NUMBER_CHARS]!r}.", ctx=ctx, param=param) from None
        least, most = self.parameter_info.min, self.parameter_info.max
        if kind in (int, float) and not (
            (least is None or found >= least) and (most is None or found <= most)  # nan is neither
        ):
            bounds = [f"at least {least:g}"] * (least is not None) + [f"at most {most or 0:g}"] * (most is not None)
            raise BadParameter(f"write {words}, {' and '.join(bounds)}.", ctx=ctx, param=param)
        return found


def read_plainly() -> None:
    """Have Typer read the kinds of this module by it."""

    def build(descriptor: Any) -> RuntimeParam:
        annotation, about = descriptor.annotation, descriptor.parameter_info
        kind = get_args(annotation)[0] if get_origin(annotation) is list else annotation
        if kind not in _READ or about.parser is not None or (kind is Path and (about.exists or about.readable)):
            return build_runtime_param(descriptor)
        return PlainParam(parameter_info=about, annotation=annotation)

    typer.core.build_runtime_param = build  # type: ignore[attr-defined]
