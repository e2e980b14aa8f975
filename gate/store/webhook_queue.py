"""The webhook queue: results that Apps are to be sent, from the script that caused them until delivery or giving up.

At least once: a result leaves its stream when it was delivered, not before. The server counts the attempts and since when
the last one is, so a worker that dies or is restarted changes nothing, and any node may go on. Used by `gate.webhooks`.

The server dates attempts by its wall clock, which may step. Forward: an attempt that is under way looks old, so none is made
again before the clock has kept pace with this process's monotonic clock for the first wait, which is longer than an attempt may
take. Back: an attempt that is dated in the future counts from now on, so a retry waits once more at most.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

from gate.clock import monotonic_ms
from gate.errors import InvalidInput, StoreUnavailable
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.clocks import Pace
from gate.store.link import Command
from gate.store.scripts import Call

MAX_DEAD = 10_000
"""Dead letters kept of each Partition, about; the oldest go first. A receiver that was gone for so long asks Gate instead."""
MAX_LISTED = 1_000
MAX_LOOKS = 5
"""Of 1,000 results of each Partition, to count those of one App: some tens of milliseconds at most."""
DEAD_A_STEP = 200
MAX_DEAD_STEPS = 20
"""Steps of a page of dead letters. They are kept by Partition, so those of other Apps are read and passed over."""
ATTEMPT_MS = 10_000
"""An attempt that began less long ago may be under way. It is longer than an attempt may take (`gate.webhooks.posting`)."""

LastOutcome = Literal["delivered", "failed", "dead"]

_DEAD_ID = re.compile(r"(\d{1,4}):(\d{1,20}-\d{1,20})")
_DEAD_CURSOR = re.compile(r"(\d{1,16})-(\d{1,16})-(\d{1,4})")


class QueuedWebhook(NamedTuple):
    """One result. `kind` is "0" for a deactivation, "1" for a reactivation; `code` "0" means done, "1" too early."""

    partition: int
    entry: str
    attempt: int
    app: str
    user: bytes
    operation: str
    kind: str
    code: str
    at_ms: int


class DeadWebhook(NamedTuple):
    """A result that was given up, with what was wrong at its last attempt. `id` is what `replay` takes."""

    id: str
    gave_up_ms: int
    problem: str
    attempts: int
    hook: QueuedWebhook


class Outcome(NamedTuple):
    """What became of the latest attempt to send a result to an App. `problem` is empty if it was delivered."""

    at_ms: int
    outcome: LastOutcome
    problem: str


class QueueState(NamedTuple):
    """The results of one App that are not delivered yet. Counts are lower bounds if not all results were counted."""

    waiting: int
    oldest_ms: int
    """When the oldest was made, on the server's clock; 0 if none waits."""
    under_way: int
    """Attempts that began a moment ago."""
    tried: int
    """Results whose latest attempt failed. They wait for the next."""
    is_complete: bool
    last: Outcome | None


class _DeadPlace(NamedTuple):
    """A dead letter's position among those of all Partitions."""

    at_ms: int
    number: int
    partition: int


