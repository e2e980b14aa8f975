"""The help page of every command, in a terminal of 80 columns: nothing is wider, and no word that people copy is cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from gate.cli import COMMANDS, app

COLUMNS = 80


def pages() -> Iterator[tuple[str, Any]]:
    """Each command and verb with its context."""
    root = get_command(app)
    top = root.make_context("gate", [], resilient_parsing=True)
    yield "gate", top
    for name in COMMANDS:
        command = root.get_command(top, name)  # type: ignore[attr-defined]
        context = command.make_context(name, [], parent=top, resilient_parsing=True)
        yield name, context
        for verb, below in getattr(command, "commands", {}).items():
            yield f"{name} {verb}", below.make_context(verb, [], parent=context, resilient_parsing=True)


ALL = dict(pages())


@pytest.mark.parametrize("name", ALL)
def test_a_page_fits_and_its_words_are_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("TERM", "dumb")
    context = ALL[name]
    context.max_content_width = context.terminal_width = None
    page = context.get_help()
    assert [line for line in page.splitlines() if len(line) > COLUMNS] == []
    assert "list[" not in page
    for parameter in context.command.params:
        words = [option for option in parameter.opts if option.startswith("-")]
        words += [parameter.metavar] if parameter.metavar else []
        words += [parameter.envvar] if isinstance(parameter.envvar, str) else []
        words += (parameter.help or "").split() if hasattr(parameter, "help") else []
        missing = [word for word in words if word not in page]
        assert missing == []


@pytest.mark.parametrize("name", ALL)
def test_every_argument_and_option_says_what_it_is(name: str) -> None:
    assert [parameter.name for parameter in ALL[name].command.params if not getattr(parameter, "help", None)] == []


def test_a_default_is_not_broken_at_its_hyphen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    assert "./gate-data" in ALL["serve"].get_help()
