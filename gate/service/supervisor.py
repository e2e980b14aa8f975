"""`gate serve`: takes the data directory and the ports, starts every process, says when all of it answers, and stops in order.

    start   directories, locks, ports; then all processes at once: roles import while the embedded server loads its data, and
            hot workers answer from the Replica on disk before Redis does
    ready   every process has reported ready and /readyz is 200: one line on stdout
    away    Redis does not answer: with a Replica on disk, one line on stdout reports it and checks are served; else refused
    stop    HTTP and workers (no new connections, in-flight work is finished), background, replicator, the embedded server last

A start that can't succeed stops all of it and raises one reason. Everything the supervisor itself holds (locks, ports) is the
kernel's to take back, so a `kill -9` leaves nothing stale; children notice by themselves (`parent_death`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from gate import __version__
from gate.clock import wall_ms
from gate.config import ServeConfig
from gate.errors import CannotStart, ReplicaError
from gate.option_values import Role
from gate.replica.layout import current_facts
from gate.sealing import use_key_file
from gate.service import embedded
from gate.service.answering import until_accepted, until_ready
from gate.service.child import Child
from gate.service.children import Children, RedisChild, RoleChild
from gate.service.directory_layout import DirectoryLayout, lock_roles, node_id
from gate.service.effective_options import EffectiveOptions
from gate.service.greeting import begin_log, greet, log_checks, log_start, log_stop, notify_systemd, systemd_watches
from gate.service.health import HealthPort
from gate.service.heartbeats import BEAT_EVERY_S
from gate.service.limits import forbid_core_files, require_limits
from gate.service.metrics_directory import DIRECTORY_VARIABLE, clear_counts, reserve_counts
from gate.service.ports import HeldPort, Ports, hold_ports
from gate.service.running import Running, forget_running, note_running
from gate.tls import server_context

# Workers early: on a Replica that is there already they answer before anything else is up.
START_ORDER: tuple[Role, ...] = ("redis", "worker", "replicator", "http", "background")
# What takes requests first, what they need last: a write in flight is still answered.
STOP_ORDER: tuple[tuple[Role, ...], ...] = (("worker", "http"), ("background",), ("replicator",), ("redis",))
# Of the time left to stop in, what each later step is sure of at least.
LAST_SHARE = 0.2
EXIT_FORCED = 1
# A signal sooner after the first is the same wish twice: make and timeout pass on what the group has got already.
FORCE_AFTER_S = 1.0


def run(config: ServeConfig, options: EffectiveOptions) -> int:
    """Run the service until a stop is requested; returns the exit status. `CannotStart` or `InvalidConfig` if it can't run.

    `options` is what `gate config` shows of it.
    """
    # For what libraries create too: LMDB's files, the server's append-only file, the sockets.
    os.umask(0o077)
    if not config.core_dumps:
        forbid_core_files()
    files = require_limits(config)
    if config.tls_files is not None:
        server_context(config.tls_files)  # a file that can't be used is a reason to end before anything is started
    use_key_file(config.secret_key_file)  # likewise
    layout = DirectoryLayout(config.directory, config.role)
    layout.prepare()
    # Before the ports: a second service must be refused for the directory, not for a port that the first one has.
    locks = lock_roles(layout, config.role)
    ports = hold_ports(config)
    program = embedded.server_program(config.redis_server) if "redis" in config.role else None
    note_running(layout, _running(config, options, layout, ports))
    # Once the locks are held: before, they may be of a service that runs.
    clear_counts(layout.metrics)
    reserve_counts(layout.metrics, os.getpid())
    # prometheus_client reads it when it is first imported, which no module above has done.
    os.environ[DIRECTORY_VARIABLE] = str(layout.metrics)

    async def supervised() -> int:
        children = Children(config, layout, ports)
        return await Supervisor(config, layout, children, program, ports, files, options).run()

    try:
        return asyncio.run(supervised())
    finally:
        ports.let_go(config)
        forget_running(layout)
        for lock in locks:
            os.close(lock)


def _running(config: ServeConfig, options: EffectiveOptions, layout: DirectoryLayout, ports: Ports) -> Running:
    addresses = {
        name: str(held.endpoint) if isinstance(held, HeldPort) else None for name, held in ports._asdict().items()
    }
    return Running(
        pid=os.getpid(),
        version=__version__,
        started_at_ms=wall_ms(),
        node_id=node_id(layout.node_id),
        node_name=config.node_name,
        host=socket.gethostname(),
        roles=config.role,
        redis=config.redis,
        presence_redis=config.presence_redis,
        **(addresses | {"unix": config.unix if ports.unix else None}),
        options=options,
    )


class Supervisor:
    """Runs the children from start to stop."""

    def __init__(
        self,
        config: ServeConfig,
        layout: DirectoryLayout,
        children: Children,
        program: Path | None,
        ports: Ports,
        files: int,
        options: EffectiveOptions,
    ) -> None:
        self._config = config
        self._files = files
        self._options = options
        self._layout = layout
        self._children = children.all(program)
        self._beat = children.beat
        self._watch = children.watch
        self._watch.excuses = self._excuses
        self._ports = ports
        self._http, self._resp = ports.http, ports.resp
        self._health = HealthPort(ports.health.holder, children.state) if ports.health else None
        self._stop_requested = asyncio.Event()
        self._stop_requested_at_s = 0.0
        self._forced = False
        # Looked at now: the replicator writes the file while the service starts.
        self._is_first_start = not layout.credentials.exists()

    async def run(self) -> int:
        """Start, say ready, wait, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if self._config.tls_files is not None:  # else a closed terminal ends the service, as it ends other programs
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        if self._health:
            await self._health.start()
        for role in START_ORDER:
            for child in self._children:
                if child.role == role:
                    child.start()
        beating = asyncio.create_task(self._keep_beating())
        try:
            await asyncio.sleep(0)  # every child is being started: now there is time for imports
            begin_log(self._config, self._files)
            await self._run_until_stop()
        finally:
            await self._stop()
            beating.cancel()
            self._heed_no_more_signals()
        return EXIT_FORCED if self._forced else 0

    async def _run_until_stop(self) -> None:
        """Returns when a stop is requested; raises the reason of a start that failed."""
        stop = asyncio.ensure_future(self._stop_requested.wait())
        ready = asyncio.ensure_future(self._until_ready())
        away = asyncio.ensure_future(self._heed_waiting())
        failures = [child.failed for child in self._children]
        awaited: list[asyncio.Future[Any]] = [stop, ready, away, *failures]
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            # A failure first: the service may have become ready in the same turn, and ends all the same.
            for failure in failures:
                if failure.done():
                    raise failure.result()
            if away.done():
                away.result()
            if ready.done() and not stop.done():
                ready.result()
                self._begin()
                away.cancel()  # from here on Redis away is the replicator's to report
                embedded.log_redis(self._config)
                greet(self._config, self._layout, self._ports, self._is_first_start)
                log_checks()
                await stop
        finally:
            stop.cancel()
            ready.cancel()
            away.cancel()

    def _begin(self) -> None:
        """It serves: once in its life, with Redis or without."""
        if not self._watch.has_started:
            self._watch.has_started = True
            log_start(self._config, self._options)

    async def _keep_beating(self) -> None:
        watched = systemd_watches()
        while True:
            self._beat()
            if watched and self._watch.has_started:  # before, they would fill the queue in which READY=1 must find room
                notify_systemd("WATCHDOG=1")
            await asyncio.sleep(BEAT_EVERY_S)

    async def _heed_waiting(self) -> None:
        """Report once that a Replica is served while Redis is away; raise `CannotStart` if no Replica can be served."""
        while True:
            await self._watch.changed.wait()
            self._watch.changed.clear()
            if not self._replica_was_looked_at():
                continue
            waiting = [child for child in self._children if child.waits_for]
            if waiting and self._has_replica():
                await self._say_away(waiting[0])
            elif waiting and not (self._watch.redis_was_reached or self._watch.has_started):
                raise CannotStart(waiting[0].waits_for)

    async def _say_away(self, waiting: Child) -> None:
        if self._watch.has_started:
            return
        self._begin()
        why = waiting.waits_for
        for endpoint in (serving := [held.endpoint for held in (self._resp, self._http) if held]):
            await until_accepted(endpoint)
        why = waiting.waits_for or why  # it may have ended meanwhile
        name = "embedded server" if waiting.role == "redis" else waiting.role
        source = "" if why.startswith("Redis") else f"the {name}: "
        words = f"gate {'serves checks from its Replica; ' if serving else ''}waiting for {source}{why}"
        print(words, flush=True)
        notify_systemd("READY=1", f"STATUS={words}")  # it serves: a restart by systemd would not bring Redis back

    def _excuses(self, child: Child) -> bool:
        """Whether a start goes on though this process can't: checks are served without."""
        return child.role == "redis" and self._has_replica()

    def _replica_was_looked_at(self) -> bool:
        """What is there may be of another boot, or damaged: then the replicator takes it away first."""
        return all(child.has_opened for child in self._children if child.role == "replicator")

    def _has_replica(self) -> bool:
        """Whether there is something to go on with while Redis is away."""
        if set(self._config.role) == {"redis"}:
            return False
        try:
            return bool(current_facts(self._layout.replica))
        except ReplicaError:
            return False

    async def _until_ready(self) -> None:
        for child in self._children:
            await child.ready.wait()
        if self._http:
            await until_ready(self._http.endpoint)

    def _on_signal(self) -> None:
        """The first signal drains; another, given on second thoughts, ends everything at once."""
        now_s = asyncio.get_running_loop().time()
        if not self._stop_requested.is_set():
            self._stop_requested_at_s = now_s
            self._stop_requested.set()
        elif now_s - self._stop_requested_at_s > FORCE_AFTER_S:
            self._forced = True
            for child in self._children:
                child.kill()

    def _reload(self) -> None:
        for child in self._children:
            if isinstance(child, RoleChild) and child.role in ("worker", "http"):
                child.reload()

    def _heed_no_more_signals(self) -> None:
        """All is stopped: a signal that comes while this process tidies up would only spoil its exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    async def _stop(self) -> None:
        self._stop_requested.set()
        notify_systemd("STOPPING=1")
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        if self._watch.has_started:  # else the reason why it can't start is the only line
            log_stop("gate stops")
        if self._health:
            self._health.stop()
        deadline_s = loop.time() + self._config.drain_timeout
        for step, roles in enumerate(STOP_ORDER, start=1):
            later = len(STOP_ORDER) - step
            left_s = max(0.1, deadline_s - loop.time())
            # A step that takes all of its time leaves each later one its share.
            timeout_s = left_s * (1 - LAST_SHARE * later)
            await asyncio.gather(*(child.stop(timeout_s) for child in self._children if child.role in roles))
        for child in self._children:
            if isinstance(child, RedisChild):
                with suppress(OSError):
                    child.forget_socket()
        if self._watch.has_started:
            log_stop("gate stopped", took_s=round(loop.time() - began_s, 3), forced=self._forced)
