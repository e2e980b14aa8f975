"""All keys of a script are in one slot, as proven by a server in cluster mode, which refuses any other script.

Such a server also refuses a script that touches an undeclared key in another slot. One node owns all slots here, so nothing is
redirected.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from gate.core.model import AppFacts
from gate.store import presence_keys as keys
from gate.store.feed import Feed
from gate.store.presence import LogPosition, PresenceStore
from gate.store.store import Store
from gate.store.webhook_claims import Claiming, WebhookClaims
from harness.ports import free_port
from harness.servers import Flavor, RedisServer
from harness.waiting import wait_until
from tests.presence.played import Gateway, presence_on
from tests.store.touring import tour


def is_serving(server: RedisServer) -> bool:
    return bool(server.client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


async def presence_tour(presence: PresenceStore) -> None:
    """Every script of Presence, with all keys that it can touch."""
    app = AppFacts(key="app", secrets=("s",), device_policy="one")
    gateway = await Gateway(presence, app).lease()
    await gateway.close(await gateway.open(b"closed"))
    for platform in ("iOS", "Web"):  # which replaces the other
        session = await gateway.open(b"u", platform)
    touched = presence.touching(app.key, [(b"u", session.partition(".")[0])])
    assert await presence.exchange(touched) == [[1]]
    await presence.kick(app.key, [b"u"], "banned", up_to=LogPosition("e", 1))
    await presence.set_floors(app.key, {"e": 1})
    await presence.drop_bars(app.key)
    held = await gateway.open(b"v")
    assert [bool(one.sessions) for one in await presence.presences(app.key, [b"u", b"v"])] == [False, True]
    assert await presence.online(app.key, [b"u", b"v"]) == [False, True]
    assert (await presence.counts(app.key)).total == len([held])
    assert await presence.sample(app.key)
    assert await presence.end_lease(app.key, gateway.name, gateway.epoch)
    await presence.sweep(app.key)
    await presence.tidy(app.key)
    await presence.announce(app.key)
    await presence.forget_users(app.key, [b"u"])
    hooks = WebhookClaims(presence.client, "node")
    await hooks.claim([Claiming(app.key, await Feed(presence.client, app.key).head())])
    await hooks.forget([app.key])
    await presence.remove_app(app.key)
    assert await presence.client.read(("EXISTS", keys.feed(app.key), keys.leases(app.key))) == [0]
    await presence.client.aclose()


def low_port() -> int:
    """The cluster's own port is 10,000 higher: it must exist, and no client connection may use it."""
    return next(
        port for port in range(51_000 + free_port() % 4_000, 55_500) if is_free(port) and is_free(port + 10_000)
    )


def is_free(port: int) -> bool:
    with socket.socket() as one, suppress(OSError):
        one.bind(("127.0.0.1", port))
        return True
    return False


@pytest.mark.slow
async def test_every_script_runs_in_cluster_mode(redis_flavor: Flavor, tmp_path: Path) -> None:
    server = RedisServer.start(redis_flavor, tmp_path, low_port(), extra=["--cluster-enabled", "yes"])
    try:
        server.client.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
        wait_until(lambda: is_serving(server), 10, "the cluster to serve")
        with pytest.raises(redis.ResponseError, match="slot"):
            server.client.eval("return 1", 2, "gate:{1}:meta", "gate:{2}:meta")
        url = f"redis+cluster://127.0.0.1:{server.port}"
        store = await Store.connect(url)
        await tour(store)
        await store.aclose()
        await presence_tour(presence_on(url))
    finally:
        server.stop()
