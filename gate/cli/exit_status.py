"""How a command ends: one line on stderr for each failure, and the exit status that scripts rely on.

    0    done, allowed, found
    1    denied, not found, refused, or a start that failed
    2    wrong usage, all mistakes of the call at once
    3    the service, Redis or the Replica can't be reached, or the operating system refused something
    130  interrupted by SIGINT
    141  the reader of the output closed it

The status 1 of `gate check` means "denied", so nothing that merely failed ends with it: a file that may not be read, a full
disk, too many open files and their like are status 3 in every command. Called by `gate.cli.main`.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable

import typer

from gate.errors import GateError, InvalidInput, ReplicaForeign, ReplicaMissing, Stale, Unavailable

EXIT_NO = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
# What a shell reports for a program that SIGINT ended.
EXIT_INTERRUPTED = 130
# What a shell reports for a program that SIGPIPE ended.
EXIT_PIPE_CLOSED = 141

# Error numbers of a write to a full or failing disk; the system reports them without a file name.
CANNOT_GROW = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def run(command: Callable[[], int]) -> int:
    """Run `command`, print how it failed if it did, and return the exit status."""
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()  # else a full disk is found after the last place that can report it
    except GateError as fault:
        return _fail(exit_status(fault), *(getattr(fault, "problems", None) or [str(fault)]))
    except typer.TyperException as fault:
        return _usage(fault)
    except (KeyboardInterrupt, EOFError):
        return EXIT_INTERRUPTED
    except typer.Abort:
        return EXIT_NO
    except BrokenPipeError:  # `gate bans | head`: the reader has read enough
        _drop_output()
        return EXIT_PIPE_CLOSED
    except OSError as fault:
        return _refused_by_system(fault)
    except MemoryError:
        return _fail(EXIT_UNREACHABLE, "out of memory")


def exit_status(fault: GateError) -> int:
    """The exit status that a failure ends the program with."""
    if isinstance(fault, InvalidInput):
        return EXIT_USAGE
    if isinstance(fault, Unavailable | Stale | ReplicaMissing | ReplicaForeign):
        return EXIT_UNREACHABLE
    return EXIT_NO


def reason_of(fault: OSError) -> str:
    """The system's error message, without Python's prefix `[Errno 13]`."""
    return fault.strerror or str(fault) or type(fault).__name__


def _fail(status: int, *problems: str) -> int:
    from gate.core.shown import shown_text  # late: the help page needs none of what it imports

    for problem in problems:
        print(f"gate: {shown_text(problem)}", file=sys.stderr)
    return status


def _usage(fault: typer.TyperException) -> int:
    context = getattr(fault, "ctx", None)
    if type(fault).__name__ == "NoArgsIsHelpError" and context is not None:
        print(context.get_help(), file=sys.stderr)
        return EXIT_USAGE
    said = getattr(fault, "format_message", fault.__str__)().strip().removesuffix(".")
    hint = f": see {context.command_path} --help" if context is not None else ""
    return _fail(EXIT_USAGE, " ".join(f"{said[:1].lower()}{said[1:]}{hint}".split()))


def _refused_by_system(fault: OSError) -> int:
    if fault.errno in CANNOT_GROW and fault.filename is None:
        _drop_output()
        return _fail(EXIT_UNREACHABLE, f"the output could not be written: {reason_of(fault)}")
    _close_quietly()
    where = f"{os.fsdecode(fault.filename)}: " if isinstance(fault.filename, str | bytes) else ""
    return _fail(EXIT_UNREACHABLE, f"{where}{reason_of(fault)}")


def _drop_output() -> None:
    """Discard the buffered output: at exit Python would try to write it again, and print an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _close_quietly() -> None:
    """Suppress the second error of an event loop that got no descriptors: Python prints it when it deletes the loop."""
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore", RuntimeWarning)
