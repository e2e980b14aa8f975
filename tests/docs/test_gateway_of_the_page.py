"""The Gateway that docs/presence.md has its readers copy goes on through fencing, outages and lost connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.core.token import NONCE_BYTES, mint
from harness.cable import Cable
from harness.ports import LOOPBACK
from harness.processes import kill_each
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.docs.consoles import files
from tests.docs.pages import page_text

PATIENCE_S = 30


class Client:
    """A client of the Gateway, and why it was closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []


class Copied:
    """The page's Gateway on a real node, and a router's connection next to it."""

    def __init__(self, service: GateService) -> None:
        names: dict[str, Any] = {"__name__": "copied"}
        exec(compile(files(page_text("docs/presence.md"))["gateway.py"], "gateway.py", "exec"), names)
        self.known = service.credentials
        self.router = service.resp_client()
        where = {"host": LOOPBACK, "port": service.resp_port}
        self.gateway = names["Gateway"]("edge-1", **where, username=self.known.app_key, password=self.known.app_secret)

    def connect(self, user: str) -> Client:
        app = AppFacts(key=self.known.app_key, secrets=(self.known.app_secret,))
        minted = mint(app, user.encode(), wall_ms(), bytes(NONCE_BYTES))
        client = Client()
        self.gateway.connect(minted, "iOS", client.closed.append)
        return client

    def is_online(self, user: str) -> bool:
        return bool(self.router.execute_command("GATE.ONLINE", user) == [1])

    def turns_until(self, holds: Callable[[], bool], what: str) -> None:
        def turned() -> bool:
            self.gateway.turn()
            return holds()

        wait_until(turned, PATIENCE_S, what)


@pytest.fixture
def cable(redis_server: RedisServer) -> Any:
    with Cable(redis_server.port) as laid:
        yield laid


@pytest.fixture
def service(cable: Cable, start_service: Services) -> GateService:
    return start_service.start(redis_url=cable.url)


def test_it_takes_a_higher_epoch_when_it_was_fenced(service: GateService) -> None:
    copied = Copied(service)
    client = copied.connect("ann")
    before = copied.gateway.epoch
    other = service.resp_client()
    other.execute_command("GATE.LEASE", "edge-1", before + 1)
    assert not copied.is_online("ann")
    copied.gateway.renew_at = 0
    copied.turns_until(lambda: copied.is_online("ann"), "the client to have a Session again")
    assert copied.gateway.epoch > before + 1 and client.closed == [] and len(copied.gateway.clients) == 1


def test_it_keeps_its_clients_while_redis_is_away(service: GateService, cable: Cable) -> None:
    copied = Copied(service)
    client = copied.connect("ann")
    (session,) = copied.gateway.clients
    copied.gateway.turn()
    with cable.cut_off():
        copied.gateway.renew_at = 0
        copied.gateway.turn()
        assert copied.gateway.renew_at == 0  # it could not
    copied.turns_until(lambda: copied.gateway.renew_at > 0, "the lease to be renewed")
    assert list(copied.gateway.clients) == [session] and copied.is_online("ann") and client.closed == []


def test_it_goes_on_over_another_connection(service: GateService) -> None:
    copied = Copied(service)
    copied.connect("ann")
    epoch = copied.gateway.epoch
    workers = [one.pid for one in service.processes() if " worker" in one.command]
    assert workers
    kill_each(workers)
    copied.router = service.resp_client()

    def is_taken() -> bool:
        copied.gateway.turn()
        try:
            copied.connect("bob")
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):  # a worker that is being restarted
            return False
        return True

    wait_until(is_taken, PATIENCE_S, "another worker")
    assert copied.is_online("ann") and copied.is_online("bob")
    assert copied.gateway.epoch == epoch


def test_whom_it_may_not_connect_is_closed(service: GateService) -> None:
    copied = Copied(service)
    client = Client()
    copied.gateway.connect("not-a-token", "iOS", client.closed.append)
    assert client.closed[0].startswith("BADTOKEN") and not copied.gateway.clients
