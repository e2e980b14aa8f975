"""Containers that share a data directory but not their process ids: refused with the reason, whichever comes second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.service import GateService, Services
from tests.service.running import refused

NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
READ = """
import sys, time
from gate import Replica
with Replica.open(sys.argv[1], app=sys.argv[2]) as replica:
    print(replica.may_send(b"a", b"b"), flush=True)
    time.sleep(float(sys.argv[3]))
"""


def _can_unshare() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not _can_unshare(), reason="may not make a PID namespace")


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    service = start_module_service.start("--role", "redis,replicator,http,background", wait=False)
    service.wait_for_output("gate ready")
    return service


def test_a_worker_in_another_namespace_is_refused(service: GateService) -> None:
    refusal = refused(service.data, "--role", "worker", under=NAMESPACE)
    assert (refusal.status, len(refusal.lines)) == (1, 1), refusal.lines
    assert "the role http of" in refusal.lines[0]
    assert "shareProcessNamespace: true" in refusal.lines[0]


def test_a_role_that_does_not_open_the_replica_may_be_anywhere(service: GateService) -> None:
    held = refused(service.data, "--role", "background", under=NAMESPACE)
    assert "another gate serve" in held.lines[0]


def test_a_second_reader_of_one_process_id_is_refused(service: GateService) -> None:
    """Each is process 1 of a namespace of its own, as the only process of a container is."""
    first = _reader(service, hold_s=60)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "True\n"
        second = _reader(service, hold_s=0)
        _, problem = second.communicate(timeout=20)
        assert second.returncode == 1
        assert "in use by another process with this one's id, 1: containers that share a data directory" in problem
    finally:
        first.kill()
        first.communicate()
    assert _reader(service, hold_s=0).communicate(timeout=20)[0] == "True\n"


def _reader(service: GateService, hold_s: float) -> subprocess.Popen[str]:
    command = [*NAMESPACE, sys.executable, "-c", READ, str(service.data), service.credentials.app_key, str(hold_s)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
        cwd=Path(__file__).parents[2],
    )
