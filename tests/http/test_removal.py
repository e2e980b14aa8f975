"""An App's removal that broke off half-way: made again, it is finished, so that nothing is left for an App of the same key."""

from __future__ import annotations

import pytest

from gate.core.model import FOREVER_MS, AppFacts
from gate.errors import StoreUnavailable
from gate.store.apps import Apps
from gate.store.link import Link
from tests.http.test_apps import ask, begin_operator
from tests.http.world import World, now_ms


async def test_a_removal_that_broke_off_is_finished_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    admin, key = await begin_operator(world, "admin"), world.app.key
    await world.store.bans.impose(key, [b"mallory"], FOREVER_MS, now_ms())

    async def cut_off(self: Apps, link: Link, app_key: str) -> None:
        raise StoreUnavailable("the connection was lost", "unknown")

    with monkeypatch.context() as broken:
        broken.setattr(Apps, "_purge", cut_off)
        assert (await ask(world, admin, "DELETE", f"apps/{key}")).status == 503
    assert (await ask(world, admin, "DELETE", f"apps/{key}")).status == 404, "it is gone"
    made = await ask(
        world, admin, "POST", "apps", {"name": "another", "key": key, "secret": "another-secret", "short_secret": True}
    )
    assert made.status == 200, made
    world.app = AppFacts(key=key, secrets=("another-secret",))
    assert await world.word("mallory", "bob") == "allowed"
    assert (await world.v1("GET", "bans")).body["bans"] == []
