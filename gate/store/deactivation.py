"""Deactivation: a User is disabled at once, and its facts are erased soon after. Reactivation releases the id.

The fact and its Change are written in the request. A job (see `jobs`) erases the User's facts, and a webhook (see
`webhook_queue`) reports the result to the App. The same script queues both, so neither can be lost.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from gate.errors import InvalidInput, ReactivationTooEarly
from gate.store import keys, scripts
from gate.store.link import Command
from gate.store.places import MAX_PAGE_DEPTH, Place, entries_behind
from gate.store.scripts import Script
from gate.store.writer import Attribution, Step, Writer, WriteReceipt

_OPERATION_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Operation(NamedTuple):
    """The answer of a call: the operation's id, which its callbacks repeat, and the write."""

    id: str
    written: WriteReceipt


class DeactivatedUser(NamedTuple):
    """A deactivated User and the moment of its deactivation."""

    user: bytes
    since_ms: int


class Deactivation:
    """Deactivates, reactivates and lists Users. Every method may raise `StoreUnavailable`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def deactivate(
        self, app_key: str, users: Sequence[bytes], now_ms: int, why: str = "", by: str = ""
    ) -> Operation:
        """Deactivate Users: they may not send, receive or connect. Those already deactivated keep their moment."""
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
        """Release ids, without the facts they had. An id that is not deactivated is accepted. Old Tokens stay revoked.

        It is too early for a User that was deactivated less than `after_ms` ago or is still being erased. The callback of
        each User reports the result; with `refuse_early` the call raises `ReactivationTooEarly` and reactivates none.
        (If a User becomes too early between the check and the write, Users of other Partitions may be reactivated.)
        """
        operation = operation_id()
        grouped = self._writer.by_partition(app_key, users)
        # With one Partition the script's own check is atomic already.
        if refuse_early and len(grouped) > 1:
            await self._refuse_early(app_key, grouped, now_ms, after_ms)
        args: list[str | int] = [operation, now_ms - after_ms, "1" if refuse_early else ""]
        steps = [
            self._step(scripts.REACTIVATE, partition, app_key, group, args, Attribution(by, why))
            for partition, group in grouped.items()
        ]
        written, replies = await self._writer.write(app_key, steps, now_ms)
        # Possible despite the check: a User may have changed in between.
        for reply in replies:
            if reply[0] == b"refused":
                _, user, since_ms, is_erasing, *_ = reply
                raise _too_early(user, int(since_ms) + after_ms, now_ms, is_erasing == b"1")
        return Operation(operation, written)

    async def page(self, app_key: str, offset: int, count: int) -> list[DeactivatedUser]:
        """Return deactivated Users, including those being erased; latest first, equal moments by descending id."""
        if offset < 0 or count < 1 or offset + count > MAX_PAGE_DEPTH:
            raise InvalidInput("page", f"must begin at 0 or later and end before {MAX_PAGE_DEPTH}")
        return await self._listed(app_key, None, offset, count)

    async def behind(self, app_key: str, place: Place | None, count: int) -> list[DeactivatedUser]:
        """Return the next ones in the order of `page`, after a position. Exact while ids are deactivated and released."""
        return await self._listed(app_key, place, 0, count)

    async def _listed(self, app_key: str, place: Place | None, offset: int, count: int) -> list[DeactivatedUser]:
        sets = [keys.gone(partition, app_key) for partition in range(self._writer.partitions)]
        found = await entries_behind(self._writer.client, sets, place, count, offset=offset, reverse=True)
        return [DeactivatedUser(user, since_ms) for since_ms, user in found]

    def _step(
        self,
        script: Script,
        partition: int,
        app_key: str,
        group: Sequence[bytes],
        args: Sequence[str | int],
        attribution: Attribution,
    ) -> Step:
        shared = [keys.gone(partition, app_key), keys.jobs(partition), keys.hooks(partition)]
        facts = [keys.user(partition, app_key, user) for user in group]
        return Step(partition, script, [*shared, *facts], [*args, *group], attribution)

    async def _refuse_early(self, app_key: str, grouped: dict[int, list[bytes]], now_ms: int, after_ms: int) -> None:
        """Check all Users first, so that none is written: the scripts check again, but each only in its own Partition."""
        users = [(partition, user) for partition, group in grouped.items() for user in group]
        asked: list[Command] = []
        for partition, user in users:
            asked.append(("HGET", keys.user(partition, app_key, user), keys.DEACTIVATED_AT))
            asked.append(("ZSCORE", keys.jobs(partition), keys.job(app_key, user)))
        found = await self._writer.client.read(*asked)
        for (_, user), since_ms, due in zip(users, found[::2], found[1::2], strict=True):
            # A queued job means that the erasure is not finished.
            if since_ms is not None and (due is not None or int(since_ms) > now_ms - after_ms):
                raise _too_early(user, int(since_ms) + after_ms, now_ms, due is not None)


def operation_id() -> str:
    """Return an id of one call, in four groups like `C70B-B1D6-82E8-5SBO`."""
    groups = ("".join(secrets.choice(_OPERATION_ALPHABET) for _ in range(4)) for _ in range(4))
    return "-".join(groups)


def _too_early(user: bytes, from_ms: int, now_ms: int, is_erasing: bool) -> ReactivationTooEarly:
    if from_ms > now_ms:
        shown = datetime.fromtimestamp(from_ms // 1_000 + 1, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        return ReactivationTooEarly(user, from_ms, f"was deactivated recently and may be reactivated from {shown} on")
    assert is_erasing
    return ReactivationTooEarly(user, None, "is still being erased and may be reactivated once that is done")
