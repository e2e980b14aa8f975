"""The servers of the overlays, started by `deploy/redis/run` as their containers start them: real processes on free ports."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from gate.store.address import parse_address
from gate.store.cluster import client_of
from gate.store.rights import ALL, missing_rights
from harness.ports import LOOPBACK, free_port
from harness.servers import Flavor, RedisServer, StartFailed, server_binary
from harness.service import GateService
from harness.waiting import wait_until
from tests.cli.command import Command
from tests.deploy.files import DEPLOY
from tests.store.acl import documented_words

CONF = DEPLOY / "redis"
RUN = CONF / "run"
PASSWORD, ADMIN_PASSWORD = "PASSWORD", "of-the-operator"
"""The first is also what the documented rights have."""
BUS = 10_000
"""How far the bus of a Cluster is from the port."""
WITHIN_S = 60.0


class RunServer(RedisServer):
    """A server, or a Sentinel, that the script starts. `kind` is its first argument."""

    kind = "server"
    variables: Mapping[str, str] = {}

    @property
    def client(self) -> redis.Redis:
        if self._client is None:
            self._client = redis.Redis(
                host=LOOPBACK, port=self.port, username="operator", password=ADMIN_PASSWORD, socket_timeout=5
            )
        return self._client

    def command(self, aof: bool) -> list[str]:
        self._env.update({**environment(self.flavor, self.directory, self.port), **self.variables})
        return ["sh", str(RUN), self.kind]

    def _answers(self) -> bool:
        status = self._running().poll()
        if status is not None:
            raise StartFailed(f"{self.kind} exited with {status}: {self.log_tail()}")
        try:
            return bool(self.client.info("server")["process_id"] == self.pid)
        except (redis.ConnectionError, redis.TimeoutError):
            return False


def environment(flavor: Flavor, data: Path, port: int) -> dict[str, str]:
    cli = shutil.which("redis-cli")
    assert cli is not None, "scripts/install-test-tools installs redis-cli"
    secrets = data.parent / "secrets"
    return {
        "CONF": str(CONF),
        "DATA": str(data),
        "SECRETS": str(secrets),
        "NAME": LOOPBACK,
        "PORT": str(port),
        "BIND": LOOPBACK,
        "SERVER": str(server_binary(flavor)),
        "CLI": cli,
    }


def started(kind: str, flavor: Flavor, directory: Path, port: int, **variables: str) -> RunServer:
    cls: type[RunServer] = type("Started", (RunServer,), {"kind": kind, "variables": variables})
    server = cls.start(flavor, directory, port)
    assert isinstance(server, RunServer)
    return server


def run(server: RunServer, verb: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment(server.flavor, server.directory, server.port), **variables}
    return subprocess.run(["sh", str(RUN), verb], env=env, capture_output=True, text=True, timeout=WITHIN_S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "redis-password").write_text(f"{PASSWORD}\n")
    (tmp_path / "secrets" / "redis-admin-password").write_text(f"{ADMIN_PASSWORD}\n")
    return tmp_path


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def words_of(file: str, user: str) -> list[str]:
    [line] = [line for line in (CONF / file).read_text().splitlines() if line.startswith(f"user {user} ")]
    return line.split()[1:]


def test_the_users_of_gate_have_the_documented_rights_and_no_other() -> None:
    words, documented = words_of("users.acl", "gate"), documented_words()
    assert len(words) == len(set(words))
    assert set(words) == {*documented, *documented_words("acl-cluster"), "+wait"}  # for --durability replica
    assert set(words_of("sentinel-users.acl", "gate")) == set(documented_words("acl-sentinel"))


def test_a_single_server_has_its_password_from_the_file(folder: Path, stack: ExitStack, redis_flavor: Flavor) -> None:
    port = free_port()

    class Single(RunServer):
        kind = "single"

        @property
        def client(self) -> redis.Redis:
            if self._client is None:
                self._client = redis.Redis(host=LOOPBACK, port=self.port, password=PASSWORD, socket_timeout=5)
            return self._client

    server = Single.start(redis_flavor, folder / "data", port)
    assert isinstance(server, Single)
    stack.callback(server.stop)
    assert run(server, "ping").returncode == 0
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(host=LOOPBACK, port=port).ping()
    assert server.client.config_get("appendfsync")["appendfsync"] == "always"
    assert PASSWORD not in Path(f"/proc/{server.pid}/cmdline").read_text()
    (folder / "secrets" / "redis-password").write_text("another")
    assert run(server, "ping").returncode == 1


def test_a_server_keeps_its_data_refuses_strangers_and_needs_a_replica(
    folder: Path, stack: ExitStack, redis_flavor: Flavor
) -> None:
    if redis_flavor == "redis-6.2":
        pytest.skip("an ACL of Redis 6.2 names no subcommands such as config|rewrite: the overlays are for 7 and later")
    server = started("server", redis_flavor, folder / "s0", free_port())
    stack.callback(server.stop)
    settings = server.client.config_get("*")
    wanted = {
        "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "min-replicas-to-write": "1",
        "min-replicas-max-lag": "3", "bind": LOOPBACK,
    }  # fmt: skip
    assert {str(key): value for key, value in texts(settings).items() if key in wanted} == wanted
    stranger = redis.Redis(host=LOOPBACK, port=server.port)
    with pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert "nopass" not in str(server.client.execute_command("ACL", "GETUSER", "default"))
    with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
        server.client.set("gate:key", "1")
    # Transactions in the append-only file are loaded with the rights of the default user, which is off, and are left out
    # without a word where it has none.
    server.client.config_set("min-replicas-to-write", 0)
    with server.client.pipeline(transaction=True) as both:
        both.set("gate:key", "1")
        both.set("gate:other", "1")
        both.execute()
    server.restart()
    assert server.client.exists("gate:key", "gate:other") == 2
    assert PASSWORD not in (server.directory / "users.acl").read_text()
    assert run(server, "ping").returncode == 0
    server.stop()
    assert run(server, "ping").returncode != 0


def texts(settings: Mapping[Any, object]) -> dict[str, str]:
    def text(value: object) -> str:
        return value.decode() if isinstance(value, bytes) else str(value)

    return {text(key): text(value) for key, value in settings.items()}


@pytest.mark.parametrize("flavor", ["redis-7", "valkey-9"])
async def test_sentinels_fail_over_and_the_old_primary_comes_back_as_a_replica(
    folder: Path, stack: ExitStack, flavor: Flavor
) -> None:
    ports, sentinel_ports = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
    first = f"{LOOPBACK} {ports[0]}"
    sentinels = " ".join(f"{LOOPBACK}:{port}" for port in sentinel_ports)
    servers = []
    for number, port in enumerate(ports):
        servers.append(started("server", flavor, folder / f"s{number}", port, FIRST=first, SENTINELS=sentinels))
        stack.callback(servers[-1].stop)
    watchers = []
    for number, port in enumerate(sentinel_ports):
        watchers.append(started("sentinel", flavor, folder / f"w{number}", port, FIRST=first))
        stack.callback(watchers[-1].stop)
    wait_until(lambda: all(knows_all(one) for one in watchers), WITHIN_S, "the Sentinels to know each other")
    hosts = sentinels.replace(" ", ",")
    url = f"redis+sentinel://gate:{PASSWORD}@{hosts}/facts?sentinel_username=gate&sentinel_password={PASSWORD}"
    client = client_of(parse_address(url))
    try:
        assert await missing_rights(client, ALL) == []
    finally:
        await client.aclose()
    service = GateService.start(folder / "node", "--redis", url, "--durability", "replica")
    stack.callback(service.stop)
    gate = Command(service.data)
    gate("ban", "ann", "--for", "1h")
    servers[0].kill()
    wait_until(lambda: gate("ban", "bob", "--for", "1h", status=None).status == 0, WITHIN_S, "a write at a new primary")
    servers[0].restart()
    assert servers[0].client.info("replication")["role"] == "slave"
    assert "replicaof" in (servers[0].directory / "server.conf").read_text()
    wait_until(lambda: servers[0].client.exists("gate:{0}:meta") == 1, WITHIN_S, "the copy of the new primary")


def knows_all(watcher: RunServer) -> bool:
    masters = watcher.client.sentinel_masters()
    assert isinstance(masters, dict)
    [master] = masters.values()
    return (int(master["num-slaves"]), int(master["num-other-sentinels"])) == (2, 2)


@pytest.mark.parametrize("flavor", ["redis-7", "valkey-9"])
async def test_a_cluster_is_formed_once_and_gate_goes_on_without_a_master(
    folder: Path, stack: ExitStack, flavor: Flavor
) -> None:
    ports = [port_with_a_bus() for _ in range(6)]
    servers = []
    for number, port in enumerate(ports):
        servers.append(started("cluster", flavor, folder / f"s{number}", port))
        stack.callback(servers[-1].stop)
    nodes = " ".join(f"{LOOPBACK}:{port}" for port in ports)
    formed = run(servers[0], "form", NODES=nodes)
    assert formed.returncode == 0, formed.stdout + formed.stderr
    wait_until(lambda: all(is_whole(one) for one in servers), WITHIN_S, "all servers to see the whole cluster")
    roles = [one.client.info("replication")["role"] for one in servers]
    assert sorted(roles) == ["master"] * 3 + ["slave"] * 3
    again = run(servers[0], "form", NODES=nodes)
    assert (again.returncode, again.stdout.strip()) == (0, "there is a cluster already")
    assert {texts(one.client.config_get("min-replicas-to-write"))["min-replicas-to-write"] for one in servers} == {"0"}
    url = f"redis+cluster://gate:{PASSWORD}@{nodes.replace(' ', ',')}"
    client = client_of(parse_address(url))
    try:
        assert await missing_rights(client, ALL) == []
    finally:
        await client.aclose()
    service = GateService.start(folder / "node", "--redis", url, "--durability", "replica", wait=False)
    stack.callback(service.stop)
    service.wait_ready(WITHIN_S)
    gate = Command(service.data)
    users = [f"user-{number}" for number in range(60)]
    gate("ban", *users, "--for", "1h")
    master = next(one for one in servers if one.client.info("replication")["role"] == "master")
    master.kill()
    wait_until(lambda: gate("unban", *users, status=None).status == 0, WITHIN_S, "writes to all Partitions again")


def is_whole(server: RunServer) -> bool:
    known = str(server.client.execute_command("CLUSTER", "INFO"))
    return all(words in known for words in ("cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:6"))


def port_with_a_bus() -> int:
    while (port := free_port()) > 65_535 - BUS:
        continue
    return port


def test_another_word_is_refused(folder: Path) -> None:
    done = subprocess.run(["sh", str(RUN), "stop"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "usage: run single|server|cluster|sentinel|form|ping\n")
