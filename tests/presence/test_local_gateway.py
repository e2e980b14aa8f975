"""The local Gateway of a node, on a real service: which clients it disconnects, how fast, and which faults they survive."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import pytest_asyncio
import redis
import requests

from gate.core.model import AppFacts
from gate.core.presence import Event
from gate.core.slices import Slicing
from gate.service.embedded import socket_path, socket_url
from gate.store.presence import PresenceStore
from gate.store.slice_feed import SliceFeed
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until_async
from harness.websocket import Refused, Socket, connect
from tests.cli.command import Command
from tests.http.test_client_blacklist import token_of
from tests.http.world import signed
from tests.presence.played import presence_on
from tests.service.running import pid_of

LEASE_TTL_MS = 1_500
SOON_S = 15.0


class Node:
    """A service, its App, and its Presence past the service."""

    def __init__(self, service: GateService, presence: PresenceStore, app: AppFacts) -> None:
        self.service = service
        self.presence = presence
        self.app = app

    async def connect(self, user: str, **query: Any) -> Socket:
        return await connect(self.service.http, token_of(self.app, user), **query)

    async def call(self, method: str, path: str, body: Any = None, *, as_operator: bool = False) -> None:
        """A call of `/v1` that must succeed."""
        known = self.service.credentials
        pair = (known.operator, known.operator_password) if as_operator else (self.app.key, self.app.secrets[0])
        answer = await asyncio.to_thread(
            requests.request, method, self.service.http + path, json=body, auth=pair, timeout=SOON_S
        )
        assert answer.status_code == 200, answer.text

    async def user(self, path: str, **fields: str) -> None:
        """A call of `/user` that must succeed."""
        answer = await asyncio.to_thread(
            requests.post,
            f"{self.service.http}/user/{path}.json",
            data=fields,
            headers=signed(self.app),
            timeout=SOON_S,
        )
        assert answer.status_code == 200, answer.text

    async def closes_on_revocation(self, closes: bool) -> None:
        await self.call("PATCH", f"/v1/apps/{self.app.key}", {"close_sessions_on_expire": closes}, as_operator=True)

    async def online(self) -> set[bytes]:
        found, _ = await self.presence.page(self.app.key, 0, 1_000)
        return {user for user, _ in found}

    async def events(self) -> list[Event]:
        return await SliceFeed(self.presence.client, self.app.key, 0).read_oldest(1_000)

    async def kinds_of(self, user: bytes) -> list[str]:
        return [one.kind for one in await self.events() if one.user == user]

    async def until_online(self, users: set[bytes]) -> None:
        async def are_online() -> bool:
            return await self.online() == users

        await wait_until_async(are_online, SOON_S, f"{users} to be online")


def http_pid(node: Node) -> int:
    pid = pid_of(node.service, "http")
    assert pid is not None
    return pid


@pytest_asyncio.fixture
async def own_node(redis_server: RedisServer, start_service: Services) -> AsyncIterator[Node]:
    service = await asyncio.to_thread(
        start_service.start, "--lease-ttl-ms", str(LEASE_TTL_MS), redis_url=redis_server.url
    )
    presence, known = presence_on(redis_server.url), service.credentials
    yield Node(service, presence, AppFacts(key=known.app_key, secrets=(known.app_secret,)))
    await presence.client.aclose()


@pytest.fixture(scope="module")
def lasting_service(start_module_service: Services) -> GateService:
    """For tests that end no process of it, and no server."""
    return start_module_service.start("--lease-ttl-ms", str(LEASE_TTL_MS))


@pytest_asyncio.fixture
async def node(lasting_service: GateService) -> AsyncIterator[Node]:
    """That service, with an App of the test's own."""
    service = lasting_service
    kept = service.kept_pids()
    app = AppFacts(key=secrets.token_hex(4), secrets=(secrets.token_hex(16),))
    create = ("app", "create", "Test", "--key", app.key, "--secret", app.secrets[0])
    await asyncio.to_thread(Command(service.data), *create)
    presence = presence_on(embedded_url(service))
    yield Node(service, presence, app)
    await presence.client.aclose()
    assert service.kept_pids() == kept, "it needs a service of its own"


def embedded_url(service: GateService) -> str:
    return socket_url(socket_path(service.data / "redis"))


