"""Fixtures that every test may ask for: real servers of each flavor, and nodes.

    redis_flavor    parametrizes a test over every supported server
    redis_server    one Valkey 9 for the whole run, emptied before the test and audited after it
    each_redis      the same, once per flavor
    private_redis   a Valkey 9 of the test's own, to kill, pause and restart
    sentinel_setup  a primary, two replicas and three Sentinels of the test's own
    clocked_redis   one whose clock `redis_clock` steps
    start_service   starts a `gate serve`; ends it after the test (`start_module_service`: after the module)

A server belongs to one test process, so the suite runs with `-n 2` as it does without.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.faked_clock import FakedClock
from tests.harness.leaks import audit_keys
from tests.harness.sentinels import SentinelSetup
from tests.harness.servers import REDIS_FLAVORS, Flavor, FlavorMissing, RedisServer, server_binary
from tests.harness.service import Services

DEFAULT_FLAVOR: Flavor = "valkey-9"


class RedisServers:
    """The servers that tests of one process share, each started when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._servers: dict[Flavor, RedisServer] = {}

    def emptied(self, flavor: Flavor) -> RedisServer:
        """A running server without keys or scripts. One that the last test left dead is started anew."""
        server = self._servers.get(flavor)
        if server is None:
            server = self._servers[flavor] = RedisServer.start(flavor, self._root / flavor)
        elif not server.is_running:
            server.restart_empty()
        server.client.flushall()
        # Else the order of tests would decide which of them meets NOSCRIPT.
        server.client.script_flush()
        return server

    def stop_all(self) -> None:
        for server in self._servers.values():
            server.stop()


@pytest.fixture(scope="session")
def shared_redis_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServers]:
    servers = RedisServers(tmp_path_factory.mktemp("redis"))
    yield servers
    servers.stop_all()


@pytest.fixture(params=REDIS_FLAVORS)
def redis_flavor(request: pytest.FixtureRequest) -> Flavor:
    flavor: Flavor = request.param
    try:
        server_binary(flavor)
    except FlavorMissing as missing:
        # The other two exist on every platform that is supported: without them the suite proves too little.
        if flavor != "redis-6.2":
            raise
        pytest.skip(str(missing))
    return flavor


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, shared_redis_servers: RedisServers) -> Iterator[RedisServer]:
    server = shared_redis_servers.emptied(DEFAULT_FLAVOR)
    yield server
    _audit(request, server)


@pytest.fixture
def each_redis(
    request: pytest.FixtureRequest, shared_redis_servers: RedisServers, redis_flavor: Flavor
) -> Iterator[RedisServer]:
    server = shared_redis_servers.emptied(redis_flavor)
    yield server
    _audit(request, server)


@pytest.fixture
def private_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer.start(DEFAULT_FLAVOR, tmp_path / "private-redis")
    yield server
    server.stop()


@pytest.fixture
def sentinel_setup(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SentinelSetup]:
    """A primary with two replicas and three Sentinels of the test's own; of Redis 7 unless a parameter says otherwise."""
    setup = SentinelSetup.start(getattr(request, "param", "redis-7"), tmp_path / "sentinels")
    yield setup
    setup.stop()


@pytest.fixture
def redis_clock(tmp_path: Path) -> FakedClock:
    """The clock of `clocked_redis`, to step."""
    return FakedClock(tmp_path / "redis-clock")


@pytest.fixture
def clocked_redis(tmp_path: Path, redis_clock: FakedClock) -> Iterator[RedisServer]:
    """A Valkey 9 of the test's own, on a clock that the test sets."""
    server = RedisServer.start("valkey-9", tmp_path / "clocked-redis", env=redis_clock.env)
    yield server
    server.stop()


@pytest.fixture
def start_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    services = Services(lambda: tmp_path_factory.mktemp("node"))
    yield services
    services.end_all()


@pytest.fixture(scope="module")
def start_module_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    services = Services(lambda: tmp_path_factory.mktemp("node"))
    yield services
    services.end_all()


def _audit(request: pytest.FixtureRequest, server: RedisServer) -> None:
    """Tests of the harness itself write keys of their own and say so with the marker `any_keys`."""
    if request.node.get_closest_marker("any_keys") or not server.is_running:
        return
    from gate.store.keys import PATTERNS

    audit_keys(server.client, PATTERNS)
