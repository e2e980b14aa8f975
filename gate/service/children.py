"""The processes of a service: roles of Gate, controlled over a channel, and the embedded server; and how all are made.

Each leads a process group of its own: a Ctrl-C in the terminal, or `timeout`, signals the supervisor's whole group, and the
order in which things stop is the supervisor's to decide.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import msgspec

from gate.clock import monotonic_ms
from gate.config import ServeConfig
from gate.errors import CannotStart, InvalidConfig
from gate.option_values import Role
from gate.service import embedded
from gate.service.child import Child, Watch
from gate.service.directory_layout import DirectoryLayout, node_id
from gate.service.heartbeats import SUPERVISOR, Heartbeats
from gate.service.limits import processes_of
from gate.service.metrics_directory import DIRECTORY_VARIABLE, fold_counts_of, forget_gauges_of
from gate.service.node_state import NodeState
from gate.service.ports import Ports
from gate.service.role_messages import GO, MAX_LINE_BYTES, RELOAD, RoleConfig, pack, read_role_message

FIRST_PING_EVERY_S = 0.01
PING_EVERY_S = 0.5

# A scrape that reads the counts takes a few milliseconds.
FOLD_AGAIN_S = 0.2


class RoleChild(Child):
    """A Python process that runs one role. Its order goes to its stdin; so does the word that the store answers."""

    def __init__(
        self,
        role_config: RoleConfig,
        role: str,
        *,
        heartbeats: Heartbeats,
        metrics: Path,
        store_answers: asyncio.Event,
        on_restart: Callable[[str], None],
        watch: Watch,
    ) -> None:
        super().__init__(role_config.name, role, on_restart, watch)
        self._role_config = role_config
        self._heartbeats = heartbeats
        self._metrics = metrics
        self._store_answers = store_answers
        self._channel: socket.socket | None = None
        self._writer: asyncio.StreamWriter | None = None

    def reload(self) -> None:
        """Let it read the files of TLS again. One that is being started reads them anyway."""
        if self._writer is not None:
            self._writer.write(RELOAD)

    async def launch(self) -> asyncio.subprocess.Process:
        """Start it, with one end of the channel as its stdin. stdout is the service's ready line's alone."""
        ours, theirs = socket.socketpair()
        try:
            # This process keeps no copy of the role's end, or the channel would outlive the role.
            with theirs:
                process = await self._launched(theirs)
        except BaseException:
            ours.close()  # a role that was started all the same ends with it
            raise
        self._heartbeats.set_pid(self._role_config.slot, process.pid)
        self._channel = ours
        return process

    async def _launched(self, channel: socket.socket) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            # -P: the code that runs is the one installed, not whatever folder named gate lies where this was started.
            *(sys.executable, "-P", "-m", "gate.service.role", self.role, self._role_config.name),
            stdin=channel.fileno(),
            stdout=sys.stderr,
            process_group=0,
            pass_fds=tuple(fd for fd in (self._role_config.unix_fd, self._role_config.shared_fd) if fd is not None),
            env={**os.environ, DIRECTORY_VARIABLE: str(self._metrics)},
        )

    async def attend(self, process: asyncio.subprocess.Process) -> None:
        """Send the order and, once the store answers, the word to go; listen until the channel ends."""
        assert self._channel is not None
        reader, writer = await asyncio.open_connection(sock=self._channel, limit=MAX_LINE_BYTES)
        going = asyncio.create_task(self._send_order(writer))
        self._writer = writer
        try:
            with suppress(ConnectionResetError):  # it was killed before it read the word to go
                while line := await reader.readline():
                    self._hear(line)
            await asyncio.Event().wait()  # the channel may end a moment before the process does
        finally:
            going.cancel()
            self._writer = None
            writer.close()

    def on_death(self) -> None:
        """Off the board, and its connections off the count."""
        self._heartbeats.set_ready(self._role_config.slot, False)
        self._heartbeats.set_pid(self._role_config.slot, 0)
        if self.pid is not None:
            forget_gauges_of(self.pid, self._metrics)
            self._fold(self.pid)

    def _fold(self, pid: int) -> None:
        if not fold_counts_of(pid, self._metrics):
            asyncio.get_running_loop().call_later(FOLD_AGAIN_S, self._fold, pid)

    async def _send_order(self, writer: asyncio.StreamWriter) -> None:
        # The first bytes of the channel, before the word to go: a role reads its order one byte at a time, and no further.
        writer.write(pack(msgspec.structs.replace(self._role_config, is_restart=self.was_ready)))
        await self._store_answers.wait()
        writer.write(GO)

    def _hear(self, line: bytes) -> None:
        message = read_role_message(line)
        if message.what == "ready":
            self.declare_ready()
        elif message.what == "opened":
            self.has_opened = True
            self.watch.changed.set()
        elif message.what == "reached":
            self.watch.redis_was_reached = True
        elif message.what == "waits":
            self.wait_for(message.problem)
        else:
            self.fail(InvalidConfig([message.problem]) if message.is_usage else CannotStart(message.problem))


class RedisChild(Child):
    """The embedded server. It can't beat on the board itself, so the supervisor pings it and beats for it."""

    def __init__(
        self,
        program: Path,
        directory: Path,
        *,
        heartbeats: Heartbeats,
        slot: int,
        answers: asyncio.Event,
        on_restart: Callable[[str], None],
        watch: Watch,
    ) -> None:
        super().__init__("redis", "redis", on_restart, watch)
        self.socket = embedded.prepare_socket(directory)
        self._program = program
        self._directory = directory
        self._heartbeats = heartbeats
        self._slot = slot
        self._answers = answers

    async def launch(self) -> asyncio.subprocess.Process:
        """Start it through the launcher."""
        process = await asyncio.create_subprocess_exec(
            *embedded.command(self._program, self._directory, self.socket),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sys.stderr,
            process_group=0,
        )
        self._heartbeats.set_pid(self._slot, process.pid)
        return process

    async def attend(self, process: asyncio.subprocess.Process) -> None:
        """Ping it, closely until it answers (it may have to load its data first), then twice a second."""
        while True:
            problem = await embedded.problem_of(self.socket)
            # In the place of a role's own note: the server can't write into the page.
            self._heartbeats.note(self._slot, problem)
            if not problem:
                self._heartbeats.beat(self._slot, monotonic_ms())
                self._heartbeats.set_ready(self._slot, True)
                self._answers.set()
                self.declare_ready()
            await asyncio.sleep(PING_EVERY_S if self.ready.is_set() else FIRST_PING_EVERY_S)

    def on_death(self) -> None:
        """Off the board."""
        self._heartbeats.set_ready(self._slot, False)
        self._heartbeats.set_pid(self._slot, 0)
        self._heartbeats.note(self._slot, f"it ended: {self.death_note()}")

    def death_note(self) -> str:
        """The last line of its log."""
        return embedded.log_tail(self._directory)

    def forget_socket(self) -> None:
        """After an orderly stop: remove the private directory that a long path made necessary."""
        folder = self.socket.parent
        if folder != self._directory:
            self.socket.unlink(missing_ok=True)
            # Only an empty one: whatever else is there is not Gate's to delete.
            folder.rmdir()
            (self._directory / embedded.ELSEWHERE_FILE).unlink(missing_ok=True)


