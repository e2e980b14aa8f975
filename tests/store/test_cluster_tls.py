"""A Redis Cluster over TLS whose servers demand a certificate of clients: a node's whole life on it, a failover included."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gate.core.model import FOREVER_MS, AppFacts
from gate.errors import StoreUnavailable
from gate.store.store import Store
from harness.clusters import ClusterSetup
from harness.service import Services
from harness.tls import Certificate, make_certificate
from tests.cli.command import Command
from tests.store.conftest import APP, PATIENCE_MS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def setup(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSetup]:
    setup = ClusterSetup.start("redis-7", tmp_path_factory.mktemp("cluster"), certificate=certificate)
    yield setup
    setup.stop()


def files(certificate: Certificate) -> list[str]:
    shown = [f"ssl_certfile={certificate.certificate}", f"ssl_keyfile={certificate.key}"]
    return [f"ssl_ca_certs={certificate.certificate}", *shown]


async def test_writes_go_to_every_master_over_tls(setup: ClusterSetup, certificate: Certificate) -> None:
    url = setup.tls_url(*files(certificate), "connect_timeout_ms=5000", "timeout_ms=5000")
    store = await Store.connect(url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    await store.apps.create(AppFacts(key=APP, secrets=("s",)), 1)
    users = [b"user-%d" % number for number in range(64)]
    await store.bans.impose(APP, users, FOREVER_MS, 1)
    assert await store.bans.count(APP, 1) == len(users)
    await store.aclose()


async def test_without_its_certificate_a_client_is_refused(setup: ClusterSetup, certificate: Certificate) -> None:
    with pytest.raises(StoreUnavailable):
        await Store.connect(setup.tls_url(files(certificate)[0]))


def test_a_node_on_a_tls_cluster_outlives_a_failover(
    setup: ClusterSetup, certificate: Certificate, start_service: Services
) -> None:
    url = setup.tls_url(*files(certificate), "connect_timeout_ms=5000", "timeout_ms=5000")
    service = start_service.start("--redis", url)
    gate = Command(service.data, redis=url)
    assert "effective on" in gate("ban", "bob", "--for", "1h").out
    gate("check", "bob", "ann", status=1)
    for master in list(setup.masters):
        setup.fail_over(master)
    setup.wait_whole()
    assert "effective on" in gate("ban", "eve", "--for", "1h").out
    gate("check", "eve", "ann", status=1)
