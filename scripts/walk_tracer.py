"""Records which functions of `gate/` a role calls. `scripts/walks.py` copies this file to `sitecustomize.py`.

Python imports `sitecustomize` when it starts, so a service needs no change to be traced. The file does nothing in a
process that is not a role of the service.

    SIGUSR1   start to record
    SIGUSR2   write the record to `$WALKS_FOLDER/PID.json` and stop: a list of [monotonic ns, "file: function"]
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

FOLDER = "WALKS_FOLDER"
"""The variable that names the folder of the records."""
SOURCES = os.environ.get("WALKS_SOURCES", "")
"""The repository; only functions of its `gate/` are recorded."""
PACKAGE = f"{SOURCES}/gate/"
COMPREHENSION = re.compile(r"(?:\.<locals>)?\.<(?:listcomp|dictcomp|setcomp|genexpr)>$")
"""Python 3.12 has no frames for most of these, so each counts as the function that holds it."""

calls: list[tuple[int, CodeType]] = []


def record(frame: FrameType, event: str, _: Any) -> None:
    """Called by Python at each call and return; a coroutine that goes on is a call as well."""
    if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
        calls.append((time.monotonic_ns(), frame.f_code))


def begin(_: int, __: FrameType | None) -> None:
    """Forget the calls so far and record from here on."""
    calls.clear()
    sys.setprofile(record)


def end(_: int, __: FrameType | None) -> None:
    """Stop, and write the record under its name in one step."""
    sys.setprofile(None)
    folder = Path(os.environ[FOLDER])
    draft = folder / f"{os.getpid()}.draft"
    draft.write_text(json.dumps([(at_ns, name_of(code)) for at_ns, code in calls]))
    draft.rename(draft.with_suffix(".json"))


def name_of(code: CodeType) -> str:
    """`gate/http/auth.py: signed_headers`."""
    function = code.co_qualname
    while (outer := COMPREHENSION.sub("", function)) != function:
        function = outer
    return f"{code.co_filename.removeprefix(f'{SOURCES}/')}: {function}"


if SOURCES and FOLDER in os.environ and "gate.service.role" in sys.orig_argv:
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
