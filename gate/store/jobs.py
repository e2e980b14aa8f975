"""Jobs: erasing the facts of deactivated Users in steps, each of which may be repeated.

    1 erase    all facts of the User, in its Partition; a Change informs the Replicas
    2 release  its place under the App's limit of Users, in Partition 0
    3 finish   removes the job from the list, and queues the result for the App's webhook

A worker that dies or hangs leaves a job with a claim. Any node that has seen one claim unchanged for `LEASE_MS` on its own
monotonic clock takes the job over and repeats it from the first step. So no step of any clock hastens or delays an erasure.
Used by the background role of every node.
"""

from __future__ import annotations

from typing import NamedTuple

from gate.core.model import ListKind
from gate.store import keys, scripts
from gate.store.clocks import Watch
from gate.store.quota import Quota
from gate.store.scripts import Call
from gate.store.writer import Attribution, Step, Writer, logged_call

# A job takes some milliseconds. After a longer delay it may run twice, which is harmless.
LEASE_MS = 10_000
# Per Partition at a time: the jobs that a dying worker delays.
MAX_CLAIMED = 64
UNCLAIMED = 0

ERASED = Attribution("gate", "deactivated")


class Job(NamedTuple):
    """A deactivated User whose facts are to be erased."""

    partition: int
    app: str
    user: bytes


class Jobs:
    """Claims jobs and runs their steps. Every method may raise `StoreUnavailable`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._quota = Quota(writer)
        self._watch = Watch[tuple[int, bytes]]()

    async def claim(self, monotonic_ms: int) -> list[Job]:
        """Claim jobs that are unclaimed, or whose claim is unchanged for `LEASE_MS`."""
        partitions = range(self._writer.partitions)
        # Most rounds find no job, and a read is cheaper than a write.
        looks = [("ZRANGE", keys.jobs(partition), 0, MAX_CLAIMED - 1, "WITHSCORES") for partition in partitions]
        claimed_by_others: set[tuple[int, bytes]] = set()
        calls: list[Call] = []
        busy: list[int] = []
        for partition, flat in zip(partitions, await self._writer.client.read(*looks), strict=True):
            free: list[bytes | int] = []
            for name, score in zip(flat[::2], flat[1::2], strict=True):
                claim = int(score)
                unchanged_ms = self._watch.unchanged_ms((partition, name), claim, monotonic_ms)
                # The watched value is passed on, and the script compares it again.
                if claim == UNCLAIMED or unchanged_ms >= LEASE_MS:
                    free += (name, claim)
                else:
                    claimed_by_others.add((partition, name))
            if free:
                calls.append(Call(scripts.JOBS_CLAIM, [keys.jobs(partition)], free))
                busy.append(partition)
        self._watch.keep_only(claimed_by_others)
        claimed = await self._writer.client.write(calls) if calls else []
        return [_job(partition, name) for partition, names in zip(busy, claimed, strict=True) for name in names]

    async def run(self, job: Job, now_ms: int) -> None:
        """Run all steps."""
        await self.erase(job, now_ms)
        await self.release(job)
        await self.finish(job, now_ms)

    async def erase(self, job: Job, now_ms: int) -> None:
        """Step 1. A User that is no longer deactivated keeps its facts."""
        partition, app, user = job
        # The order of KEYS in lua/erase_deactivated.lua.
        own = [keys.users(partition, app), keys.bans(partition, app), keys.mutes(partition, app)]
        own.append(keys.user(partition, app, user))
        for kind in ListKind:
            own += (keys.entries(partition, kind, app, user), keys.ends(partition, kind, app, user))
        step = Step(partition, scripts.ERASE_DEACTIVATED, own, [user], ERASED)
        await self._writer.client.write([logged_call(app, step, now_ms)])

    async def release(self, job: Job) -> None:
        """Step 2."""
        await self._quota.release(job.app, [job.user])

    async def finish(self, job: Job, now_ms: int) -> bool:
        """Step 3. Returns False if another worker finished the job."""
        partition, app, user = job
        own = [keys.jobs(partition), keys.hooks(partition), keys.user(partition, app, user)]
        (ended,) = await self._writer.client.write([Call(scripts.JOB_FINISH, own, [now_ms, app, user])])
        return bool(ended)


def _job(partition: int, name: bytes) -> Job:
    """Split the name of a job. An App key holds no colon."""
    app, _, user = name.partition(b":")
    return Job(partition, app.decode(), user)
