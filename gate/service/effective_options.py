"""Which value of each option is in force, and where it came from: what `gate config` shows, without any secret.

The order is that of `gate.config.read_config`: the option, the environment or a file that it names, the default.
Called by `gate serve`, which writes the answer for commands (`running`), and by `gate config` where no service runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gate.config import OPTIONS, REDIS_FILES, SECRET_OPTIONS, Option, ServeConfig
from gate.store.address import parse_address

EffectiveOptions = dict[str, tuple[str | None, str]]
"""Of each option the value as text, None where it has none, and its origin."""


def effective_options(config: ServeConfig, given: Mapping[str, str], environ: Mapping[str, str]) -> EffectiveOptions:
    """What `config`, read from these options and this environment, holds."""
    # An option that was read from a file has the file's name as its origin: the value itself is a secret.
    files = {name: variable for variable, name in REDIS_FILES.items() if environ.get(variable)}
    return {
        name: (_shown(name, getattr(config, name)), _origin(option, given, files, environ))
        for name, option in OPTIONS.items()
    }


def _origin(option: Option, given: Mapping[str, str], files: Mapping[str, str], environ: Mapping[str, str]) -> str:
    if option.name in given:
        return f"option {option.flag}"
    if option.name in files:
        return f"file {environ[files[option.name]]}, named by {files[option.name]}"
    return f"environment {option.variable}" if environ.get(option.variable) else "default"


def _shown(name: str, value: Any) -> str | None:
    if value is None or value == ():
        return None
    if name in SECRET_OPTIONS:
        return parse_address(value).shown
    return ",".join(value) if isinstance(value, tuple) else str(value)
