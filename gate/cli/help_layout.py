"""How help pages are laid out: plain text that wraps between words, so that an option or a default can be copied whole.

Typer's own wrapping breaks words at hyphens and cuts long ones; rich, which it would draw boxes with, takes 0.1 s to import.
"""

from __future__ import annotations

import textwrap
from typing import Any

import typer.core
from typer._click import _textwrap


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
