"""Logs: one line an event, to stderr, as text for people, logfmt or JSON for machines, and never a secret.

Two guards stand before every line: a field whose name says secret, token, password or signature is blotted out, and a
password inside a URL is blotted out wherever it occurs. Called once by each process at its start.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from types import TracebackType
from typing import Any

from gate.core.shown import shown_text
from gate.option_values import LogFormat

# structlog imports rich for a renderer that is not used here; without it each process starts 60 ms sooner.
if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]
else:
    import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SECRET_NAME = re.compile(r"secret|token|password|signature|authorization", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@]*@", re.IGNORECASE)
_QUERY_TOKEN = re.compile(r"([?&](?:token|access_token)=)[^&\s\"']+", re.IGNORECASE)
BLOT = "***"
_is_plain = re.compile(r"[!#-<>-~]+").fullmatch
"""Whether a value is one word of ASCII that needs no quotes: nearly all values of a request's line."""


def without_secrets(text: str) -> str:
    """The text with passwords in URLs and tokens in query strings blotted out."""
    return _QUERY_TOKEN.sub(rf"\1{BLOT}", _URL_PASSWORD.sub(rf"\1:{BLOT}@", text))


@lru_cache(maxsize=1_024)
def _names_a_secret(field: str) -> bool:
    return _SECRET_NAME.search(field) is not None


def scrub(event: MutableMapping[str, Any]) -> None:
    """Keep secrets out of the fields of an event."""
    for name, value in event.items():
        if _names_a_secret(name):
            event[name] = BLOT
        # Looked at first: on the fields of a request the patterns cost as much as answering it.
        elif isinstance(value, str) and ("://" in value or "=" in value):
            event[name] = without_secrets(value)


def configure_logs(level: str, form: LogFormat, role: str) -> None:
    """Set up structlog and the standard library's logging (libraries use it) for this process.

    `auto` is text on a terminal, and logfmt where a program reads the lines.
    """
    if form == "auto":
        form = "text" if sys.stderr.isatty() else "logfmt"
    structlog.configure(
        processors=[partial(_line, role, {"text": _text, "logfmt": _logfmt, "json": _json}[form])],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Stderr(),  # it gets the name of the logger
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(max(_LEVELS[level], logging.WARNING))
    sys.excepthook = _log_crash


def _line(
    role: str, render: Callable[[dict[str, Any]], str], _logger: Any, method: str, event: MutableMapping[str, Any]
) -> str:
    """The processor of structlog: one step, since each request has a line."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(_logger, method, event)
    scrub(event)
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return render({"timestamp": at, "level": method, "role": role, "event": event.pop("event"), **event})


def _text(fields: dict[str, Any]) -> str:
    return " ".join([f"{name}={value!r}" for name, value in fields.items()])


def _logfmt(fields: dict[str, Any]) -> str:
    pairs = []
    for name, value in fields.items():
        text = str(value)
        if isinstance(value, bool):
            text = text.lower()
        elif not _is_plain(text):
            text = _quoted(text)
        pairs.append(f"{name}={text}")
    return " ".join(pairs)


def _quoted(text: str) -> str:
    # Logfmt has no form for a line end: one in a text, or an escape sequence of a terminal, would forge a line.
    text = shown_text(text)
    if " " in text or "=" in text or '"' in text or not text:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return text


_json: Callable[[dict[str, Any]], str] = json.JSONEncoder(ensure_ascii=False, default=repr).encode


class _Stderr:
    """stderr, where a line that can't be written (a full disk, a reader that ended) does not end what it reports on.

    Python keeps such lines, up to 8 KiB of them, and writes them with the next one that can be. One write a line: all
    processes of the service share the file, and those of two would mix in what is written apart.
    """

    def write(self, line: str) -> None:
        """One line."""
        with suppress(OSError):
            sys.stderr.write(f"{line}\n")

    debug = info = warning = error = critical = write


def _log_crash(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    """What ends the process is an event like any other: one line, in the same form, past the same guards."""
    structlog.get_logger().critical("crashed", exc_info=(kind, fault, trace))


class _ToStructlog(logging.Handler):
    """Sends what libraries log through the same guards and the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        """One record, one event; a traceback rides along as a field."""
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        structlog.get_logger().log(record.levelno, record.getMessage(), **fields)
