"""Penalties: Bans and Mutes. They differ in their names only (`BAN`, `MUTE`).

A User's facts hold the reason and the actor; a set ordered by end serves the query. An ended penalty stays in Redis until a
sweep, and counts as absent everywhere from that very millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput, UserDeactivated
from gate.store import keys, scripts
from gate.store.link import Reply
from gate.store.places import MAX_PAGE_DEPTH, Place, entries_behind, fields_of
from gate.store.writer import Attribution, Step, Writer, WriteReceipt


class Penalty(NamedTuple):
    """One User's Ban or Mute."""

    user: bytes
    until_ms: int
    why: str
    by: str

    @property
    def place(self) -> Place:
        """Its position in the listing."""
        return Place(self.until_ms, self.user)


class Imposed(NamedTuple):
    """A write, and the Users of the call that were left out because they are deactivated."""

    written: WriteReceipt
    skipped: list[bytes]


# What `impose` does with deactivated Users: refuse the call, leave them out, or penalize them like any other.
IfDeactivated = Literal["refuse", "skip", "take"]


class PenaltyNames(NamedTuple):
    """The names of one kind of penalty in Redis. `key` makes the key of the set of penalized Users, by end."""

    imposed: str
    lifted: str
    until: bytes
    why: bytes
    by: bytes
    key: Callable[[int, str], bytes]


BAN = PenaltyNames("ban-imposed", "ban-lifted", keys.BANNED_UNTIL, keys.BANNED_WHY, keys.BANNED_BY, keys.bans)
MUTE = PenaltyNames("mute-imposed", "mute-lifted", keys.MUTED_UNTIL, keys.MUTED_WHY, keys.MUTED_BY, keys.mutes)


class Penalties:
    """Imposes, lifts and lists one kind of penalty. Every method may raise `StoreUnavailable`."""

    def __init__(self, writer: Writer, names: PenaltyNames) -> None:
        self._writer = writer
        self.names = names
        self.key = names.key

    async def impose(
        self,
        app_key: str,
        users: Sequence[bytes],
        until_ms: int,
        now_ms: int,
        why: str = "",
        by: str = "",
        *,
        refuse_deactivated: bool = True,
    ) -> WriteReceipt:
        """Penalize Users until a moment. It replaces a User's earlier penalty, longer or shorter.

        Raises `UserDeactivated`, with no penalty imposed, unless `refuse_deactivated` is off. (If a User of another Partition
        is deactivated between the check and the write, the rest of the call may be written.)
        """
        grouped = self._writer.by_partition(app_key, users)
        if refuse_deactivated and len(grouped) > 1:
            await self._refuse_deactivated(app_key, grouped)
        steps = [
            self.imposing(
                app_key,
                partition,
                [Penalty(user, until_ms, why, by) for user in group],
                "refuse" if refuse_deactivated else "take",
                Attribution(by, why),
            )
            for partition, group in grouped.items()
        ]
        written, replies = await self._writer.write(app_key, steps, now_ms)
        if deactivated := left_out(replies):
            raise UserDeactivated(sorted(deactivated))
        return written

    def imposing(
        self,
        app_key: str,
        partition: int,
        group: Sequence[Penalty],
        if_deactivated: IfDeactivated,
        attribution: Attribution | None = None,
    ) -> Step:
        """Return the step that penalizes Users of one Partition, for `AppWrites` and for imports, which are not audited."""
        for penalty in group:
            if not 0 < penalty.until_ms <= FOREVER_MS:
                raise InvalidInput("until", f"must be 1 to {FOREVER_MS} ms, {penalty.until_ms} was sent")
        names = self.names
        args: list[bytes | str | int] = [names.imposed, names.until, names.why, names.by, if_deactivated]
        for penalty in group:
            # Its four fields, in the order of lua/impose.lua.
            args += penalty
        prefix = keys.facts_prefix(partition, app_key)
        facts = [prefix + penalty.user for penalty in group]
        return Step(partition, scripts.IMPOSE, [self.key(partition, app_key), *facts], args, attribution)

    async def lift(
        self, app_key: str, users: Sequence[bytes], now_ms: int, why: str = "", by: str = ""
    ) -> WriteReceipt:
        """Lift Users' penalties. A User without one is accepted."""
        names = self.names
        steps = [
            Step(
                partition,
                scripts.LIFT,
                [self.key(partition, app_key), *(keys.user(partition, app_key, user) for user in group)],
                [names.lifted, names.until, names.why, names.by, *group],
                Attribution(by, why),
            )
            for partition, group in self._writer.by_partition(app_key, users).items()
        ]
        return (await self._writer.write(app_key, steps, now_ms))[0]

    async def page(self, app_key: str, now_ms: int, offset: int, count: int) -> list[Penalty]:
        """Return the penalties in force, latest end first, equal ends by descending id (as bytes)."""
        if offset < 0 or count < 1 or offset + count > MAX_PAGE_DEPTH:
            raise InvalidInput("page", f"must begin at 0 or later and end before {MAX_PAGE_DEPTH}")
        return await self._in_force(app_key, now_ms, None, offset, count)

    async def behind(self, app_key: str, now_ms: int, place: Place | None, count: int) -> list[Penalty]:
        """Return the next ones in force, in the order of `page`, after a position. Exact while penalties come and go."""
        return await self._in_force(app_key, now_ms, place, 0, count)

    async def _in_force(self, app_key: str, now_ms: int, place: Place | None, offset: int, count: int) -> list[Penalty]:
        sets = [self.key(partition, app_key) for partition in range(self._writer.partitions)]
        found = await entries_behind(self._writer.client, sets, place, count, offset=offset, reverse=True)
        # The latest end comes first, so those that have ended are at the end.
        in_force = [row for row in found if row[0] > now_ms]
        reasons = await self.reasons(app_key, [user for _, user in in_force])
        return [Penalty(user, end, why, by) for (end, user), (why, by) in zip(in_force, reasons, strict=True)]

    async def count(self, app_key: str, now_ms: int) -> int:
        """Return the number in force."""
        partitions = range(self._writer.partitions)
        counts = [("ZCOUNT", self.key(partition, app_key), f"({now_ms}", "+inf") for partition in partitions]
        return sum(await self._writer.client.read(*counts))

    async def reasons(self, app_key: str, users: Sequence[bytes]) -> list[tuple[str, str]]:
        """Return the reason and the actor of each User's penalty; empty strings without a penalty."""
        found = await fields_of(self._writer, app_key, users, self.names.why, self.names.by)
        return [((why or b"").decode(), (by or b"").decode()) for why, by in found]

    async def _refuse_deactivated(self, app_key: str, grouped: dict[int, list[bytes]]) -> None:
        """Check all Users first, so that none is written: the scripts check again, but each only in its own Partition."""
        users = [(partition, user) for partition, group in grouped.items() for user in group]
        asked = [("HEXISTS", keys.user(partition, app_key, user), keys.DEACTIVATED_AT) for partition, user in users]
        found = await self._writer.client.read(*asked)
        if deactivated := [user for (_, user), is_so in zip(users, found, strict=True) if is_so]:
            raise UserDeactivated(deactivated)


def left_out(replies: Sequence[Reply]) -> set[bytes]:
    """Return the Users that scripts reported as deactivated."""
    # Refused replies begin with a word, others with seq and epoch.
    return {user for reply in replies for user in (reply[1:] if reply[0] == b"deactivated" else reply[2:])}
