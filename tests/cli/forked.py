"""Many `gate` commands for the price of one start: imports once, then runs each call in a fork of itself.

Run as `python forked.py`, with a JSON list of argument lists on stdin; prints a JSON list of `[status, stderr]`.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence


def run_all(
    calls: Sequence[Sequence[str]], *, before: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> list[tuple[int, str]]:
    """The exit status and stderr of each call, made behind the prefix `before`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GATE_")}
    done = subprocess.run(
        [*before, sys.executable, __file__],
        input=json.dumps([list(call) for call in calls]),
        env=clean | dict(env or {}),
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        check=True,
    )
    return [(status, err) for status, err in json.loads(done.stdout)]


def _run(call: list[str]) -> tuple[int, str]:
    from gate.cli import main

    with tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(err.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.argv[1:] = call
            try:
                main()
            except SystemExit as end:
                sys.stderr.flush()
                os._exit(end.code if isinstance(end.code, int) else 1)
            finally:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        err.seek(0)
        return status, err.read().decode()


if __name__ == "__main__":
    import gate.store.acks  # what commands import late
    import gate.store.store  # noqa: F401
    from gate.cli import COMMANDS

    for row in COMMANDS.values():
        importlib.import_module(row.module)
    print(json.dumps([_run(call) for call in json.load(sys.stdin)]))
