"""The first App: made once, healed wherever the first start was cut off, the same again in a Redis that lost everything."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from gate.core.model import AppFacts
from gate.core.operators import Operator
from gate.errors import AppExists, CannotStart, OperatorExists
from gate.service.credentials import Credentials, ensure_first, forget_password, note_new_secret, read_credentials
from gate.service.directory_layout import write_private
from gate.store.apps import Apps
from gate.store.operators import Operators
from gate.store.passwords import password_fits
from gate.store.store import Store
from gate.store.writer import UNEXPLAINED, Attribution, WriteReceipt
from harness.servers import RedisServer

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
    made = await ensure_first(path, store.apps, store.operators, NOW_MS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert msgspec.json.decode(path.read_bytes(), type=Credentials) == made
    app = await store.apps.get(made.app_key)
    assert (app.name, app.environment, app.secrets) == ("default", "development", (made.app_secret,))
    assert len(made.operator_password) >= 20
    (operator,) = await store.operators.list()
    assert (operator.name, operator.role, made.operator) == ("admin", "admin", "admin")
    assert password_fits(made.operator_password, operator.password_hash)


async def test_a_later_start_changes_nothing(store: Store, path: Path) -> None:
    made = await ensure_first(path, store.apps, store.operators, NOW_MS)
    head = await store.changelog.heads()
    assert await ensure_first(path, store.apps, store.operators, NOW_MS + 1) == made
    assert await store.changelog.heads() == head


async def test_a_start_cut_off_after_the_file_is_finished(store: Store, path: Path) -> None:
    path.write_bytes(msgspec.json.encode(Credentials("written", "secret", "admin", "pw")))
    await ensure_first(path, store.apps, store.operators, NOW_MS)
    assert (await store.apps.get("written")).secrets == ("secret",)


async def test_a_redis_that_lost_everything_gets_the_same_app(
    store: Store, path: Path, redis_server: RedisServer
) -> None:
    made = await ensure_first(path, store.apps, store.operators, NOW_MS)
    redis_server.client.flushall()
    await ensure_first(path, store.apps, store.operators, NOW_MS)
    assert (await store.apps.get(made.app_key)).secrets == (made.app_secret,)


async def test_a_rotated_secret_is_not_undone(store: Store, path: Path) -> None:
    made = await ensure_first(path, store.apps, store.operators, NOW_MS)
    await store.apps.update(made.app_key, lambda app: msgspec.structs.replace(app, secrets=("new",)), NOW_MS)
    await ensure_first(path, store.apps, store.operators, NOW_MS)
    assert (await store.apps.get(made.app_key)).secrets == ("new",)


async def test_a_second_node_takes_the_app_that_is_there(store: Store, path: Path, tmp_path: Path) -> None:
    first = await ensure_first(path, store.apps, store.operators, NOW_MS)
    second = await ensure_first(tmp_path / "other.json", store.apps, store.operators, NOW_MS)
    assert (second.app_key, second.app_secret) == (first.app_key, first.app_secret)
    assert len(await store.apps.list()) == 1


async def test_apps_of_other_names_are_not_taken(store: Store, path: Path) -> None:
    await store.apps.create(AppFacts(key="shop", name="shop", secrets=("s",)), NOW_MS)
    assert (await ensure_first(path, store.apps, store.operators, NOW_MS)).app_key != "shop"


async def test_a_node_that_was_quicker_is_no_failure(store: Store, path: Path) -> None:
    class Slow(Apps):
        """The same Apps, seen by one who looked before another node wrote."""

        async def create(self, facts: AppFacts, now_ms: int, why: str = "", by: str = "") -> WriteReceipt:
            await store.apps.create(facts, now_ms)
            with pytest.raises(AppExists):
                await store.apps.create(facts, now_ms)
            raise AppExists("taken")

    made = await ensure_first(path, Slow(store.writer), store.operators, NOW_MS)
    assert (await store.apps.get(made.app_key)).name == "default"


async def test_a_second_node_knows_no_password_and_takes_none(store: Store, path: Path, tmp_path: Path) -> None:
    await ensure_first(path, store.apps, store.operators, NOW_MS)
    before = await store.operators.list()
    second = await ensure_first(tmp_path / "other.json", store.apps, store.operators, NOW_MS)
    assert (second.operator, second.operator_password) == ("admin", "")
    assert await store.operators.list() == before


async def test_an_operator_who_was_removed_stays_so(store: Store, path: Path) -> None:
    made = await ensure_first(path, store.apps, store.operators, NOW_MS)
    await store.operators.add(Operator(name="ann", role="admin", password_hash="$", created_at_ms=1))
    await store.operators.remove(made.operator)
    await ensure_first(path, store.apps, store.operators, NOW_MS)
    assert [one.name for one in await store.operators.list()] == ["ann"]


async def test_a_redis_that_lost_everything_gets_an_operator_again(
    store: Store, path: Path, redis_server: RedisServer
) -> None:
    made = await ensure_first(path, store.apps, store.operators, NOW_MS)
    redis_server.client.flushall()
    assert await ensure_first(path, store.apps, store.operators, NOW_MS) == made
    forget_password(path, made.operator)
    redis_server.client.flushall()
    again = await ensure_first(path, store.apps, store.operators, NOW_MS)
    assert again == read_credentials(path)
    assert again.operator_password not in ("", made.operator_password)
    (operator,) = await store.operators.list()
    assert password_fits(again.operator_password, operator.password_hash)


async def test_an_operator_of_a_node_that_was_quicker_is_no_failure(store: Store, path: Path) -> None:
    class Slow(Operators):
        """The same operators, seen by one who looked before another node wrote."""

        async def list(self) -> list[Operator]:
            return []

        async def add(self, operator: Operator, attribution: Attribution = UNEXPLAINED) -> None:
            raise OperatorExists("taken")

    assert (await ensure_first(path, store.apps, Slow(store.client), NOW_MS)).operator_password == ""
    assert read_credentials(path) is not None and read_credentials(path).operator_password == ""  # type: ignore[union-attr]


async def test_a_new_secret_is_noted_for_the_files_app_alone(store: Store, path: Path) -> None:
    assert not note_new_secret(path, "none", "new-secret")
    made = await ensure_first(path, store.apps, store.operators, NOW_MS)
    assert not note_new_secret(path, "another", "new-secret")
    assert read_credentials(path) == made
    assert note_new_secret(path, made.app_key, "new-secret")
    assert read_credentials(path) == msgspec.structs.replace(made, app_secret="new-secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_password_is_forgotten_for_the_files_operator_alone(store: Store, path: Path) -> None:
    made = await ensure_first(path, store.apps, store.operators, NOW_MS)
    assert not forget_password(path, "another")
    assert forget_password(path, made.operator) and not forget_password(path, made.operator)
    assert read_credentials(path) == msgspec.structs.replace(made, operator_password="")


async def test_a_file_that_is_mounted_read_only_serves_if_it_is_whole(
    store: Store, redis_server: RedisServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await ensure_first(path, store.apps, store.operators, NOW_MS)

    def refuse(*_: object) -> None:  # root may write anywhere but on such a mount
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("gate.service.credentials.write_private", refuse)
    assert await ensure_first(path, store.apps, store.operators, NOW_MS) == made
    redis_server.client.flushall()
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(made, operator_password="")))
    with pytest.raises(CannotStart, match=r"Read-only file system.*fill in its operator_password"):
        await ensure_first(path, store.apps, store.operators, NOW_MS)


def test_a_symbolic_link_to_the_file_stays_one(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    real.write_bytes(msgspec.json.encode(Credentials("k", "s" * 16, "admin", "p")))
    path.symlink_to("real.json")
    assert note_new_secret(path, "k", "t" * 16)
    assert path.is_symlink() and b"t" * 16 in real.read_bytes()


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"app_key": "a b"}', b"\xff", b"[]"])
def test_a_damaged_file_is_named_not_replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CannotStart, match=r"credentials\.json"):
        read_credentials(path)
    assert path.read_bytes() == content


def test_a_replaced_file_is_on_disk_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "node-id", list[tuple[int, bool]]()

    def fsync(descriptor: int, real: Callable[[int], None] = os.fsync) -> None:
        synced.append((os.fstat(descriptor).st_ino, path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_private(path, b"0123")
    assert synced == [(path.stat().st_ino, False), (tmp_path.stat().st_ino, True)]
