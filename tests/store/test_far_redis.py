"""A distant Redis, over TLS: the URL sets how long connecting and answers may take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.errors import StoreUnavailable
from gate.store.store import Store
from harness.cable import Cable
from harness.ports import free_port
from harness.servers import RedisServer
from harness.service import Services
from harness.tls import Certificate, make_certificate
from tests.cli.command import Command

DELAY_MS = 150
"""One way. The TCP handshake ends at the cable; TLS and the greeting take twice this each."""


class FarRedis:
    """A Redis 7 with TLS behind a slow cable."""

    def __init__(self, cable: Cable, certificate: Certificate) -> None:
        self.cable = cable
        self._certificate = certificate

    def url(self, *options: str, authority: bool = True) -> str:
        shown = [f"ssl_ca_certs={self._certificate.certificate}"] if authority else []
        return f"rediss://127.0.0.1:{self.cable.port}/0?{'&'.join([*shown, *options])}"

    @property
    def client_files(self) -> tuple[str, str]:
        return f"ssl_certfile={self._certificate.certificate}", f"ssl_keyfile={self._certificate.key}"


@pytest.fixture
def far_redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FarRedis]:
    certificate, port = make_certificate(tmp_path), free_port()
    options = certificate.server_options(port, asks_clients=bool(getattr(request, "param", False)))
    server = RedisServer.start("redis-7", tmp_path / "far", extra=options)
    with Cable(port) as cable:
        yield FarRedis(cable, certificate)
    server.stop()


async def test_the_limit_of_connecting_is_the_urls(far_redis: FarRedis) -> None:
    far_redis.cable.delay_ms = DELAY_MS
    with pytest.raises(StoreUnavailable, match=r"within 500 ms \(connect_timeout_ms in its URL\)"):
        await Store.connect(far_redis.url())
    store = await Store.connect(far_redis.url("connect_timeout_ms=5000"))
    await store.ping()
    await store.aclose()


async def test_the_limit_of_an_answer_is_the_urls(far_redis: FarRedis) -> None:
    store = await Store.connect(far_redis.url("timeout_ms=40"))
    far_redis.cable.delay_ms = DELAY_MS
    with pytest.raises(StoreUnavailable, match="did not answer within 40 ms"):
        await store.ping()
    await store.aclose()
    store = await Store.connect(far_redis.url("connect_timeout_ms=5000", "timeout_ms=5000"))
    await store.ping()
    await store.aclose()


@pytest.mark.parametrize("far_redis", [True], indirect=True)
async def test_a_server_that_asks_for_a_certificate_gets_it(far_redis: FarRedis) -> None:
    with pytest.raises(StoreUnavailable):
        await Store.connect(far_redis.url())
    store = await Store.connect(far_redis.url(*far_redis.client_files))
    await store.ping()
    await store.aclose()


@pytest.mark.slow
def test_the_doctor_measures(far_redis: FarRedis, tmp_path: Path) -> None:
    def doctor(url: str) -> str:
        return Command(tmp_path / "no-node", "some-app", url)("doctor", status=1).out

    near = doctor(far_redis.url())
    assert "ok   Redis distance: connecting takes " in near
    assert " of 500, an answer " in near
    far_redis.cable.delay_ms = DELAY_MS
    assert "it answers after 6" in (cut := doctor(far_redis.url()))
    assert "with connect_timeout_ms=1" in cut
    assert "give it longer: connect_timeout_ms=MS" in doctor(far_redis.url("connect_timeout_ms=800"))
    assert "run Redis nearer to this node" in doctor(far_redis.url("connect_timeout_ms=5000"))
    far_redis.cable.delay_ms = 30
    assert "ok   Redis distance" in doctor(far_redis.url("connect_timeout_ms=5000"))
    far_redis.cable.delay_ms = 0
    assert "its certificate is not trusted" in doctor(far_redis.url(authority=False))


def test_a_node_whose_redis_is_far(far_redis: FarRedis, start_service: Services) -> None:
    far_redis.cable.delay_ms = 80
    service = start_service.start("--redis", far_redis.url("connect_timeout_ms=3000"))
    gate = Command(service.data, redis=far_redis.url("connect_timeout_ms=3000"))
    assert "effective on" in gate("ban", "bob", "--for", "1h").out
    gate("check", "bob", "ann", status=1)
