"""The program of every role's process: `python -m gate.service.role ROLE NAME`, started by the supervisor only.

It ties itself to the supervisor's life, takes its order from the channel on stdin, sets up logs, and runs the role's `main`
with a `RoleContext`: heartbeats, readiness, and the wish to stop. A role's own imports come after that, in its module.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from gate.clock import monotonic_ms
from gate.errors import GateError, InvalidConfig, InvalidInput
from gate.sealing import use_key_file
from gate.service.directory_layout import DirectoryLayout
from gate.service.heartbeats import BEAT_EVERY_S, Heartbeats
from gate.service.limits import raise_file_limit
from gate.service.metrics_directory import DIRECTORY_VARIABLE, reserve_counts
from gate.service.parent_death import die_with_parent
from gate.service.role_messages import GO, RELOAD, RoleConfig, RoleMessage, pack, read_role_config
from gate.store.writer import ORIGIN, Origin

CHANNEL = 0
# How long a role without supervisor may take to finish in an orderly way; the kernel ends it after that.
ORPHAN_GRACE_S = 1.5
DRAIN_SHARE = 0.3
# Roles that have something to leave in order. The others must free their ports at once.
ORDERLY_WHEN_ORPHANED = frozenset({"replicator"})

# How far roles step back, by nice level, for those that answer checks or keep the facts of checks fresh: where processors are
# short, they have a third of a worker's share. Ten thousand WebSockets that come back keep `http` busy for seconds; with this
# level alone the slowest check meanwhile took 12 ms (median of 5 such storms on 2 cores that the clients shared), without it
# 17 ms. See `_step_back` for the rest.
NICE = {"http": 5, "background": 5}

Main = Callable[["RoleContext"], Awaitable[None]]


class RoleContext:
    """A role's place in the service: its order, and its line to the supervisor."""

    def __init__(self, role_config: RoleConfig) -> None:
        self.role_config = role_config
        self.config = role_config.config
        self.layout = DirectoryLayout(role_config.config.directory, role_config.config.role)
        self.heartbeats = Heartbeats(self.layout.heartbeats)
        self.stopping = asyncio.Event()
        self.store_answers = asyncio.Event()
        self.on_reload: Callable[[], None] = lambda: None
        """Called when the files of TLS are to be read again."""
        self._has_waited = False
        self._waits_for = ""
        self._notes: dict[str, str] = {}

    @property
    def drain_s(self) -> float:
        """How long work in flight may take after the word to stop: less than the supervisor waits for this process."""
        return self.config.drain_timeout * DRAIN_SHARE

    def ready(self) -> None:
        """Say that this role does its work."""
        self.heartbeats.beat(self.role_config.slot, monotonic_ms())
        self.heartbeats.set_ready(self.role_config.slot, True)
        self._say(RoleMessage(what="ready"))

    def opened(self) -> None:
        """Say that the Replica on disk was looked at: what is there now can be served."""
        self._say(RoleMessage(what="opened"))

    def reached(self) -> None:
        """Say that Redis answered, and is one to work with: from then on the service waits for it, and does not end."""
        self._say(RoleMessage(what="reached"))

    def waits_for(self, problem: str) -> bool:
        """Say what this role waits for before it can do all of its work, "" once it has that; whether that is new."""
        self._has_waited = self._has_waited or bool(problem)
        if problem == self._waits_for:
            return False
        self._waits_for = problem
        self.note(problem)
        self._say(RoleMessage(what="waits", problem=problem))
        return True

    @property
    def problem(self) -> str:
        """What this role waits for, as it said last."""
        return self._waits_for

    def note(self, problem: str, topic: str = "") -> None:
        """Show in /readyz what this role waits for; of a role that answers, what is wrong all the same. One text a topic."""
        self._notes[topic] = problem
        self.heartbeats.note(self.role_config.slot, "; ".join(filter(None, self._notes.values())))

    @property
    def may_refuse(self) -> bool:
        """Whether this is the service's start and nothing was waited for: only then is a wrong setting a reason to end."""
        return not self.role_config.is_restart and not self._has_waited

    def refuse(self, fault: GateError) -> None:
        """Say why this role can't start."""
        problem = "; ".join(fault.problems) if isinstance(fault, InvalidConfig) else str(fault)
        self._say(RoleMessage(what="refuses", problem=problem, is_usage=isinstance(fault, InvalidInput)))

    async def beat(self) -> None:
        """Show for ever that this process's loop turns."""
        while True:
            self.heartbeats.beat(self.role_config.slot, monotonic_ms())
            await asyncio.sleep(BEAT_EVERY_S)

    def listen(self) -> None:
        """Watch the channel for the word to go, and for its end."""
        asyncio.get_running_loop().add_reader(CHANNEL, self._on_channel)

    def _on_channel(self) -> None:
        heard = os.read(CHANNEL, 4_096)
        if not heard:
            asyncio.get_running_loop().remove_reader(CHANNEL)
            signal.setitimer(signal.ITIMER_REAL, ORPHAN_GRACE_S)
            self.stopping.set()
            return
        for message in heard.splitlines(keepends=True):  # short lines, each sent whole
            if message == GO:
                self.store_answers.set()
            elif message == RELOAD:
                self.on_reload()

    def _say(self, message: RoleMessage) -> None:
        # If the supervisor is gone, nothing reads the message, and the end of the channel stops this process.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            os.write(CHANNEL, pack(message))


