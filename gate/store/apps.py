"""Apps: their credentials and settings, in Partition 0.

A change is optimistic: the script compares with what the caller read, so that two operators do not undo each other's changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from gate.core.codec import pack_app, unpack_app
from gate.core.ids import app_key as checked_app_key
from gate.core.model import AppFacts
from gate.core.revision import APPS_PARTITION
from gate.errors import AppExists, AppUnknown, StoreUnavailable
from gate.sealing import has_sealed, opened, opened_if_possible, sealed
from gate.store import keys, scripts
from gate.store.audit_diff import changed, created
from gate.store.link import Link, LinkLost, ReplyError
from gate.store.writer import Attribution, Step, Writer, WriteReceipt

# Each failed attempt means that another operator's change was written.
MAX_UPDATE_TRIES = 20
SCAN_COUNT = 1_000
DELETE_BATCH = 500
_PRESENCE_SLICES = b'"presence_slices"'
# Absent from the stored form of an App without one, so only a few of thousands of Apps are decoded.
_PRESENCE_WEBHOOK = b'"presence_webhook_url"'


class Apps:
    """Creates, changes, reads and removes Apps. Every method may raise `StoreUnavailable`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def create(self, facts: AppFacts, now_ms: int, why: str = "", by: str = "") -> WriteReceipt:
        """Write a new App. Raises `AppExists`."""
        written = await self._put(sealed(facts), b"", now_ms, Attribution(by, why), created(facts))
        if isinstance(written, bytes):
            raise AppExists(f"there is an App with the key {facts.key!r} already")
        return written

    async def put(self, facts: AppFacts, now_ms: int, why: str = "", by: str = "") -> WriteReceipt:
        """Replace an App regardless of its present settings. Raises `AppUnknown`."""
        written = await self._put(sealed(facts), "*", now_ms, Attribution(by, why), created(facts))
        if isinstance(written, bytes):
            raise _unknown(facts.key)
        return written

    async def update(
        self, app_key: str, mutate: Callable[[AppFacts], AppFacts], now_ms: int, why: str = "", by: str = ""
    ) -> tuple[AppFacts, WriteReceipt]:
        """Replace an App by `mutate` of it, which is called again after a concurrent change. Raises `AppUnknown`."""
        packed = await self._get(app_key)
        for _ in range(MAX_UPDATE_TRIES):
            stored = unpack_app(packed)
            before = opened_if_possible(stored)
            facts = mutate(before)
            if has_sealed(before) and (facts.secrets, facts.token_keys) != (before.secrets, before.token_keys):
                opened(before)  # raises: a secret that can't be opened can't be rotated
            # Compare-and-set: `packed` is what `facts` was derived from.
            written = await self._put(
                sealed(facts, stored), packed, now_ms, Attribution(by, why), changed(before, facts)
            )
            if not isinstance(written, bytes):
                return facts, written
            if not written:
                raise _unknown(app_key)
            # The present record, for the next attempt.
            packed = written
        raise StoreUnavailable(f"the App {app_key!r} was changed by others {MAX_UPDATE_TRIES} times meanwhile")

    async def get(self, app_key: str) -> AppFacts:
        """Read an App. Raises `AppUnknown`. Secrets that can't be opened here stay sealed."""
        return opened_if_possible(unpack_app(await self._get(app_key)))

    async def list(self) -> list[AppFacts]:
        """All Apps, by key. Secrets that can't be opened here stay sealed."""
        return [opened_if_possible(facts) for facts in await self.stored()]

    async def stored(self) -> Sequence[AppFacts]:
        """All Apps as they are stored, by key: sealed secrets stay sealed."""
        (rows,) = await self._writer.client.read(("HVALS", keys.apps()))
        return sorted((unpack_app(row) for row in rows), key=lambda facts: facts.key)

    async def store_again(
        self, app_key: str, convert: Callable[[AppFacts], AppFacts], now_ms: int, why: str = "", by: str = ""
    ) -> WriteReceipt | None:
        """Write an App's secrets in another stored form; None if it has that form. Raises `AppUnknown`, `SecretsSealed`."""
        packed = await self._get(app_key)
        for _ in range(MAX_UPDATE_TRIES):
            stored = unpack_app(packed)
            facts = convert(stored)
            if facts == stored:
                return None
            written = await self._put(facts, packed, now_ms, Attribution(by, why), changed(stored, stored))
            if not isinstance(written, bytes):
                return written
            if not written:
                raise _unknown(app_key)
            packed = written
        raise StoreUnavailable(f"the App {app_key!r} was changed by others {MAX_UPDATE_TRIES} times meanwhile")

    async def missing(self, app_keys: Sequence[str]) -> Sequence[str]:
        """Return the keys that belong to no App."""
        if not app_keys:
            return ()
        found = await self._writer.client.read(*(("HEXISTS", keys.apps(), key) for key in app_keys))
        return [key for key, is_there in zip(app_keys, found, strict=True) if not is_there]

    async def moved_at(self) -> tuple[Any, ...]:
        """Return the head of the Changelog of the Apps' Partition. While it is the same, no App has changed."""
        fields = (keys.META_EPOCH, keys.META_SEQ, keys.META_TIP)
        (place,) = await self._writer.client.read(("HMGET", keys.meta(APPS_PARTITION), *fields))
        return tuple(place)

    async def with_presence_webhook(self) -> tuple[Sequence[AppFacts], Sequence[str]]:
        """Return the Apps that have a presence webhook, and the keys of all others, which are not decoded."""
        (flat,) = await self._writer.client.read(("HGETALL", keys.apps()))
        telling: list[AppFacts] = []
        others: list[str] = []
        for app_key, packed in zip(flat[::2], flat[1::2], strict=True):
            # A substring test of the JSON is far cheaper than decoding it.
            facts = opened_if_possible(unpack_app(packed)) if _PRESENCE_WEBHOOK in packed else None
            if facts is not None and facts.presence_webhook_url:
                telling.append(facts)
            else:
                others.append(app_key.decode())
        return telling, others

    async def with_presence_slices(self) -> dict[str, int]:
        """Return the number of slices of each App whose Presence has more than one."""
        (rows,) = await self._writer.client.read(("HVALS", keys.apps()))
        sliced = (unpack_app(row) for row in rows if _PRESENCE_SLICES in row)
        return {facts.key: facts.presence_slices for facts in sliced if facts.presence_slices > 1}

    async def remove(self, app_key: str, now_ms: int, why: str = "", by: str = "") -> WriteReceipt:
        """Remove an App and all facts of its Users. Safe to repeat after an interruption; an unknown App is accepted.

        Facts that are written to it meanwhile may stay. Stop its callers first, or repeat the removal.
        """
        # The record first: from then on no check finds the App's facts.
        step = Step(
            APPS_PARTITION, scripts.APP_REMOVE, [keys.apps(), keys.deployment_audit()], [], Attribution(by, why)
        )
        written, _ = await self._writer.write(checked_app_key(app_key), [step], now_ms)
        await self.finish_removal(app_key)
        return written

    async def finish_removal(self, app_key: str) -> None:
        """Delete the remaining keys of a removed App, as after an interrupted removal.

        Remaining facts would belong to the next App with that key. A key that was never used has none.
        """
        for server in await self._writer.client.masters():
            link = await server.open_dedicated()
            try:
                await self._purge(link, app_key)
            except LinkLost as loss:
                raise StoreUnavailable(str(loss), "unknown") from None
            finally:
                await link.aclose()
        doomed = [
            key
            for partition in range(self._writer.partitions)
            for key in (
                keys.bans(partition, app_key),
                keys.mutes(partition, app_key),
                keys.users(partition, app_key),
                keys.gone(partition, app_key),
                keys.audit(partition, app_key),
                keys.nonces(partition, app_key),
                keys.hook_last(partition, app_key),
            )
        ]
        # One command per key: in a Cluster each key has a slot of its own.
        await self._writer.client.read(*(("UNLINK", key) for key in (*doomed, keys.quota(app_key))))

    async def _get(self, app_key: str) -> bytes:
        (packed,) = await self._writer.client.read(("HGET", keys.apps(), app_key))
        if packed is None:
            raise _unknown(app_key)
        assert isinstance(packed, bytes)
        return packed

    async def _put(
        self, facts: AppFacts, present: bytes | Literal["*"], now_ms: int, attribution: Attribution, diff: bytes
    ) -> WriteReceipt | bytes:
        """Write an App if it is still `present`, else return it as it is now. `diff` is the value of the audit entry."""
        step = Step(
            APPS_PARTITION,
            scripts.APP_PUT,
            [keys.apps(), keys.deployment_audit()],
            [pack_app(facts), present, diff],
            attribution,
        )
        written, (reply,) = await self._writer.write(checked_app_key(facts.key), [step], now_ms)
        return bytes(reply[1]) if reply[0] == b"differs" else written

    async def _purge(self, link: Link, app_key: str) -> None:
        deadline_ms = self._writer.client.deadline_ms
        doomed: list[bytes] = []
        cursor = b"0"
        while True:
            command = ("SCAN", cursor, "MATCH", keys.app_glob(app_key), "COUNT", SCAN_COUNT)
            (reply,) = await link.exchange([command], deadline_ms)
            if isinstance(reply, ReplyError):
                raise StoreUnavailable(f"the server refused: {reply}", "unknown")
            cursor, found = reply
            # A glob can match another App's keys (its key may hold special characters), so each key is parsed.
            doomed += [key for key in found if (parsed := keys.parse(key)) and parsed.app == app_key]
            while doomed and (cursor == b"0" or len(doomed) >= DELETE_BATCH):
                await link.exchange([("UNLINK", key) for key in doomed[:DELETE_BATCH]], deadline_ms)
                del doomed[:DELETE_BATCH]
            if cursor == b"0":
                return


def _unknown(app_key: str) -> AppUnknown:
    return AppUnknown(f"there is no App with the key {app_key!r}")
