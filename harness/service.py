"""A real `gate serve` that a test controls: starts on free ports, waits for, stops, or kills as a whole.

The service leads a session of its own, so that `kill_all` is the power switch of one node. What it prints goes to a
file, as it would under a service manager; a ready line that is not flushed is a failure here as it would be there.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.ports import LOOPBACK, free_port
from harness.processes import Process, family, is_alive, kill_each
from harness.registry import settle_at
from harness.waiting import NotInTime, wait_until

# A first start unpacks nothing and loads nothing, but imports much, in several processes, on a busy machine.
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
# After the supervisor is gone its children have had their chance.
LEFT_BEHIND_TIMEOUT_S = 2.0
CLIENT_TIMEOUT_S = 10.0
READY_LINE = re.compile(
    r"^gate ready http=(?P<http>\S+) resp=(?P<resp>\S+) app=(?P<app>\S+)(?: admin=(?P<admin>\S+))?(?: \S+-tls=\S+)*$",
    re.MULTILINE,
)


class ServiceDied(AssertionError):
    """`gate serve` exited instead of becoming ready; carries its exit status and everything it printed."""

    def __init__(self, status: int, output: str) -> None:
        super().__init__(f"gate serve exited with {status} and printed:\n{output}")
        self.status = status
        self.output = output


class LeftBehind(AssertionError):
    """`gate serve` ended but processes of its own went on."""

    def __init__(self, survivors: Sequence[Process]) -> None:
        super().__init__("left running: " + "; ".join(f"{one.pid} {one.command}" for one in survivors))


@dataclass(frozen=True, slots=True)
class Credentials:
    """`credentials.json`, as the first start writes it."""

    app_key: str
    app_secret: str
    operator: str
    operator_password: str


class GateService:
    """One node. `GateService.start(data)` returns when it is ready; `start(data, wait=False)` at once."""

    def __init__(self, data: Path, command: Sequence[str], env: Mapping[str, str], http: str, resp_port: int) -> None:
        self.data = data
        self.http = http
        self.resp_port = resp_port
        self.app_key: str | None = None
        self.output_path = data.with_name(f"{data.name}.output")
        with self.output_path.open("ab") as output:
            self._output_start = output.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,
            )

    @classmethod
    def start(
        cls,
        data: Path,
        *options: str,
        redis_url: str | None = None,
        http_port: int | None = None,
        resp_port: int | None = None,
        workers: int = 1,
        env: Mapping[str, str] | None = None,
        wait: bool = True,
        under: Sequence[str] = (),
        python: str | Path = sys.executable,
    ) -> GateService:
        """Runs `gate serve` on `data`, with free ports unless given. Raises ServiceDied or NotInTime.

        On a given Redis, the wait of the first lease is skipped: writes may be acknowledged as `all`.
        """
        data.parent.mkdir(parents=True, exist_ok=True)
        http_port, resp_port = http_port or free_port(), resp_port or free_port()
        command = [*under, str(python), "-m", "gate", "serve", "--data", str(data), "--workers", str(workers)]
        command += ["--http", f"{LOOPBACK}:{http_port}", "--resp", f"{LOOPBACK}:{resp_port}"]
        if redis_url is not None:
            command += ["--redis", redis_url]
        service = cls(data, [*command, *options], env or {}, f"http://{LOOPBACK}:{http_port}", resp_port)
        if wait:
            service.wait_ready()
            if redis_url is not None:
                settle_at(redis_url)
        return service

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """What this run has printed so far, both streams."""
        return self.output_path.read_bytes()[self._output_start :].decode(errors="replace")

    @property
    def credentials(self) -> Credentials:
        return Credentials(**json.loads((self.data / "credentials.json").read_text()))

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until the ready line is printed. On failure nothing is left running."""
        try:
            wait_until(self._has_said_ready, timeout_s, "the ready line of gate serve")
        except NotInTime as late:
            self.kill_all()
            raise NotInTime(f"the ready line of gate serve, which printed:\n{self.output}", timeout_s) from late
        except ServiceDied:
            self.kill_all()
            raise

    def wait_for_output(self, text: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until it has printed that. Raises NotInTime."""
        try:
            wait_until(lambda: text in self.output, timeout_s, "")
        except NotInTime as late:
            raise NotInTime(f"{text!r} from gate serve, which printed:\n{self.output}", timeout_s) from late

    def wait_exit(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """The exit status. Raises NotInTime if it does not end, LeftBehind if a process of its own outlives it."""
        status_of = self._process.poll
        members = family(self.pid)
        wait_until(lambda: status_of() is not None, timeout_s, f"gate serve to exit, which printed:\n{self.output}")
        self._expect_none_left(members)
        return self._process.returncode

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, which drains; the exit status. Kills and raises as `wait_exit` does. Harmless on an ended one."""
        if not self.is_running:
            return self._process.returncode
        self._process.send_signal(signal.SIGTERM)
        try:
            return self.wait_exit(timeout_s)
        except NotInTime:
            self.kill_all()
            raise

    def kill_all(self) -> None:
        """SIGKILL to every process of the node at once, as when a machine dies. Harmless on an ended one."""
        members = [one.pid for one in family(self.pid)]
        kill_each(members)
        self._process.wait(STOP_TIMEOUT_S)

        def all_are_dead() -> bool:
            # One may just have been forked when the list was made.
            late = [one.pid for one in family(self.pid)]
            kill_each(late)
            return not late and not any(map(is_alive, members))

        wait_until(all_are_dead, STOP_TIMEOUT_S, "every process of the service to be gone")

    def processes(self) -> list[Process]:
        """Every living process of this node: supervisor, roles, embedded server."""
        return family(self.pid)

    def kept_pids(self) -> set[int]:
        """The supervisor and the processes that it keeps running; not what those start for a moment, as for a rewrite."""
        return {one.pid for one in family(self.pid) if self.pid in (one.pid, one.parent_pid)}

    def resp_client(self) -> redis.Redis:
        """A client of the RESP port, bound to the first App. It never retries."""
        credentials = self.credentials
        return redis.Redis(
            host=LOOPBACK,
            port=self.resp_port,
            username=credentials.app_key,
            password=credentials.app_secret,
            socket_timeout=CLIENT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )

    def __enter__(self) -> GateService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill_all()

    def _has_said_ready(self) -> bool:
        found = READY_LINE.search(self.output)
        if found is None:
            status = self._process.poll()
            if status is not None:
                raise ServiceDied(status, self.output)
            return False
        self.http = f"http://{found['http']}"
        self.resp_port = int(found["resp"].rpartition(":")[2])
        self.app_key = found["app"]
        return True

    def _expect_none_left(self, members: Sequence[Process]) -> None:
        known = {one.pid: one.command for one in [*members, *family(self.pid)]}

        def survivors() -> list[Process]:
            """The kernel may have reused a pid: it must still run the same command."""
            return [one for pid in known for one in family(pid) if one.pid == pid and one.command == known[pid]]

        try:
            wait_until(lambda: not survivors(), LEFT_BEHIND_TIMEOUT_S, "the service's processes to end with it")
        except NotInTime:
            left = survivors()
            kill_each([one.pid for one in left])
            raise LeftBehind(left) from None


class Checking(threading.Thread):
    """Asks at a steady rate whether ann may message bob, until `end`; how long each answer took, ms."""

    def __init__(self, service: GateService, per_s: int = 500) -> None:
        super().__init__(daemon=True)
        self._client = service.resp_client()
        self._per_s = per_s
        self._is_ending = threading.Event()
        self._fault: redis.RedisError | None = None
        self.took_ms: list[float] = []
        self.answers: set[object] = set()
        self.start()

    def run(self) -> None:
        """Of the thread."""
        next_s = time.monotonic()
        while not self._is_ending.wait(max(0.0, next_s - time.monotonic())):
            next_s += 1 / self._per_s
            began_s = time.perf_counter()
            try:
                self.answers.add(self._client.execute_command("GATE.CHECK", "ann", "bob"))
            except redis.RedisError as fault:
                self._fault = fault
                return
            self.took_ms.append((time.perf_counter() - began_s) * 1_000)

    def end(self) -> float:
        """Stop asking; the 99th percentile in ms. Raises what ended it early."""
        self._is_ending.set()
        self.join()
        if self._fault is not None:
            raise self._fault
        return statistics.quantiles(self.took_ms, n=100)[98]


class Services:
    """Starts nodes for a fixture, and ends them with it: a test need not stop what it started."""

    def __init__(self, new_directory: Callable[[], Path]) -> None:
        self._new_directory = new_directory
        self._started: list[GateService] = []

    def start(
        self,
        *options: str,
        data: Path | None = None,
        redis_url: str | None = None,
        workers: int = 1,
        http_port: int | None = None,
        resp_port: int | None = None,
        env: Mapping[str, str] | None = None,
        wait: bool = True,
        under: Sequence[str] = (),
    ) -> GateService:
        """As `GateService.start`, in a new directory unless `data` is given (to start an old node again)."""
        service = GateService.start(
            self._new_directory() / "data" if data is None else data,
            *options,
            redis_url=redis_url,
            http_port=http_port,
            resp_port=resp_port,
            workers=workers,
            env=env,
            wait=wait,
            under=under,
        )
        self._started.append(service)
        return service

    def end_all(self) -> None:
        """Stops each as an operator would, newest first; a node that does not drain fails the test that started it."""
        failures: list[Exception] = []
        for service in reversed(self._started):
            try:
                service.stop()
            except (NotInTime, LeftBehind) as failure:
                failures.append(failure)
        self._started.clear()
        if failures:
            raise ExceptionGroup("nodes that did not end well", failures)


class SharedService:
    """One node for tests that keep to an App of their own each, and change nothing of the deployment."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._service: GateService | None = None
        self._pids: set[int] = set()

    def whole(self) -> GateService:
        """The node. It is started when it is first asked for, and again after a test that ended a process of it."""
        if self._service is None or not self._is_whole(self._service):
            self.stop()
            self._service = GateService.start(self._data)
            self._pids = self._service.kept_pids()
        return self._service

    def expect_whole(self) -> None:
        """Fails the test that ended a process of the node, whose service restarts it."""
        if self._service is not None and not self._is_whole(self._service):
            raise AssertionError(f"a process of the shared service ended: {self._service.output[-2_000:]}")

    def stop(self) -> None:
        """As an operator would. Harmless if nothing runs."""
        if self._service is not None:
            self._service.stop()
            self._service = None

    def _is_whole(self, service: GateService) -> bool:
        return service.is_running and service.kept_pids() == self._pids
