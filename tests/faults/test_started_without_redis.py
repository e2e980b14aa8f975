"""A node with a Replica starts in any fault of Redis: it serves checks, reports what it waits for, and recovers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import pytest
import redis

from harness.cable import Cable
from harness.ports import free_port
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.faults.calls import Pair
from tests.faults.node import RECOVERY_TIMEOUT_S, Node
from tests.service.running import is_ready, listening_systemd, pid_of, readyz, refused

SERVES = "gate serves checks from its Replica; waiting for "
FIRST_CHECK_WITHIN_S = 30.0
"""Under a second on an idle machine (`make bench ARGS="--only restart"`); the suite may share it with others."""
PASSWORD = "hunter2"


class Rested(NamedTuple):
    """A node that was stopped in order, its Redis, and verdicts that it knows."""

    data: Path
    server: RedisServer
    expected: dict[Pair, str]


@pytest.fixture(scope="module")
def rested(start_module_service: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rested]:
    server = RedisServer.start("valkey-9", tmp_path_factory.mktemp("rested"), aof=True)
    service = start_module_service.start("--partitions", "4", redis_url=server.url)
    node = Node(service)
    expected = node.pairs("before")
    node.close()
    service.stop()
    yield Rested(service.data, server, expected)
    server.stop()


@contextmanager
def _killed(server: RedisServer) -> Iterator[None]:
    server.kill()
    yield
    server.restart()


@contextmanager
def _configured(server: RedisServer, name: str, wrong: str, right: str) -> Iterator[None]:
    server.client.config_set(name, wrong)
    yield
    password = wrong if name == "requirepass" else None
    with redis.Redis(host="127.0.0.1", port=server.port, password=password) as healer:
        healer.config_set(name, right)


@contextmanager
def _demoted(server: RedisServer) -> Iterator[None]:
    server.client.replicaof("127.0.0.1", free_port())
    yield
    server.client.replicaof("NO", "ONE")


@contextmanager
def _loading(server: RedisServer) -> Iterator[None]:
    """Looks like a restart with a large file: each key takes 20 ms to load, all of them a minute."""
    server.client.mset({f"filler-{nth}": "x" * 100 for nth in range(3_000)})
    server.client.bgrewriteaof()  # only what is loaded in the form of a snapshot lets clients be answered meanwhile
    wait_until(lambda: not server.client.info("persistence")["aof_rewrite_in_progress"], 10, "the rewrite")
    server.kill()
    slowly = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    process = subprocess.Popen([*server.command(aof=True), *slowly], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        server.restart()


Fault = Callable[[RedisServer], AbstractContextManager[None]]
FAULTS: dict[str, tuple[Fault, str]] = {
    "is not there": (_killed, "refused"),
    "hangs": (lambda server: server.paused(), "within 500 ms"),
    "is a replica": (_demoted, "is a replica of"),
    "is out of memory": (lambda server: _configured(server, "maxmemory", "1", "0"), "OOM"),
    "loads its data": (_loading, "LOADING"),
    "wants a password": (lambda server: _configured(server, "requirepass", PASSWORD, ""), "NOAUTH"),
}
"""By name: the fault, and a word of the reason that it is reported with."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_node_with_a_replica_starts_though_redis(
    rested: Rested, start_service: Services, tmp_path: Path, fault: str
) -> None:
    wrong, reason = FAULTS[fault]
    with wrong(rested.server), listening_systemd(tmp_path) as (variables, notified):
        service = start_service.start(data=rested.data, redis_url=rested.server.url, wait=False, env=variables)
        service.wait_for_output(SERVES, FIRST_CHECK_WITHIN_S)
        wait_until(lambda: "READY=1" in notified(), 5, "systemd to learn that the node has started")
        assert SERVES in notified()[-1]
        node = Node(service)
        node.asserts(rested.expected)
        assert wait_until(node.stale_ms, 5, "the facts to be said to be old")
        wait_until(lambda: reason in str(readyz(service)), 5, "/readyz to give the reason")
        assert readyz(service)[0] == 503
        refusal = node.http.ban("stranger")
        assert (refusal.status, refusal.body["error"]) == (503, "unavailable")
        assert str(rested.server.port) in service.output
        assert "gate ready" not in service.output
        node.close()

    _heals(service, rested.expected)


def _heals(service: GateService, expected: dict[Pair, str]) -> None:
    service.wait_ready()
    node = Node(service)
    node.wait_writable()
    node.asserts(expected)
    assert is_ready(service)
    assert service.output.count(SERVES) == 1
    assert "Traceback" not in service.output
    node.close()
    service.stop()