async def test_what_disconnects_a_user(node: Node) -> None:
    """A Ban, a deactivation, and where the App says so a revocation; each with its reason and its code, and at once."""
    until_ms = time.time_ns() // 1_000_000 + 3_600_000
    ways: dict[str, tuple[Callable[[], Coroutine[Any, Any, None]], str, int]] = {
        "ann": (lambda: node.call("POST", "/v1/bans", {"users": ["ann"], "until": until_ms}), "banned", 4403),
        "bob": (lambda: node.call("POST", "/v1/bans", {"users": ["bob"], "permanent": True}), "banned", 4403),
        "cy": (lambda: node.user("deactivate", userId="cy"), "deactivated", 4410),
        "di": (lambda: node.call("POST", "/v1/users/di/kick", {}), "kicked", 4411),
    }
    other = await node.connect("other")
    for user, (put_out, reason, code) in ways.items():
        phone, web = await node.connect(user, platform="iOS"), await node.connect(user)
        await put_out()
        for said, closed_with in (await phone.closed(), await web.closed()):
            assert said is not None
            assert (said["reason"], closed_with) == (reason, code)
            assert said.get("until") == (until_ms if user == "ann" else None)
    assert await other.ask("ping") == {"type": "pong"}
    await node.until_online({b"other"})
    other.drop()


async def test_clients_stay_while_users_move_to_more_slices_and_are_kicked_there(node: Node) -> None:
    sockets = {f"u{nth}": await node.connect(f"u{nth}") for nth in range(12)}
    await node.until_online({user.encode() for user in sockets})
    await node.call("PATCH", f"/v1/apps/{node.app.key}", {"presence_slices": 4}, as_operator=True)

    async def is_spread() -> bool:
        return await node.presence.slices.slicing(node.app.key) == Slicing(4)

    await wait_until_async(is_spread, SOON_S, "the Users to be moved")
    assert await node.online() == {user.encode() for user in sockets}
    sockets |= {f"v{nth}": await node.connect(f"v{nth}") for nth in range(12)}
    ((before,),) = await node.presence.leases([node.app.key])

    async def is_renewed() -> bool:
        ((lease,),) = await node.presence.leases([node.app.key])
        return lease.holds and lease.beat >= before.beat + 6

    await wait_until_async(is_renewed, SOON_S, "renewals for two leases, in every slice")
    assert await node.online() == {user.encode() for user in sockets}
    for user in ("u0", "u1", "u2", "v0", "v1", "v2"):
        await node.call("POST", f"/v1/users/{user}/kick", {})
        said, _ = await sockets.pop(user).closed()
        assert said is not None
        assert said["reason"] == "kicked"
    await node.until_online({user.encode() for user in sockets})
    for socket in sockets.values():
        assert await socket.ask("ping") == {"type": "pong"}
        socket.drop()
    await node.until_online(set())