class Children:
    """Makes every process of the service, and lays out the board that they beat on."""

    def __init__(self, config: ServeConfig, layout: DirectoryLayout, ports: Ports) -> None:
        self._config = config
        self._layout = layout
        self._ports = ports
        # In the order of `ROLES`, as slots are given: the embedded server first.
        self._names = [name for role in config.role for name in _names_of(role, config)]
        self._slots = count()
        self.heartbeats = Heartbeats.create(layout.heartbeats, [*self._names, SUPERVISOR])
        self.heartbeats.set_pid(len(self._names), os.getpid())
        self.state = NodeState(self.heartbeats, layout.replica)
        self.watch = Watch()
        self._shared_fd = _shared_memory(config)
        self._store_answers = asyncio.Event()
        self._redis_url = config.redis or embedded.socket_url(embedded.socket_path(layout.redis))

    def all(self, program: Path | None) -> list[Child]:
        """In the order of the roles; the embedded server first, because roles need its address."""
        children: list[Child] = []
        if program is not None:
            children.append(self._redis(program))
        else:
            self._store_answers.set()
        node = node_id(self._layout.node_id)
        for role in self._config.role:
            if role != "redis":
                children += [self._role(role, name, index, node) for index, name in self._of(role)]
        return children

    def beat(self) -> None:
        """Show that the supervisor runs."""
        self.heartbeats.beat(len(self._names), monotonic_ms())
        # The last slot. Nothing restarts the supervisor, so a probe must see that it is silent.
        self.heartbeats.set_ready(len(self._names), True)

    def _of(self, role: Role) -> list[tuple[int, str]]:
        return list(enumerate(_names_of(role, self._config)))

    def _redis(self, program: Path) -> RedisChild:
        child = RedisChild(
            program,
            self._layout.redis,
            heartbeats=self.heartbeats,
            slot=next(self._slots),
            answers=self._store_answers,
            on_restart=_count_restart,
            watch=self.watch,
        )
        self._redis_url = embedded.socket_url(child.socket)
        return child

    def _role(self, role: Role, name: str, index: int, node: str) -> RoleChild:
        ports = self._ports
        role_config = RoleConfig(
            name=name,
            slot=next(self._slots),
            index=index,
            config=self._config,
            redis_url=self._redis_url,
            http=ports.http.endpoint if ports.http else None,
            admin=ports.admin.endpoint if ports.admin else None,
            resp=ports.resp.endpoint if ports.resp else None,
            resp_tls=ports.resp_tls.endpoint if ports.resp_tls else None,
            http_tls=ports.http_tls.endpoint if ports.http_tls else None,
            # A unix socket has no SO_REUSEPORT, so its workers accept from one queue.
            unix_fd=ports.unix.fileno() if ports.unix and role == "worker" else None,
            # Not for others: they would keep the memory of limits open, and could read it.
            shared_fd=self._shared_fd if role == "http" else None,
            is_restart=False,
            node_id=node,
        )
        return RoleChild(
            role_config,
            role,
            heartbeats=self.heartbeats,
            metrics=self._layout.metrics,
            store_answers=self._store_answers,
            on_restart=_count_restart,
            watch=self.watch,
        )


def _names_of(role: Role, config: ServeConfig) -> list[str]:
    many = processes_of(role, config)
    return [f"{role}-{index}" for index in range(many)] if role == "worker" or many > 1 else [role]


def _shared_memory(config: ServeConfig) -> int | None:
    """For the limits that several HTTP processes keep together."""
    if "http" not in config.role or config.http_workers == 1:
        return None
    from gate.http.shared import make_shared_memory

    # Made here, since processes that start one after the other must inherit the same.
    return make_shared_memory()


def _count_restart(role: str) -> None:
    from gate.metrics import ROLE_RESTARTS

    ROLE_RESTARTS.labels(role).inc()