class WebhookQueue:
    """Takes, ends and lists results. Every method raises `StoreUnavailable`."""

    def __init__(self, client: Client, partitions: int) -> None:
        self._client = client
        self._partitions = partitions
        self._pace = Pace()
        self._recounting: dict[int, str] = {}
        """Partitions in which attempts may be dated in the future, and from which entry on."""

    async def take(self, consumer: str, most: int, waits_ms: Sequence[int]) -> list[QueuedWebhook]:
        """Up to `most` (1 or more) to deliver now, of all Partitions alike.

        `waits_ms`: how long after each failed attempt the next is due.
        """
        with_results = await self._with_results()
        await self._recount(with_results)
        now_ms = monotonic_ms()
        is_steady = self._pace.kept_ms(now_ms) >= waits_ms[0]
        again_until_ms = self._pace.latest_ms(now_ms) if is_steady else 0
        asked = random.sample(with_results, min(most, len(with_results)))
        calls = [
            Call(scripts.HOOKS_TAKE, [keys.hooks(partition)], [consumer, most // len(asked), again_until_ms, *waits_ms])
            for partition in asked
        ]
        replies = await self._client.write(calls) if calls else []
        rows = [(_partition_of(call.keys[0]), row) for call, taken in zip(calls, replies, strict=True) for row in taken]
        return [_hook(partition, row[0], int(row[1]), row[2:]) for partition, row in rows]

    async def done(self, hook: QueuedWebhook, *, is_wanted: bool = True) -> None:
        """Remove a result that was delivered, or whose App has no webhook any more."""
        names = [keys.hooks(hook.partition), keys.hook_last(hook.partition, hook.app)]
        outcome: LastOutcome | Literal[""] = "delivered" if is_wanted else ""
        await self._client.write([Call(scripts.HOOK_DONE, names, [hook.entry, outcome])])

    async def failed(self, hook: QueuedWebhook, problem: str) -> None:
        """Note an attempt that failed; the next is made when it is due."""
        await self._client.write([Call(scripts.HOOK_FAILED, [keys.hook_last(hook.partition, hook.app)], [problem])])

    async def bury(self, hook: QueuedWebhook, problem: str) -> None:
        """Give it up."""
        names = [
            keys.hooks(hook.partition),
            keys.dead_hooks(hook.partition),
            keys.hook_last(hook.partition, hook.app),
        ]
        await self._client.write([Call(scripts.HOOK_BURY, names, [hook.entry, problem, hook.attempt, MAX_DEAD])])

    async def waiting(self) -> int:
        """How many are not delivered yet, of all Apps."""
        return sum(await self._client.read(*(("XLEN", keys.hooks(p)) for p in range(self._partitions))))

    async def dead(self, app_key: str, most: int = MAX_LISTED) -> list[DeadWebhook]:
        """The App's dead letters, the latest first. Reads all that are kept: for commands, not for pages."""
        asked = [("XREVRANGE", keys.dead_hooks(p), "+", "-") for p in range(self._partitions)]
        found: list[DeadWebhook] = []
        for partition, entries in enumerate(await self._client.read(*asked)):
            found += [dead for entry in entries if (dead := _dead(partition, *entry)).hook.app == app_key]
        return sorted(found, key=lambda dead: dead.gave_up_ms, reverse=True)[:most]

    async def dead_page(
        self, app_key: str, count: int, cursor: str | None = None
    ) -> tuple[list[DeadWebhook], str | None]:
        """A page of the App's dead letters, the latest first, and the next page's cursor, None at the end.

        A page may be short and still have a next one, since those of other Apps are passed over. Raises `InvalidInput`.
        """
        place = None if cursor is None else _dead_place(cursor)
        found: list[DeadWebhook] = []
        for _ in range(MAX_DEAD_STEPS):
            asked: list[Command] = [
                ("XREVRANGE", keys.dead_hooks(p), _below(place, p), "-", "COUNT", DEAD_A_STEP)
                for p in range(self._partitions)
            ]
            replies = await self._client.read(*asked)
            rows = [_dead(p, *entry) for p, entries in enumerate(replies) for entry in entries]
            rows.sort(key=_dead_order, reverse=True)
            # Any Partition may have the whole step, so what lies behind the step's last row is read again.
            step = rows[:DEAD_A_STEP]
            for dead in step:
                place = _dead_order(dead)
                if dead.hook.app == app_key:
                    found.append(dead)
                    if len(found) == count:
                        return found, _dead_cursor(place)
            if len(rows) <= DEAD_A_STEP and all(len(entries) < DEAD_A_STEP for entries in replies):
                return found, None
        assert place is not None, "a full step has a last row"
        return found, _dead_cursor(place)

    async def dead_letters(self, app_key: str, ids: Sequence[str]) -> list[DeadWebhook]:
        """Those of these dead letters that exist and are the App's. Raises `InvalidInput`."""
        places = [self._dead_parts(one) for one in ids]
        asked: list[Command] = [("XRANGE", keys.dead_hooks(p), entry, entry) for p, entry in places]
        replies = await self._client.read(*asked) if asked else []
        rows = [_dead(p, *entry) for (p, _), entries in zip(places, replies, strict=True) for entry in entries]
        return [dead for dead in rows if dead.hook.app == app_key]

    async def replay(self, ids: Sequence[str]) -> int:
        """Put dead letters back among the results to deliver; answers how many there were. Raises `InvalidInput`."""
        places = [self._dead_parts(one) for one in ids]
        calls = [Call(scripts.HOOK_REPLAY, [keys.hooks(p), keys.dead_hooks(p)], [entry]) for p, entry in places]
        return sum(await self._client.write(calls)) if calls else 0

    async def drop(self, ids: Sequence[str]) -> int:
        """Delete dead letters; answers how many there were. Raises `InvalidInput`."""
        places = [self._dead_parts(one) for one in ids]
        calls = [Call(scripts.HOOK_DROP, [keys.dead_hooks(p)], [entry]) for p, entry in places]
        return sum(await self._client.write(calls)) if calls else 0

    async def state(self, app_key: str) -> QueueState:
        """How delivery to the App goes on. Counts the first thousands of each Partition."""
        every = range(self._partitions)
        next_of = dict.fromkeys(every, "-")
        waiting, under_way, tried, oldest = 0, 0, 0, list[int]()
        for _ in range(MAX_LOOKS):
            looks = [Call(scripts.HOOKS_LOOK, [keys.hooks(p)], [app_key, at, ATTEMPT_MS]) for p, at in next_of.items()]
            replies = await self._client.query_each(looks)
            for _, many, first, begun, failed in replies:
                waiting, under_way, tried = waiting + many, under_way + begun, tried + failed
                oldest += [int(first.partition(b"-")[0])] if first else []
            next_of = {p: reply[0].decode() for p, reply in zip(next_of, replies, strict=True) if reply[0]}
            if not next_of:
                break
        return QueueState(
            waiting, min(oldest, default=0), under_way, tried, not next_of, await self._last_outcome(app_key)
        )

    async def _last_outcome(self, app_key: str) -> Outcome | None:
        asked = (("HMGET", keys.hook_last(p, app_key), "at", "outcome", "problem") for p in range(self._partitions))
        rows = [row for row in await self._client.read(*asked) if row[0]]
        if not rows:
            return None
        at, outcome, problem = max(rows, key=lambda row: int(row[0]))
        return Outcome(int(at), cast("LastOutcome", outcome.decode()), problem.decode())

    def _dead_parts(self, dead_id: str) -> tuple[int, str]:
        match = _DEAD_ID.fullmatch(dead_id)
        if match is None or int(match[1]) >= self._partitions:
            raise InvalidInput("ID", f"must be one that `gate webhooks list` shows, got {dead_id[:80]!r}")
        return int(match[1]), match[2]

    async def _with_results(self) -> list[int]:
        """Most rounds find nothing, and a look is cheaper than a write. The server's clock is looked at as well."""
        asked: list[Command] = [("XLEN", keys.hooks(partition)) for partition in range(self._partitions)]
        asked_at_ms = monotonic_ms()
        *lengths, (seconds, micros) = await self._client.read(*asked, ("TIME",))
        if self._pace.note(int(seconds) * 1_000 + int(micros) // 1_000, asked_at_ms, monotonic_ms()):
            self._recounting = dict.fromkeys(range(self._partitions), "-")
        return [partition for partition, length in enumerate(lengths) if length]

    async def _recount(self, with_results: Sequence[int]) -> None:
        """Go on with attempts that the server's clock, before it was set back, dated in what is the future now."""
        found = {p: after for p, after in self._recounting.items() if p in with_results}
        self._recounting = {}
        if not found:
            return
        calls = [Call(scripts.HOOKS_RECOUNT, [keys.hooks(p)], [after]) for p, after in found.items()]
        try:
            reached = await self._client.write(calls)
        except StoreUnavailable:
            self._recounting = found
            raise
        self._recounting |= {p: after.decode() for p, after in zip(found, reached, strict=True) if after}


def _dead_order(dead: DeadWebhook) -> _DeadPlace:
    partition, _, entry = dead.id.partition(":")
    return _DeadPlace(dead.gave_up_ms, int(entry.partition("-")[2]), int(partition))


def _dead_place(cursor: str) -> _DeadPlace:
    match = _DEAD_CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidInput("cursor", "must be the `next` of an earlier answer")
    return _DeadPlace(int(match[1]), int(match[2]), int(match[3]))


def _dead_cursor(place: _DeadPlace) -> str:
    return "-".join(map(str, place))


def _below(place: _DeadPlace | None, partition: int) -> str:
    """The upper bound for a Partition's entries after a place, in Redis's syntax. Of one moment, higher Partitions go first."""
    if place is None:
        return "+"
    return f"{'' if partition < place.partition else '('}{place.at_ms}-{place.number}"


def _partition_of(key: bytes) -> int:
    """Out of `gate:{p}:hooks`."""
    return int(key[6 : key.index(b"}")])


def _hook(partition: int, entry: bytes, attempt: int, flat: Sequence[bytes]) -> QueuedWebhook:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    app, operation, kind, code = (fields[name].decode() for name in (b"a", b"o", b"y", b"c"))
    return QueuedWebhook(
        partition, entry.decode(), attempt, app, fields[b"u"], operation, kind, code, int(fields[b"t"])
    )


def _dead(partition: int, entry: bytes, flat: Sequence[bytes]) -> DeadWebhook:
    _, problem, _, attempts, *rest = flat
    hook = _hook(partition, entry, int(attempts), rest)
    gave_up_ms = int(entry.partition(b"-")[0])
    return DeadWebhook(f"{partition}:{hook.entry}", gave_up_ms, problem.decode(), hook.attempt, hook)
