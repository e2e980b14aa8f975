"""`gate serve`: reads options and environment, then hands over to the supervisor.

Every option is taken as text, so that one call reports all mistakes at once instead of only the first.
"""

from __future__ import annotations

import inspect
import os
from typing import Annotated, Any

import typer

from gate.cli.exit_status import CANNOT_GROW, reason_of
from gate.config import OPTIONS, Option, read_config
from gate.errors import CannotStart


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
