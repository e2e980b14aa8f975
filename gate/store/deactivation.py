"""Deactivation: a User is gone for everybody at once, and its facts are erased soon after; reactivation gives the id back.

The fact and its Change are written in the request. What the User has is erased by a job (see `jobs`), and the App hears
of the result by webhook (see `webhook_queue`): both are put down by the same script, so neither is lost whatever dies.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from gate.errors import InvalidInput, ReactivationTooEarly
from gate.store import keys, scripts
from gate.store.link import Command
from gate.store.penalties import MAX_PAGE_DEPTH
from gate.store.places import Place, entries_behind
from gate.store.scripts import Script
from gate.store.writer import Attribution, Step, Writer, WriteReceipt

_OPERATION_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Operation(NamedTuple):
    """What a call answers: the operation's id, which its callbacks name, and the write."""

    id: str
    written: WriteReceipt


class DeactivatedUser(NamedTuple):
    """A deactivated User, and since when it is one."""

    user: bytes
    since_ms: int


class Deactivation:
    """Deactivates, reactivates and lists. Every method raises `StoreUnavailable`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def deactivate(
        self, app_key: str, users: Sequence[bytes], now_ms: int, why: str = "", by: str = ""
    ) -> Operation:
        """Users may neither send nor be sent to, nor connect; one that is deactivated already stays so since then."""
        operation = operation_id()
        steps = [
            self._step(scripts.DEACTIVATE, partition, app_key, group, [operation], Attribution(by, why))
            for partition, group in self._writer.by_partition(app_key, users).items()
        ]
        return Operation(operation, (await self._writer.write(app_key, steps, now_ms))[0])

    async def reactivate(
        self,
        app_key: str,
        users: Sequence[bytes],
        now_ms: int,
        after_ms: int,
        why: str = "",
        by: str = "",
        *,
        refuse_early: bool = True,
    ) -> Operation:
        """Give ids back, without what they had; one that is not deactivated is fine. Tokens from before stay revoked.

        It is too early for a User that was deactivated less than `after_ms` ago or is still being erased: the callback of
        each User says which was done; or with `refuse_early` the call raises `ReactivationTooEarly` and reactivates none.
        (If that comes to be so in the very moment between the look and the write, Users of other Partitions may be in.)
        """
        operation = operation_id()
        grouped = self._writer.by_partition(app_key, users)
        if refuse_early and len(grouped) > 1:
            await self._refuse_early(app_key, grouped, now_ms, after_ms)
        args: list[str | int] = [operation, now_ms - after_ms, "1" if refuse_early else ""]
        steps = [
            self._step(scripts.REACTIVATE, partition, app_key, group, args, Attribution(by, why))
            for partition, group in grouped.items()
        ]
        written, replies = await self._writer.write(app_key, steps, now_ms)
        for reply in replies:
            if reply[0] == b"refused":
                _, user, since_ms, is_erasing, *_ = reply
                raise _too_early(user, int(since_ms) + after_ms, now_ms, is_erasing == b"1")
        return Operation(operation, written)

    async def page(self, app_key: str, offset: int, count: int) -> list[DeactivatedUser]:
        """Deactivated Users, those being erased included; the latest first, and of equal moments the greatest id."""
        if offset < 0 or count < 1 or offset + count > MAX_PAGE_DEPTH:
            raise InvalidInput("page", f"must begin at 0 or later and end before {MAX_PAGE_DEPTH}")
        asked = [
            ("ZREVRANGE", keys.gone(partition, app_key), 0, offset + count - 1, "WITHSCORES")
            for partition in range(self._writer.partitions)
        ]
        rows: list[tuple[int, bytes]] = []
        for reply in await self._writer.client.read(*asked):
            rows += [(int(since), user) for user, since in zip(reply[::2], reply[1::2], strict=True)]
        rows.sort(reverse=True)
        return [DeactivatedUser(user, since_ms) for since_ms, user in rows[offset : offset + count]]

    async def behind(self, app_key: str, place: Place | None, count: int) -> list[DeactivatedUser]:
        """The next ones in the order of `page`, behind a place; exact while ids are deactivated and given back."""
        sets = [keys.gone(partition, app_key) for partition in range(self._writer.partitions)]
        found = await entries_behind(self._writer.client, sets, place, count, reverse=True)
        return [DeactivatedUser(user, since_ms) for since_ms, user in found]

    def _step(
        self,
        script: Script,
        partition: int,
        app_key: str,
        group: Sequence[bytes],
        args: Sequence[str | int],
        because: Attribution,
    ) -> Step:
        shared = [keys.gone(partition, app_key), keys.jobs(partition), keys.hooks(partition)]
        facts = [keys.user(partition, app_key, user) for user in group]
        return Step(partition, script, [*shared, *facts], [*args, *group], because)

    async def _refuse_early(self, app_key: str, grouped: dict[int, list[bytes]], now_ms: int, after_ms: int) -> None:
        """The scripts ask again, but each only in its own Partition; asked first, none of the call is written."""
        users = [(partition, user) for partition, group in grouped.items() for user in group]
        asked: list[Command] = []
        for partition, user in users:
            asked.append(("HGET", keys.user(partition, app_key, user), keys.DEACTIVATED_AT))
            asked.append(("ZSCORE", keys.jobs(partition), keys.job(app_key, user)))
        found = await self._writer.client.read(*asked)
        for (_, user), since_ms, due in zip(users, found[::2], found[1::2], strict=True):
            if since_ms is not None and (due is not None or int(since_ms) > now_ms - after_ms):
                raise _too_early(user, int(since_ms) + after_ms, now_ms, due is not None)


def operation_id() -> str:
    """Names one call, in four groups as `C70B-B1D6-82E8-5SBO`."""
    groups = ("".join(secrets.choice(_OPERATION_ALPHABET) for _ in range(4)) for _ in range(4))
    return "-".join(groups)


def _too_early(user: bytes, from_ms: int, now_ms: int, is_erasing: bool) -> ReactivationTooEarly:
    if from_ms > now_ms:
        shown = datetime.fromtimestamp(from_ms // 1_000 + 1, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        return ReactivationTooEarly(user, from_ms, f"was deactivated lately and may be reactivated from {shown} on")
    assert is_erasing
    return ReactivationTooEarly(user, None, "is still being erased and may be reactivated once that is done")
