"""Presence has a Redis of its own (`--presence-redis`), and one of the two is away: functions of the other one continue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from harness.cable import Cable
from harness.servers import RedisServer
from harness.service import Services
from harness.waiting import wait_until_async
from harness.websocket import Refused, Socket, connect
from tests.faults.node import RECOVERY_TIMEOUT_S, Node


class Site(NamedTuple):
    """A node, and the cables to its two servers."""

    node: Node
    facts: Cable
    presence: Cable

    async def connect(self, user: str) -> Socket:
        """A client; raises `Refused`."""
        token = await asyncio.to_thread(self.node.gate, "user", "token", user)
        return await connect(self.node.service.http, token.out.strip(), platform="Web")

    async def ban(self, user: str) -> tuple[int, object]:
        """Return the status, and how far the write got."""
        answer = await asyncio.to_thread(self.node.http.ban, user)
        return answer.status, answer.applied


@pytest.fixture(scope="module")
def site(start_module_service: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    servers = [RedisServer.start("valkey-9", tmp_path_factory.mktemp(name)) for name in ("facts", "presence")]
    with Cable(servers[0].port) as facts, Cable(servers[1].port) as presence:
        service = start_module_service.start("--presence-redis", presence.url, redis_url=facts.url)
        yield Site(Node(service, servers[0].url), facts, presence)
        service.stop()
    for server in servers:
        server.stop()


async def is_answered(client: Socket, user: str) -> bool:
    answer = await client.ask("presence", users=[user])
    assert answer["type"] == "presence" or answer["error"] == "unavailable", answer
    return answer["type"] == "presence" and bool(answer["presence"][0]["online"])


@pytest.mark.parametrize("fault", ["cut off", "frozen"])
async def test_presence_away_stops_no_write_and_bans_disconnect_when_it_is_back(site: Site, fault: str) -> None:
    ann, bob = [await site.connect(f"{user} {fault}".replace(" ", "-")) for user in ("ann", "bob")]
    with site.presence.cut_off() if fault == "cut off" else site.presence.frozen():
        assert (await bob.ask("presence", users=["ann"]))["error"] == "unavailable"
        with pytest.raises(Refused) as refused:
            await site.connect("eve")
        assert (refused.value.status, refused.value.body["error"]) == (503, "unavailable")
        assert await site.ban(ann.welcome["user"]) == (200, "all")
        site.node.asserts({(ann.welcome["user"], "bob"): "sender-banned", ("bob", ann.welcome["user"]): "allowed"})
        assert await bob.ask("ping") == {"type": "pong"}
    said, code = await ann.closed()
    assert said is not None
    assert (said["reason"], code) == ("banned", 4403)
    await wait_until_async(lambda: is_answered(bob, bob.welcome["user"]), RECOVERY_TIMEOUT_S, "Presence to be back")
    for client in (ann, bob):
        client.drop()


async def test_facts_away_stop_no_client_from_coming(site: Site) -> None:
    token = (await asyncio.to_thread(site.node.gate, "user", "token", "joe")).out.strip()
    with site.facts.cut_off():
        joe = await connect(site.node.service.http, token)
        assert await is_answered(joe, "joe")
        assert (await site.ban("joe"))[0] == 503
        assert (await joe.ask("block", users=["eve"]))["error"] == "unavailable"
    joe.drop()
    await asyncio.to_thread(site.node.wait_whole)
