"""Fixtures that every test may ask for: real servers of each flavor, and nodes.

    redis_flavor    parametrizes a test over every supported server
    redis_server    one Valkey 9 for the whole run, emptied before the test and audited after it
    each_redis      the same, once per flavor, and once as a cluster of three Valkey 9 (`one_server` opts out)
    any_redis       a Valkey 9, and the cluster
    private_redis   a Valkey 9 of the test's own, to kill, pause and restart
    sentinel_setup  a primary, two replicas and three Sentinels of the test's own
    clocked_redis   one whose clock `redis_clock` steps
    start_service   starts a `gate serve`; ends it after the test (`start_module_service`: after the module)
    shared_service  one `gate serve` for the whole run, for tests that keep to an App of their own each

A server belongs to one test process, so the suite runs with `-n 2` as it does without.
`GATE_TEST_SEED` seeds every random test (`harness.seeds`).

`-m "not slow"` is the quick answer to a change of `core`, `wire`, `http`, `replica`, `store` or `presence`. Slow is a test that
starts a server, a browser or a program (by its fixtures or its folder, here), or that needs half a second of processor time
(`@pytest.mark.slow`). That run does not even import slow folders, and Hypothesis draws a tenth.
"""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest
from hypothesis import HealthCheck, settings

from harness.clusters import ClusterSetup
from harness.faked_clock import FakedClock
from harness.leaks import audit_keys
from harness.seeds import EXAMPLES, VARIABLE, examples, given_seed
from harness.sentinels import SentinelSetup
from harness.servers import REDIS_FLAVORS, Flavor, FlavorMissing, RedisServer, server_binary
from harness.service import Services, SharedService

DEFAULT_FLAVOR: Flavor = "valkey-9"
CLUSTER = "cluster"
SLOW_FIXTURES = frozenset(
    (
        "shared_redis_servers",
        "private_redis",
        "sentinel_setup",
        "clocked_redis",
        "start_service",
        "start_module_service",
        "shared_service",
    )
)
"""Each starts a process. A test that depends on one, through other fixtures too, is slow."""
STARTS_SERVERS = frozenset(
    (
        "harness.clusters",
        "harness.sentinels",
        "harness.service",
        "harness.cable",
        "harness.faked_clock",
        "harness.slow_disk",
    )
)
"""A module that imports a class of one of these uses servers of its own, so all its tests are slow."""
SLOW_FOLDERS = frozenset(
    (
        "browser",
        "cli",
        "client_package",
        "clients",
        "conformance",
        "console",
        "deploy",
        "docs",
        "faults",
        "harness",
        "lint",
        "loadtests",
        "model",
        "native",
        "service",
        "simulation",
        "tour",
    )
)
"""Their tests start programs without a fixture of this file, or read every file. `make lint` runs `lint`."""
LONGEST = frozenset(
    ("test_chaos.py", "test_bench_smoke.py", "test_wheels.py", "test_quick_start.py", "test_simulation.py", "test_fuzzed.py",
     "test_openapi_fuzzed.py", "test_load_smoke.py", "test_planted_bugs.py")
)  # fmt: skip
"""Files with tests of half a minute and more. One that begins last would keep one process busy while the others wait."""
QUICK = "not slow"
QUICK_EXAMPLES = "0.1"
CLUSTER_NODE_TIMEOUT_MS = 15_000
"""No test of the shared cluster ends a server, and a busy machine must not look like one that died."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays to the end: without this, a tenth of the time goes into looking through it for garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the slow tests, before `-m` selects, and moves the longest to the front."""
    tests = config.rootpath / "tests"
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        folder = item.path.relative_to(tests).parts[0]
        by_fixture = not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        if folder in SLOW_FOLDERS or by_fixture or _starts_servers(getattr(item, "module", None)):
            item.add_marker("slow")


