"""A primary with two replicas and three Sentinels, all real, started in a second, with short limits.

The Sentinels know each other from their files; finding each other by messages would take seconds.
Used by the fixture `sentinel_setup` in `tests/conftest.py`, and by `loadtests/micro/failover.py`.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.client import PubSubWorkerThread

from harness.partitions import apart_host
from harness.ports import LOOPBACK, free_port
from harness.servers import START_TIMEOUT_S, Flavor, RedisServer
from harness.waiting import wait_until

NAME = "facts"
DOWN_AFTER_MS = 1_200
"""More than the second that a Sentinel waits before it connects again: else a connection that was closed looks like a death."""
FAILOVER_TIMEOUT_MS = 5_000
LOOK_EVERY_MS = 300
QUORUM = 2
WAIT_MS = 1_500
ELECTED_TIMEOUT_S = 20.0
_SERVER = ("--repl-diskless-sync-delay", "0", "--repl-diskless-sync", "yes", "--repl-backlog-size", "4mb")


class SentinelProcess(RedisServer):
    """One Sentinel. Its file, which it rewrites, is all that it keeps."""

    def launch(self) -> None:
        """Starts it, again with what its file holds."""
        self._launch()

    def command(self, aof: bool) -> list[str]:
        binary, *_ = super().command(aof)
        return [binary, str(self.directory / "sentinel.conf"), "--sentinel"]

    def _answers(self) -> bool:
        status = self._running().poll()
        if status is not None:
            raise AssertionError(f"the Sentinel exited with {status}: {self.log_tail()}")
        try:
            return bool(self.client.info("server")["process_id"] == self.pid)
        except (redis.ConnectionError, redis.TimeoutError):
            return False


class SentinelSetup:
    """`start` it, `stop` it. `servers` are in the order of their start, so the first one was the first primary."""

    def __init__(self, servers: list[RedisServer], sentinels: list[SentinelProcess]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    @classmethod
    def start(
        cls,
        flavor: Flavor,
        directory: Path,
        extra: Sequence[str] = (),
        sentinel_lines: Sequence[str] = (),
        *,
        is_hasty: bool = True,
        host: str = "",
        are_apart: bool = False,
    ) -> SentinelSetup:
        """`extra` are options of the servers, `sentinel_lines` further lines of the Sentinels' files.

        `are_apart` gives each server and each Sentinel an address of its own, for `partitions`.
        Without `is_hasty` Sentinels look as often as they do elsewhere: an old primary takes writes for some ten seconds.
        """
        hosts = [apart_host(number) if are_apart else LOOPBACK for number in range(1, 7)]
        servers = [RedisServer.start(flavor, directory / "s0", extra=[*_SERVER, *extra], host=hosts[0])]
        setup = cls(servers, [])
        try:
            primary = ["--replicaof", f"{hosts[0]} {servers[0].port}"]
            for number in (1, 2):
                folder, options = directory / f"s{number}", [*_SERVER, *extra, *primary]
                servers.append(RedisServer.start(flavor, folder, extra=options, host=hosts[number]))
            wait_until(lambda: setup.has_replicas(servers[0], 2), START_TIMEOUT_S, "two replicas")
            own = hosts[3:]
            setup.start_sentinels(flavor, directory, sentinel_lines, is_hasty=is_hasty, host=host, own_hosts=own)
        except BaseException:
            setup.stop()
            raise
        return setup

    @property
    def url(self) -> str:
        """For Gate, with all Sentinels."""
        hosts = ",".join(f"{sentinel.host}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}"

    @property
    def primary(self) -> RedisServer:
        """The primary, by the newest answer of any Sentinel."""
        found = [self._named(sentinel) for sentinel in self.sentinels]
        _, port = max(one for one in found if one is not None)
        return next(server for server in self.servers if server.port == port)

    @property
    def replicas(self) -> list[RedisServer]:
        """The others that run."""
        primary = self.primary
        return [server for server in self.servers if server is not primary and server.is_running]

    def has_replicas(self, server: RedisServer, count: int) -> bool:
        """Whether as many follow it and get its writes: one shows as online a second before that."""
        with server.client.pipeline(transaction=False) as pipeline:
            pipeline.set("written", "")
            pipeline.delete("written")
            pipeline.wait(count, WAIT_MS)
            return bool(pipeline.execute()[-1] >= count)

    def fail_over(self, *, is_whole: bool = False) -> None:
        """`SENTINEL FAILOVER`: begins it, once all is whole; `wait_switched` waits for its end."""
        if not is_whole:
            self.wait_whole()
        self._ask(self.sentinels[0], "FAILOVER")

    def wait_switched(self, old: RedisServer) -> RedisServer:
        """Until some Sentinel names another primary; that one."""
        wait_until(lambda: self.primary is not old, ELECTED_TIMEOUT_S, "another primary")
        return self.primary

    def wait_whole(self) -> None:
        """Until every Sentinel names the same primary, sees all the others, and every other server follows it."""
        wait_until(self._is_whole, 2 * ELECTED_TIMEOUT_S, "the servers and the Sentinels to agree")

    def start_sentinels(
        self,
        flavor: Flavor,
        directory: Path,
        lines: Sequence[str] = (),
        count: int = 3,
        *,
        is_hasty: bool = True,
        host: str = "",
        own_hosts: Sequence[str] = (),
        server_port: int | None = None,
        is_waited_for: bool = True,
    ) -> None:
        """Starts as many, which monitor the first server as on `host`, and waits until they know everything."""
        own_hosts = own_hosts or [LOOPBACK] * count
        known = [(own_hosts[number], free_port(), secrets.token_hex(20)) for number in range(count)]
        for number, (own_host, port, own_id) in enumerate(known):
            folder = directory / f"sentinel{number}"
            folder.mkdir(parents=True)
            others = [each for each in known if each[1] != port]
            text = [
                f"port {port}",
                f"bind {own_host}",
                *([] if own_host == LOOPBACK else [f"bind-source-addr {own_host}", "protected-mode no"]),
                f"dir {folder}",
                *lines,
                f"sentinel myid {own_id}",
                f"sentinel monitor {NAME} {host or self.servers[0].host} {server_port or self.servers[0].port} {QUORUM}",
                f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
                f"sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}",
                f"sentinel parallel-syncs {NAME} 2",
                *(f"sentinel known-replica {NAME} {server.host} {server.port}" for server in self.servers[1:]),
                *(f"sentinel known-sentinel {NAME} {other} {its_port} {its_id}" for other, its_port, its_id in others),
            ]
            (folder / "sentinel.conf").write_text("\n".join(text) + "\n")
            sentinel = SentinelProcess(flavor, folder, port, None, False, (), {}, own_host)
            self.sentinels.append(sentinel)
            sentinel.launch()
            if is_hasty:
                self._hasten(sentinel)
        if is_waited_for:
            wait_until(self._is_whole, START_TIMEOUT_S, "the Sentinels to know everything")

    def stop(self) -> None:
        for server in [*self.sentinels, *self.servers]:
            server.kill()

    def _is_whole(self) -> bool:
        answers = [self._named(sentinel) for sentinel in self.sentinels if sentinel.is_running]
        if None in answers or len(set(answers)) != 1:
            return False
        for sentinel in self.sentinels:
            if sentinel.is_running:
                facts = _pairs(self._ask(sentinel, "MASTER"))
                known = int(facts["num-slaves"]), int(facts["num-other-sentinels"])
                if facts["flags"] != "master" or known != (len(self.servers) - 1, len(self.sentinels) - 1):
                    return False
        running = [server for server in self.servers if server.is_running]
        return self.has_replicas(self.primary, len(running) - 1)

    def _named(self, sentinel: SentinelProcess) -> tuple[int, int] | None:
        if not sentinel.is_running:
            return None
        try:
            facts = _pairs(self._ask(sentinel, "MASTER"))
            _, port = self._ask(sentinel, "GET-MASTER-ADDR-BY-NAME")
        except (redis.ConnectionError, redis.TimeoutError):
            return None
        return int(facts["config-epoch"]), int(port)

    def _hasten(self, sentinel: SentinelProcess) -> None:
        """Else it looks at the roles of servers every ten seconds, and a failover takes as long to be over."""
        debug = ("SENTINEL", "DEBUG", "info-period", str(LOOK_EVERY_MS), "publish-period", str(LOOK_EVERY_MS))
        with contextlib.suppress(redis.ResponseError):  # Redis 6.2 has no such command
            sentinel.client.execute_command(*debug)

    def _ask(self, sentinel: SentinelProcess, question: str) -> Any:
        return sentinel.client.execute_command("SENTINEL", question, NAME)


class Switches:
    """Notes, in a `with`, when each Sentinel publishes its first `+switch-master`; on the monotonic clock, s."""

    def __init__(self, sentinels: Sequence[SentinelProcess]) -> None:
        self._sentinels = sentinels
        self._heard: dict[int, float] = {}
        self._threads: list[PubSubWorkerThread] = []

    def __enter__(self) -> Switches:
        for sentinel in self._sentinels:
            pubsub = redis.Redis(host=LOOPBACK, port=sentinel.port).pubsub()
            pubsub.subscribe(**{"+switch-master": functools.partial(self._hear, sentinel.port)})
            self._threads.append(pubsub.run_in_thread(sleep_time=0.05, daemon=True))
        return self

    def __exit__(self, kind: object, fault: object, trace: object) -> None:
        for thread in self._threads:
            thread.stop()
        for thread in self._threads:
            thread.join()

    @property
    def first_s(self) -> float:
        """The leader of the failover, which says so when it is over."""
        return min(self._heard.values())

    @property
    def last_s(self) -> float:
        """The one that learnt of it last."""
        return max(self._heard.values())

    @property
    def are_all_heard(self) -> bool:
        """Whether every Sentinel that listens has said it."""
        return len(self._heard) == len(self._sentinels)

    def _hear(self, port: int, message: object) -> None:
        self._heard.setdefault(port, time.monotonic())


def _pairs(reply: object) -> dict[str, str]:
    """redis-py makes a dictionary of some of these replies, by their command."""
    if isinstance(reply, dict):
        return {_text(name): _text(value) for name, value in reply.items()}
    assert isinstance(reply, list)
    return {_text(name): _text(value) for name, value in zip(reply[::2], reply[1::2], strict=True)}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
