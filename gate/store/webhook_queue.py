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
from typing import NamedTuple

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

_DEAD_ID = re.compile(r"(\d{1,4}):(\d{1,20}-\d{1,20})")


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

    async def done(self, hook: QueuedWebhook) -> None:
        """Remove a result that was delivered, or whose App has no webhook any more."""
        await self._client.write([Call(scripts.HOOK_DONE, [keys.hooks(hook.partition)], [hook.entry])])

    async def bury(self, hook: QueuedWebhook, problem: str) -> None:
        """Give it up."""
        streams = [keys.hooks(hook.partition), keys.dead_hooks(hook.partition)]
        await self._client.write([Call(scripts.HOOK_BURY, streams, [hook.entry, problem, hook.attempt, MAX_DEAD])])

    async def waiting(self) -> int:
        """How many are not delivered yet, of all Apps."""
        return sum(await self._client.read(*(("XLEN", keys.hooks(p)) for p in range(self._partitions))))

    async def dead(self, app_key: str, most: int = MAX_LISTED) -> list[DeadWebhook]:
        """The App's dead letters, the latest first."""
        asked = [("XREVRANGE", keys.dead_hooks(p), "+", "-") for p in range(self._partitions)]
        found: list[DeadWebhook] = []
        for partition, entries in enumerate(await self._client.read(*asked)):
            found += [dead for entry in entries if (dead := _dead(partition, *entry)).hook.app == app_key]
        return sorted(found, key=lambda dead: dead.gave_up_ms, reverse=True)[:most]

    async def replay(self, ids: Sequence[str]) -> int:
        """Put dead letters back among the results to deliver; answers how many there were. Raises `InvalidInput`."""
        calls = []
        for one in ids:
            match = _DEAD_ID.fullmatch(one)
            if match is None or int(match[1]) >= self._partitions:
                raise InvalidInput("ID", f"must be one that `gate webhooks list` shows, got {one[:80]!r}")
            partition = int(match[1])
            calls.append(Call(scripts.HOOK_REPLAY, [keys.hooks(partition), keys.dead_hooks(partition)], [match[2]]))
        return sum(await self._client.write(calls)) if calls else 0

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