@functools.cache
def _starts_servers(module: ModuleType | None) -> bool:
    return any(getattr(one, "__module__", "") in STARTS_SERVERS for one in vars(module or pytest).values())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Importing what is not run would take most of the time of the quick run. None leaves the choice to other rules."""
    folder = collection_path.relative_to(config.rootpath).parts[1:2]
    return (config.option.markexpr == QUICK and not SLOW_FOLDERS.isdisjoint(folder)) or None


@pytest.hookimpl(tryfirst=True)  # before Hypothesis reads its option
def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr == QUICK:
        os.environ.setdefault(EXAMPLES, QUICK_EXAMPLES)
    # A busy machine must not look like a slow test. The number is for tests that do not choose one themselves.
    usual = settings.get_profile("default").max_examples
    settings.register_profile(
        "gate", max_examples=examples(usual), deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("gate")
    if (given := given_seed()) is not None and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(given)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    seed = getattr(getattr(item, "module", None), "SEED", given_seed())
    if report.failed and seed is not None:
        report.sections.append(("seed", f"{VARIABLE}={seed}"))
    return report


class RedisServers:
    """The servers that tests of one process share, each started when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._servers: dict[Flavor, RedisServer] = {}
        self._cluster: ClusterSetup | None = None

    def emptied(self, flavor: Flavor) -> RedisServer:
        """A running server without keys or scripts. A server that the last test stopped is started again."""
        server = self._servers.get(flavor)
        if server is None:
            server = self._servers[flavor] = RedisServer.start(flavor, self._root / flavor)
        elif not server.is_running:
            server.restart_empty()
        server.client.flushall()
        # Else the order of tests would decide which of them meets NOSCRIPT.
        server.client.script_flush()
        return server

    def emptied_cluster(self) -> ClusterSetup:
        """The same of a cluster: three masters without replicas."""
        if self._cluster is None:
            folder = self._root / CLUSTER
            self._cluster = ClusterSetup.start(
                DEFAULT_FLAVOR, folder, replicas=0, node_timeout_ms=CLUSTER_NODE_TIMEOUT_MS
            )
        self._cluster.empty()
        return self._cluster

    def stop_all(self) -> None:
        for server in self._servers.values():
            server.stop()
        if self._cluster is not None:
            self._cluster.stop()


@pytest.fixture(scope="session")
def shared_redis_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServers]:
    servers = RedisServers(tmp_path_factory.mktemp("redis"))
    yield servers
    servers.stop_all()


@pytest.fixture(params=REDIS_FLAVORS)
def redis_flavor(request: pytest.FixtureRequest) -> Flavor:
    return _present(request.param)


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, shared_redis_servers: RedisServers) -> Iterator[RedisServer]:
    server = shared_redis_servers.emptied(DEFAULT_FLAVOR)
    yield server
    _audit(request, server)


@pytest.fixture(params=[*REDIS_FLAVORS, CLUSTER])
def each_redis(request: pytest.FixtureRequest, shared_redis_servers: RedisServers) -> Iterator[RedisServer]:
    yield from _asked_for(request, shared_redis_servers)


@pytest.fixture(scope="session")
def one_server_reasons() -> dict[str, str]:
    """Tests and modules of a folder, by name, that say nothing about a cluster, and why; its conftest may have some."""
    return {}


@pytest.fixture(params=[DEFAULT_FLAVOR, CLUSTER])
def any_redis(request: pytest.FixtureRequest, shared_redis_servers: RedisServers) -> Iterator[RedisServer]:
    yield from _asked_for(request, shared_redis_servers)


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


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedService]:
    shared = SharedService(tmp_path_factory.mktemp("shared") / "data")
    yield shared
    shared.stop()


def _asked_for(request: pytest.FixtureRequest, servers: RedisServers) -> Iterator[RedisServer]:
    if request.param != CLUSTER:
        server = servers.emptied(_present(request.param))
        yield server
        _audit(request, server)
        return
    if reason := _opted_out(request):
        pytest.skip(reason)
    cluster = servers.emptied_cluster()
    yield cast(RedisServer, cluster)  # what a test may use of it has the same names
    _audit(request, cluster)


def _opted_out(request: pytest.FixtureRequest) -> str:
    """Why a test says nothing about a cluster: by its marker, or by the table of its folder; "" if it does."""
    if marker := request.node.get_closest_marker("one_server"):
        return str(marker.args[0])
    reasons: dict[str, str] = request.getfixturevalue("one_server_reasons")
    return reasons.get(request.function.__name__) or reasons.get(request.path.stem, "")


def _present(flavor: Flavor) -> Flavor:
    try:
        server_binary(flavor)
    except FlavorMissing as missing:
        # The other two exist on every platform that is supported: without them the suite proves too little.
        if flavor != "redis-6.2":
            raise
        pytest.skip(str(missing))
    return flavor


def _audit(request: pytest.FixtureRequest, server: RedisServer | ClusterSetup) -> None:
    """Tests of the harness itself write keys of their own and say so with the marker `any_keys`."""
    if request.node.get_closest_marker("any_keys") or not server.is_running:
        return
    from gate.store.keys import PATTERNS

    audit_keys(server.client, PATTERNS)
