"""`gate config`: which value of each option is in force, and where it came from; secrets are never shown.

Where a service runs in the data directory, what it was started with; else what `gate serve` would start with here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gate.cli.command import Command, takes
from gate.cli.options import DEFAULT_DATA
from gate.cli.output import print_json, print_table, say
from gate.config import OPTIONS, Option, read_config

if TYPE_CHECKING:
    from gate.service.effective_options import EffectiveOptions


@takes()
def config(command: Command) -> None:
    """What is in force, and from where: option, environment, file or default. Of the running service, if one runs here."""
    services = command.services
    shown: list[tuple[str, int | None, EffectiveOptions]] = [
        (f"service {'+'.join(each.roles)}, pid {each.pid}", each.pid, dict(each.options)) for each in services
    ]
    if not shown:
        shown = [(f"no service runs in {command.data}; gate serve would take", None, _would_be(command.data))]
    if command.as_json:
        print_json({"services": [{"pid": pid, "options": _document(options)} for _, pid, options in shown]})
        return
    for title, _, options in shown:
        say(title)
        known = ((OPTIONS[name], *found) for name, found in options.items() if name in OPTIONS)
        rows = ((option.flag, _value(option, value), origin) for option, value, origin in known)
        print_table(("option", "value", "from"), rows)


def _would_be(data: Path) -> EffectiveOptions:
    from gate.service.effective_options import (
        effective_options,
    )  # late: where a service runs, it has written the answer

    is_usual = data == DEFAULT_DATA or str(data) == os.environ.get("GATE_DATA")
    given = {} if is_usual else {"data": str(data)}
    return effective_options(read_config(given, os.environ), given, os.environ)


def _value(option: Option, value: str | None) -> str:
    """What people read: the words of the help page where an option has no value of its own."""
    return option.shown_default if value is None else value


def _document(options: EffectiveOptions) -> dict[str, dict[str, str | None]]:
    return {name: {"value": value, "from": origin} for name, (value, origin) in options.items()}