async def run_role(context: RoleContext, main: Main) -> int:
    """Run the role until a stop is requested; returns the exit status."""
    loop = asyncio.get_running_loop()
    ORIGIN.set(Origin("node", context.config.node_name))
    loop.add_signal_handler(signal.SIGTERM, context.stopping.set)
    context.listen()
    beating = asyncio.create_task(context.beat())
    try:
        await main(context)
    except GateError as fault:
        context.refuse(fault)
        if (
            context.role_config.is_restart
        ):  # at the first start the supervisor says it, in the one line that ends the start
            import structlog

            structlog.get_logger().error("this role can't go on", problem=str(fault))
        return 1
    finally:
        beating.cancel()
    return 0


def receive_role_config() -> RoleConfig:
    """Read the one line that the supervisor sends first, and not a byte more."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(CHANNEL, 1)
        if not byte:
            sys.exit(1)
        line += byte
    return read_role_config(bytes(line))


def _step_back(role: str) -> None:
    if role not in NICE:
        return
    os.nice(NICE[role])
    if sys.platform == "linux":
        # What wakes up under this policy waits its turn. Ten thousand WebSockets wake `http` hundreds of times a second.
        with contextlib.suppress(PermissionError):  # as by a filter of system calls; the nice level does most of it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def run(role: str) -> int:
    """Everything from the order to the exit status."""
    parent_pid = os.getppid()
    die_with_parent(signal.SIGTERM if role in ORDERLY_WHEN_ORPHANED else signal.SIGKILL, parent_pid)
    role_config = receive_role_config()
    gc.disable()  # what is imported stays: looking through it for garbage is a tenth of the time of a start
    import uvloop

    from gate.logs import configure_logs

    configure_logs(role_config.config.log_level, role_config.config.log_format, role_config.name)
    use_key_file(role_config.config.secret_key_file)
    raise_file_limit()
    _step_back(role)
    if not reserve_counts(Path(os.environ[DIRECTORY_VARIABLE]), os.getpid()):
        del os.environ[DIRECTORY_VARIABLE]  # it counts for itself alone, rather than not at all
    main: Main = importlib.import_module(f"gate.service.roles.{role}").main
    gc.enable()

    async def with_context() -> int:
        return await run_role(RoleContext(role_config), main)

    status = uvloop.run(with_context())
    gc.freeze()  # or the interpreter's last act is to look through what thousands of connections left, for seconds
    return status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
