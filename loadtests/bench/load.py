"""The load client in C (`load.c`): how it is built, the file that it reads, and what a run of it gives.

A `Script` is one system's requests with the replies that it gave when it was asked them once, in Python, where they were also
compared with what other systems answered. Under the clock the client sends the same bytes and compares every byte that comes
back, so a wrong reply ends the run. The CPU time of the server is the kernel's accounting of it and its descendants, from the
first request to the last reply: on a machine that others use too, it moves far less than the rate.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.client import Peer

SOURCE = Path(__file__).with_name("load.c")
NO_COMPILER = "left out: the load client takes a C compiler (apt-get install gcc)"
WRONG_REPLY = 3
"""Exit status of the client."""
MORE_S = 60.0
"""How long a client may take on top of the seconds that it was given."""


class NoCompiler(RuntimeError):
    """No C compiler is on the PATH: the rows that need the load client are left out."""


class WrongReply(Peer):
    """A reply was not the one that the same request got before."""


class Target(NamedTuple):
    """Where a system listens, what makes a connection ready to be asked, and whose CPU time counts."""

    port: int
    pid: int
    """Of the server. Its descendants count with it."""
    greeting: bytes = b""
    greeted: bytes = b""
    """What the reply to the greeting ends in."""


class Script(NamedTuple):
    """Requests and expected replies in a file, and the server that they are for."""

    path: Path
    target: Target
    commands_a_check: float = 1
    """Four commands may be one check, and one command a hundred checks: then it is 0.01."""


class Load(NamedTuple):
    """One run of the client. Figures named after a process are cores: CPU seconds a second."""

    commands: float
    seconds: float
    per_s: float
    """Checks."""
    server_us: float
    """CPU time of the server, a check."""
    server: float
    client: float
    others: float
    """All other processes of the machine."""
    p50_us: float
    """Of a whole batch: from when it was sent, or was due where the rate is given, to its last byte."""
    p99_us: float
    p999_us: float
    p9999_us: float
    max_us: float
    late_p999_us: float
    """How late the client itself sent what was due."""


def build(source: Path, program: Path, *options: str, libraries: Sequence[str] = ()) -> Path:
    """Compile one file of C. Raises `NoCompiler`."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler(NO_COMPILER)
    subprocess.run([compiler, "-O2", "-std=gnu11", *options, "-o", program, source, *libraries], check=True)
    return program


def write_script(
    path: Path, target: Target, exchanges: Iterable[tuple[bytes, bytes]], commands_a_check: float
) -> Script:
    """Each exchange is one command and its whole reply."""
    requests, replies = map(list, zip(*exchanges, strict=True))
    sizes = [len(part) for exchange in zip(requests, replies, strict=True) for part in exchange]
    head = (len(requests), len(target.greeting), len(target.greeted), *sizes)
    with path.open("wb") as file:
        file.write(struct.pack(f"<{len(head)}I", *head) + target.greeting + target.greeted)
        file.write(b"".join(requests))
        file.write(b"".join(replies))
    return Script(path, target, commands_a_check)


def run(
    program: Path, script: Script, pipeline: int, connections: int, seconds: float, checks_a_second: float = 0
) -> Load:
    """A closed loop of `pipeline` checks a batch; with a rate, an open loop of so many checks a second in batches.

    Raises `WrongReply`, or `Peer` if the server closed a connection or did not answer.
    """
    target, step = script.target, script.commands_a_check
    commands = max(1, round(pipeline * step))
    rate = checks_a_second / pipeline
    given = (script.path, target.port, commands, connections, seconds, rate, target.pid)
    # A session of its own: the kernel may schedule by session, and the client is not a part of any server.
    done = subprocess.run(
        [program, *map(str, given)], capture_output=True, check=False, start_new_session=True, timeout=seconds + MORE_S
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise (WrongReply if done.returncode == WRONG_REPLY else Peer)(said or f"load ended with {done.returncode}")
    load = Load(**json.loads(done.stdout))
    return load._replace(per_s=load.per_s / step, server_us=load.server_us * step)
