"""The first App: made once, healed wherever the first start was cut off, the same again in a Redis that lost everything."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from gate.core.model import AppFacts
from gate.errors import AppExists, CannotStart
from gate.service.credentials import Credentials, ensure_first_app, read_credentials
from gate.store.store import Store
from tests.harness.servers import RedisServer

NOW_MS = 1_700_000_000_000


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    connected = await Store.connect(redis_server.url)
    yield connected
    await connected.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "credentials.json"


async def test_the_first_start_writes_the_file_and_makes_the_app(store: Store, path: Path) -> None:
    made = await ensure_first_app(path, store.apps, NOW_MS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert msgspec.json.decode(path.read_bytes(), type=Credentials) == made
    app = await store.apps.get(made.app_key)
    assert (app.name, app.environment, app.secrets) == ("default", "development", (made.app_secret,))
    assert made.operator == "admin"
    assert len(made.operator_password) >= 20


async def test_a_later_start_changes_nothing(store: Store, path: Path) -> None:
    made = await ensure_first_app(path, store.apps, NOW_MS)
    head = await store.changelog.heads()
    assert await ensure_first_app(path, store.apps, NOW_MS + 1) == made
    assert await store.changelog.heads() == head


async def test_a_start_cut_off_after_the_file_is_finished(store: Store, path: Path) -> None:
    path.write_bytes(msgspec.json.encode(Credentials("written", "secret", "admin", "pw")))
    await ensure_first_app(path, store.apps, NOW_MS)
    assert (await store.apps.get("written")).secrets == ("secret",)


async def test_a_redis_that_lost_everything_gets_the_same_app(
    store: Store, path: Path, redis_server: RedisServer
) -> None:
    made = await ensure_first_app(path, store.apps, NOW_MS)
    redis_server.client.flushall()
    await ensure_first_app(path, store.apps, NOW_MS)
    assert (await store.apps.get(made.app_key)).secrets == (made.app_secret,)


async def test_a_rotated_secret_is_not_undone(store: Store, path: Path) -> None:
    made = await ensure_first_app(path, store.apps, NOW_MS)
    await store.apps.update(made.app_key, lambda app: msgspec.structs.replace(app, secrets=("new",)), NOW_MS)
    await ensure_first_app(path, store.apps, NOW_MS)
    assert (await store.apps.get(made.app_key)).secrets == ("new",)


async def test_a_second_node_takes_the_app_that_is_there(store: Store, path: Path, tmp_path: Path) -> None:
    first = await ensure_first_app(path, store.apps, NOW_MS)
    second = await ensure_first_app(tmp_path / "other.json", store.apps, NOW_MS)
    assert (second.app_key, second.app_secret) == (first.app_key, first.app_secret)
    assert len(await store.apps.list()) == 1


async def test_apps_of_other_names_are_not_taken(store: Store, path: Path) -> None:
    await store.apps.create(AppFacts(key="shop", name="shop", secrets=("s",)), NOW_MS)
    assert (await ensure_first_app(path, store.apps, NOW_MS)).app_key != "shop"


async def test_a_node_that_was_quicker_is_no_failure(store: Store, path: Path) -> None:
    class Slow:
        """The same Apps, seen by one who looked before another node wrote."""

        get = store.apps.get
        list = store.apps.list

        async def create(self, facts: AppFacts, now_ms: int) -> object:
            await store.apps.create(facts, now_ms)
            with pytest.raises(AppExists):
                await store.apps.create(facts, now_ms)
            raise AppExists("taken")

    made = await ensure_first_app(path, Slow(), NOW_MS)
    assert (await store.apps.get(made.app_key)).name == "default"


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"app_key": "a b"}', b"\xff", b"[]"])
def test_a_damaged_file_is_named_not_replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CannotStart, match=r"credentials\.json"):
        read_credentials(path)
    assert path.read_bytes() == content
