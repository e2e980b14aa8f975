"""`gate serve` and `gate config`: the options of the service, run with them or shown with where each came from.

`serve` takes every option as text, so that one call reports all mistakes at once instead of only the first; then it hands over
to the supervisor. `config` shows what the service in the data directory was started with, or what `gate serve` would start with
here. Secrets are never shown.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gate.cli.command import Command, takes
from gate.cli.exit_status import CANNOT_GROW, reason_of
from gate.cli.options import DEFAULT_DATA
from gate.cli.output import print_json, print_table, say
from gate.config import OPTIONS, Option, read_config
from gate.errors import CannotStart

if TYPE_CHECKING:
    from gate.service.effective_options import EffectiveOptions


def serve(**options: str | bool | None) -> None:
    """Run the service until SIGTERM or SIGINT. Prints one line, `gate ready ...`, when all of it answers."""
    given = {
        name: "1" if value is True else value
        for name, value in options.items()
        if value is True or isinstance(value, str)
    }
    try:
        config = read_config(given, os.environ)
        # Imported late: a wrong option is reported without waiting for the rest of the program.
        from gate.service.effective_options import effective_options
        from gate.service.supervisor import run
        from gate.store.address import check_addresses

        # Before the supervisor starts: a mistyped URL must not cost a minute of retries.
        check_addresses({"--redis": config.redis, "--presence-redis": config.presence_redis})
        raise typer.Exit(run(config, effective_options(config, given, os.environ)))
    except OSError as fault:
        where = f"{fault.filename}: " if isinstance(fault.filename, str) else ""
        advice = "; make room there, or choose another directory with --data" if fault.errno in CANNOT_GROW else ""
        raise CannotStart(f"{where}{reason_of(fault)}{advice}") from fault


def _parameter(name: str, option: Option) -> inspect.Parameter:
    summary = f"{option.summary} [{option.variable}; default: {option.shown_default}]"
    shown = typer.Option(option.flag, metavar=option.metavar or None, help=summary)
    annotation: Any = Annotated[bool, shown] if option.is_switch else Annotated[str | None, shown]
    default = False if option.is_switch else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


# Typer makes the options of the help page from these two: one for each row of the table in `gate.config`.
_PARAMETERS = [_parameter(name, option) for name, option in OPTIONS.items()]
serve.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]
serve.__annotations__ = {one.name: one.annotation for one in _PARAMETERS}


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
    from gate.service.effective_options import effective_options  # late: a service that runs has written the answer

    is_usual = data == DEFAULT_DATA or str(data) == os.environ.get("GATE_DATA")
    given = {} if is_usual else {"data": str(data)}
    return effective_options(read_config(given, os.environ), given, os.environ)


def _value(option: Option, value: str | None) -> str:
    """What people read: the words of the help page where an option has no value of its own."""
    return option.shown_default if value is None else value


def _document(options: EffectiveOptions) -> dict[str, dict[str, str | None]]:
    return {name: {"value": value, "from": origin} for name, (value, origin) in options.items()}
