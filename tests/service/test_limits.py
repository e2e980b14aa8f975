"""Small limits of the system: a service that can't run within them says which in one line; else it works within them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from gate.service.limits import OWN_FILES, memory_limit
from harness.ports import LOOPBACK
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.faults.calls import Resp
from tests.service.running import pid_of, readyz, refused

MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _can(*command: str) -> bool:
    try:
        return subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _limited(limit: str, *command: str) -> list[str]:
    return ["sh", "-c", f'{limit}; exec "$@"', "sh", *command]


@pytest.mark.parametrize("is_allowed", [False, True])
def test_no_process_writes_a_core_file(start_service: Services, is_allowed: bool) -> None:
    service = start_service.start(*(["--core-dumps"] if is_allowed else []), under=_limited("ulimit -c 1000"))
    processes = service.processes()
    assert any("valkey" in one.command for one in processes)
    for one in processes:
        [limit] = [line for line in Path(f"/proc/{one.pid}/limits").read_text().splitlines() if "core file" in line]
        assert (limit.split()[4] == "0") is not is_allowed, one.command


def test_too_few_open_files_are_refused(tmp_path: Path) -> None:
    refusal = refused(tmp_path / "data", under=_limited("ulimit -n 20"))
    assert (refusal.status, len(refusal.lines)) == (1, 1), refusal.lines
    assert "needs at least 64 open files" in refusal.lines[0]


def test_a_small_address_space_is_refused(tmp_path: Path) -> None:
    refusal = refused(tmp_path / "data", under=_limited("ulimit -v 2000000"))
    assert (refusal.status, len(refusal.lines)) == (1, 1), refusal.lines
    assert "ulimit -v" in refusal.lines[0]


def test_a_reader_in_a_small_address_space_names_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "facts-1.mdb"
    with lmdb.open(str(path), subdir=False):
        read = f"from pathlib import Path; from gate.replica import envs; envs.acquire(Path({str(path)!r}))"
        command = _limited("ulimit -v 2000000", sys.executable, "-c", read)
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "can't be mapped: this takes 1 TiB of address space, but no memory; lift ulimit -v" in ended.stderr


def test_past_a_small_file_limit_a_connection_gets_the_reason(start_service: Services) -> None:
    service = start_service.start(under=_limited("ulimit -n 64"))
    assert f"clients_a_worker={64 - OWN_FILES}" in service.output
    clients = [Resp(service) for _ in range(64 - OWN_FILES)]
    for _ in range(30):  # more than there are files left
        with socket.create_connection((LOOPBACK, service.resp_port), 10) as refused_one:
            assert refused_one.recv(100).startswith(b"-ERR max number of clients reached")
    for client in clients:
        assert client.ask("PING") == b"PONG"
        client.close()


@pytest.mark.skipif(not os.access(MEMORY_GROUPS, os.W_OK), reason="needs cgroups of version 1, and root")
def test_too_little_memory_is_refused(tmp_path: Path) -> None:
    group = MEMORY_GROUPS / f"gate-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(128 << 20))
        refusal = refused(tmp_path / "data", under=_limited(f"echo $$ > {group}/cgroup.procs"))
    finally:
        group.rmdir()
    assert (refusal.status, len(refusal.lines)) == (1, 1), refusal.lines
    assert "memory is limited to 128 MiB (cgroup)" in refusal.lines[0]


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/a/b\n", {"a/memory.max": "1000", "a/b/memory.max": "max"}, 1_000),
        ("0::/a\n", {"a/memory.max": "max"}, None),
        ("4:memory:/a\n1:cpu:/\n", {"memory/a/memory.limit_in_bytes": "2000"}, 2_000),
        ("4:memory:/host/only\n", {"memory/memory.limit_in_bytes": "3000"}, 3_000),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": str(2**63 - 4_096)}, None),
        ("", {}, None),
    ],
)
def test_the_memory_limit_is_the_least_around(
    tmp_path: Path, own: str, files: dict[str, str], limit: int | None
) -> None:
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert memory_limit(tmp_path / "groups", tmp_path / "own") == limit


@pytest.mark.skipif(not _can(*NAMESPACE), reason="may not make a PID namespace")
def test_process_1_that_still_imports_heeds_sigterm(tmp_path: Path) -> None:
    """The kernel drops a signal to process 1 that has no handler: sent early, it was lost, and the service started."""
    command = [*NAMESPACE, sys.executable, "-m", "gate", "serve", "--data", str(tmp_path / "data")]
    with subprocess.Popen(
        [*command, "--http", "127.0.0.1:0", "--resp", "127.0.0.1:0"], start_new_session=True
    ) as outer:
        try:
            inner = wait_until(lambda: _heeding_child(outer.pid), 20, "process 1 to have its first handler")
            assert not (tmp_path / "data").exists(), "it got further than this test is about"
            os.kill(inner, signal.SIGTERM)
            assert outer.wait(10) == 0
        finally:
            outer.kill()


def _heeding_child(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if not children:
        return None
    status = Path(f"/proc/{children[0]}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))
    return int(children[0]) if caught & 1 << (signal.SIGTERM - 1) else None


def test_a_paused_supervisor_is_not_ready(start_service: Services) -> None:
    service: GateService = start_service.start()
    os.kill(service.pid, signal.SIGSTOP)
    try:
        status, body = wait_until(lambda: found if (found := readyz(service))[0] != 200 else None, 10, "a 503")
        assert (status, body["missing"]) == (503, ["supervisor"])
        os.kill(wait_until(lambda: pid_of(service, "background"), 5, "the background worker"), signal.SIGKILL)
        wait_until(lambda: "background" in readyz(service)[1]["missing"], 10, "the dead role to be named")
        assert service.resp_client().execute_command("GATE.CHECK", "a", "b") == 1
    finally:
        os.kill(service.pid, signal.SIGCONT)
    wait_until(lambda: readyz(service)[0] == 200, 20, "the service to be whole again")