def test_one_that_served_does_not_end_when_its_replica_is_taken_away(
    rested: Rested, start_service: Services, tmp_path: Path
) -> None:
    """There are no facts to serve any more, but the start is over: it continues to wait for Redis."""
    data = tmp_path / "data"
    shutil.copytree(rested.data, data)
    (data / "node-id").unlink()
    with _killed(rested.server):
        service = start_service.start(data=data, redis_url=rested.server.url, wait=False)
        service.wait_for_output(SERVES, FIRST_CHECK_WITHIN_S)
        for taken in (data / "replica").iterdir():
            taken.unlink()
        service.wait_for_output("was removed", RECOVERY_TIMEOUT_S)
        replicator = pid_of(service, "replicator")
        assert replicator is not None
        os.kill(replicator, signal.SIGKILL)
        wait_until(lambda: pid_of(service, "replicator") not in (None, replicator), 10, "another replicator")
        wait_until(lambda: "replicator" in str(readyz(service)), 10, "/readyz to name what is missing")
    _heals(service, rested.expected)


def test_one_whose_replica_is_taken_away_while_it_starts_does_not_end(
    rested: Rested, start_service: Services, tmp_path: Path
) -> None:
    """Redis goes as well, before every role has reached it: the node waits, since it was neither wrong nor new."""
    data = tmp_path / "data"
    shutil.copytree(rested.data, data)
    (data / "node-id").unlink()
    service = start_service.start(data=data, redis_url=rested.server.url, wait=False)
    http = wait_until(lambda: pid_of(service, "http"), 10, "the HTTP role to be started")
    os.kill(http, signal.SIGSTOP)  # it has not reached Redis: it still imports
    service.wait_for_output("the Replica is current", FIRST_CHECK_WITHIN_S)
    replicator = pid_of(service, "replicator")
    assert replicator is not None
    os.kill(replicator, signal.SIGSTOP)
    with _killed(rested.server):
        for taken in (data / "replica").iterdir():
            taken.unlink()
        os.kill(replicator, signal.SIGCONT)
        service.wait_for_output("was removed", RECOVERY_TIMEOUT_S)
        os.kill(http, signal.SIGCONT)
        wait_until(lambda: _names_http(service), FIRST_CHECK_WITHIN_S, "/readyz to say that HTTP waits")
    service.wait_ready()
    assert is_ready(service)
    service.stop()


def _names_http(service: GateService) -> bool:
    assert service.is_running, service.output
    try:
        return "http" in str(readyz(service))
    except URLError:
        return False  # its port is not open yet


def test_a_node_whose_replica_is_damaged_is_refused(rested: Rested, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(rested.data, data)
    facts = data / "replica" / (data / "replica" / "current").read_text().strip()
    facts.write_bytes(b"\0" * 8_192)
    refusal = refused(data, "--redis", f"redis://127.0.0.1:{free_port()}")
    assert refusal.status == 1
    assert refusal.lines[-1].startswith("gate: Redis: cannot reach")
    assert refusal.out == ""


def test_a_wrong_setting_found_late_is_reported_and_not_fatal(rested: Rested, start_service: Services) -> None:
    with _killed(rested.server):
        service = start_service.start("--partitions", "8", data=rested.data, redis_url=rested.server.url, wait=False)
        service.wait_for_output(SERVES, FIRST_CHECK_WITHIN_S)
    wait_until(lambda: "a deployment of 4 Partitions" in str(readyz(service)), RECOVERY_TIMEOUT_S, "the reason")
    node = Node(service)
    node.asserts(rested.expected)
    assert node.stale_ms() > 0
    node.close()
    service.stop()


def test_a_copy_that_began_without_redis_waits_until_the_other_node_ends(
    rested: Rested, start_service: Services, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(rested.data, copy)
    original = start_service.start(data=rested.data, redis_url=rested.server.url)
    with Cable(rested.server.port) as cable:
        with cable.cut_off():
            service = start_service.start(data=copy, redis_url=cable.url, wait=False)
            service.wait_for_output(SERVES, FIRST_CHECK_WITHIN_S)
        wait_until(
            lambda: "runs already, in a data directory that was copied" in str(readyz(service)), 30, "the reason"
        )
        assert is_ready(original)
        original.stop()
        service.wait_ready()
        service.stop()


def _damage_its_files(folder: Path) -> Callable[[], object]:
    manifest = next((folder / "appendonlydir").glob("*.manifest"))
    whole = manifest.read_bytes()
    manifest.write_bytes(b"no manifest\n")
    return lambda: manifest.write_bytes(whole)


def _take_its_address(folder: Path) -> Callable[[], object]:
    place = folder / "redis.sock"
    place.mkdir()
    return place.rmdir


@pytest.mark.parametrize("breaks", [_damage_its_files, _take_its_address])
def test_an_embedded_server_that_cannot_start_does_not_stop_checks(
    start_service: Services, breaks: Callable[[Path], Callable[[], object]]
) -> None:
    service = start_service.start()
    node = Node(service)
    expected = node.pairs("before")
    node.close()
    service.stop()
    mend = breaks(service.data / "redis")

    again = start_service.start(data=service.data, wait=False)
    again.wait_for_output(f"{SERVES}the embedded server: ", FIRST_CHECK_WITHIN_S)
    node = Node(again)
    node.asserts(expected)
    assert wait_until(lambda: "redis: it ended: " in str(readyz(again)), 5, "/readyz to give the reason")
    node.close()

    mend()
    _heals(again, expected)