async def test_a_revocation_closes_sessions_only_where_the_app_says_so(node: Node) -> None:
    for user, closes in (("ann", False), ("cy", True)):
        await node.closes_on_revocation(closes)
        token = token_of(node.app, user, time.time_ns() // 1_000_000 - 1_000)
        old, new = await connect(node.service.http, token), await node.connect("bob")
        await node.user("token/expire", userId=user, time=str(time.time_ns() // 1_000_000))
        if closes:
            said, code = await old.closed()
            assert said is not None
            assert (said["reason"], code) == ("token-revoked", 4401)
        else:
            assert (await old.ask("presence", users=[user]))["error"] == "token-revoked"
        with pytest.raises(Refused, match="token-revoked"):
            await connect(node.service.http, token)
        assert await new.ask("ping") == {"type": "pong"}
        for socket in (old, new):
            socket.drop()


async def test_a_token_that_ends_ends_its_session_where_the_app_says_so(node: Node) -> None:
    await node.closes_on_revocation(True)
    short = AppFacts(key=node.app.key, secrets=node.app.secrets, token_ttl_s=1)
    client = await connect(node.service.http, token_of(short, "ann"))
    said, code = await client.closed()
    assert said is not None
    assert (said["reason"], code) == ("token-expired", 4402)
    client.drop()


async def test_a_logout_is_distinguished_from_a_close(node: Node) -> None:
    out, gone = await node.connect("out"), await node.connect("gone")
    assert (await out.ask("logout"))["type"] == "logout"
    assert (await out.closed()).code == 4413
    out.drop()
    await gone.leave()

    async def reasons() -> dict[bytes, str]:
        return {one.user: one.why for one in await node.events() if one.kind == "offline"}

    async def are_announced() -> bool:
        return len(await reasons()) == 2

    await wait_until_async(are_announced, SOON_S, "the departures to be announced")
    assert await reasons() == {b"out": "logout", b"gone": "closed"}


async def test_no_other_gateway_leases_the_name_of_a_local_gateway(node: Node) -> None:
    with (
        node.service.resp_client() as client,
        pytest.raises(redis.ResponseError, match="names that begin with websocket@"),
    ):
        client.execute_command("GATE.LEASE", "websocket@elsewhere", 1)


async def test_clients_of_a_dead_process_end_with_its_lease_and_reconnect(own_node: Node) -> None:
    before = {user: await own_node.connect(user) for user in ("ann", "bob")}
    os.kill(http_pid(own_node), signal.SIGKILL)
    for socket in before.values():
        assert await socket.closed() == (None, None)

    async def is_back() -> bool:
        try:
            before["ann"] = await own_node.connect("ann")
        except (OSError, Refused, asyncio.IncompleteReadError):
            return False
        return True

    await wait_until_async(is_back, SOON_S, "the next process to take clients")
    await own_node.until_online({b"ann"})
    counts = await own_node.presence.counts(own_node.app.key)
    assert counts.total == 1

    async def is_announced() -> bool:
        return await own_node.kinds_of(b"bob") == ["online", "offline"]

    await wait_until_async(is_announced, SOON_S, "bob's departure to be announced")
    before["ann"].drop()


async def test_clients_outlive_a_pause_that_was_longer_than_the_lease(node: Node) -> None:
    ann = await node.connect("ann")
    pid = http_pid(node)
    os.kill(pid, signal.SIGSTOP)
    try:
        await node.until_online(set())
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await ann.ask("ping") == {"type": "pong"}
    await node.until_online({b"ann"})
    (presence,) = await node.presence.presences(node.app.key, [b"ann"])
    assert [one.id for one in presence.sessions] == [ann.session]
    await node.call("POST", "/v1/bans", {"users": ["ann"], "permanent": True})
    assert (await ann.closed()).code == 4403


async def test_a_user_banned_during_the_pause_is_not_restored(node: Node) -> None:
    ann, bob = await node.connect("ann"), await node.connect("bob")
    pid = http_pid(node)
    os.kill(pid, signal.SIGSTOP)
    try:
        await node.until_online(set())
        gate = Command(node.service.data, node.app.key, embedded_url(node.service))
        assert (await asyncio.to_thread(gate, "ban", "ann", "--minutes", "10")).status == 0
    finally:
        os.kill(pid, signal.SIGCONT)
    said, code = await ann.closed()
    assert said is not None
    assert (said["reason"], code) == ("banned", 4403)
    assert await bob.ask("ping") == {"type": "pong"}
    await node.until_online({b"bob"})
    bob.drop()


async def test_clients_are_online_again_after_redis_lost_everything(own_node: Node, redis_server: RedisServer) -> None:
    ann = await own_node.connect("ann")
    redis_server.restart_empty()

    async def is_back() -> bool:
        (presence,) = await own_node.presence.presences(own_node.app.key, [b"ann"])
        return [one.id for one in presence.sessions] == [ann.session]

    await wait_until_async(is_back, SOON_S, "ann's Session to be brought back")
    assert await ann.ask("ping") == {"type": "pong"}
    assert "offline" not in await own_node.kinds_of(b"ann")
    ann.drop()


async def test_an_outage_longer_than_a_lease_announces_no_departure(own_node: Node, redis_server: RedisServer) -> None:
    ann = await own_node.connect("ann")
    with redis_server.paused():
        with pytest.raises(Refused) as refused:
            await own_node.connect("bob")
        assert refused.value.status == 503
        until = asyncio.get_running_loop().time() + 2 * LEASE_TTL_MS / 1_000
        while asyncio.get_running_loop().time() < until:
            assert await ann.ask("ping") == {"type": "pong"}
            await asyncio.sleep(0.05)
    bob = await connected_again(own_node, "bob")
    assert await own_node.kinds_of(b"ann") == ["online"]
    await own_node.until_online({b"ann", b"bob"})
    ann.drop()
    bob.drop()


async def connected_again(node: Node, user: str) -> Socket:
    async def is_in() -> Socket | None:
        try:
            return await node.connect(user)
        except Refused as refused:
            assert refused.status == 503
            return None

    socket = await wait_until_async(is_in, SOON_S, "Redis to be found again")
    assert socket is not None
    return socket


async def test_an_app_that_is_removed_takes_its_clients_with_it(node: Node) -> None:
    ann = await node.connect("ann")
    await node.call("DELETE", f"/v1/apps/{node.app.key}", as_operator=True)
    said, code = await ann.closed()
    assert said is not None
    assert (said["reason"], said["reconnect"], code) == ("app-removed", False, 4404)


async def test_the_lease_of_an_app_without_clients_ends_and_is_taken_again(node: Node) -> None:
    await (await node.connect("ann")).leave()

    async def has_ended() -> bool:
        ((lease,),) = await node.presence.leases([node.app.key])
        return not lease.holds

    await wait_until_async(has_ended, SOON_S, "the lease to be given back")
    ann = await node.connect("ann")
    await node.until_online({b"ann"})
    ann.drop()
