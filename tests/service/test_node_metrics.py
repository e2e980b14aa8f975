"""What a scrape says of the machine: each process by its role, Redis's memory, the disk, and what runs."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import requests
from prometheus_client.parser import text_string_to_metric_families

from gate import __version__
from gate.service.node_metrics import NodeCollector, boot_time, figures_of
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until

OF_A_PROCESS = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
)


def samples(service: GateService) -> dict[str, dict[str, float]]:
    """The values by name, then by the text of the labels' values."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(requests.get(f"{service.http}/metrics", timeout=5).text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[",".join(sample.labels.values())] = sample.value
    return found


def test_figures_of_a_process_are_those_of_the_kernel() -> None:
    figures = figures_of(os.getpid(), boot_time())
    assert figures is not None and figures.open_fds
    spent = os.times()
    assert abs(figures.cpu_seconds - spent.user - spent.system) < 0.5
    assert 10e6 < figures.resident_bytes < 10e9
    assert 0 <= time.time() - figures.start_seconds < 86_400


def test_a_process_that_ended_is_left_out(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert figures_of(ended.pid, boot_time()) is None
    families = NodeCollector(lambda: {"worker-0": ended.pid, "http": os.getpid()}, tmp_path).collect()
    roles = {sample.labels["role"] for one in families for sample in one.samples if one.name.startswith("process_")}
    assert roles == {"http"}


def test_each_process_of_a_node_is_on_the_page(start_service: Services) -> None:
    service = start_service.start("--workers", "2")
    page = samples(service)
    roles = {"supervisor", "redis", "worker-0", "worker-1", "replicator", "http", "background"}
    assert set(page["gate_role_up"]) == roles
    for name in OF_A_PROCESS:
        assert set(page[name]) == roles and min(page[name].values()) >= 0, name
    [about] = page["gate_build_info"]
    assert about.rpartition(",")[2] == __version__ and page["gate_build_info"][about] == 1
    disk = os.statvfs(service.data)
    assert page["gate_disk_size_bytes"][""] == disk.f_blocks * disk.f_frsize
    assert 0 < page["gate_disk_free_bytes"][""] < page["gate_disk_size_bytes"][""]


def test_memory_and_evictions_of_redis_are_exported(start_service: Services, private_redis: RedisServer) -> None:
    service = start_service.start("--allow-eviction", redis_url=private_redis.url)
    server = private_redis.client
    wait_until(lambda: samples(service).get("gate_redis_memory_used_bytes", {}).get("facts", 0) > 1e5, 15, "memory")
    assert samples(service)["gate_redis_memory_max_bytes"] == {"facts": 0}
    for number in range(2_000):
        server.set(f"filling:{number}", b"x" * 1_000)
    limit = int(server.info("memory")["used_memory"]) - 1_000_000
    server.config_set("maxmemory-policy", "allkeys-random")
    server.config_set("maxmemory", limit)
    wait_until(lambda: samples(service)["gate_redis_evicted_keys"]["facts"] > 0, 15, "the evicted keys")
    assert samples(service)["gate_redis_memory_max_bytes"] == {"facts": limit}
