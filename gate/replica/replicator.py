"""The replicator: keeps this node's Replica in step with Redis, and publishes its progress.

    lease ──▶ open the local facts, serve them ──▶ prove that they can be followed ──▶ follow: read, apply, announce, stamp
                                                     │ no                            │ no longer
                                                     └──▶ load a snapshot aside, swap ◀──┘

Facts are stamped fresh only for a moment at which Redis itself returned its heads, only when everything up to those heads is
applied, and only while this node's lease is certain. So a Redis that was emptied, restored, rewritten, or demoted while another
server takes the writes, can't pass for fresh, whether or not the connection broke. While the Changelog can't be followed, the
old facts are served and their stamp ages.

Invariants: the lease is taken before heads are read, so that every writer waits for this node from then on. Positions are
announced after their commit, never before. It retries forever, with a capped delay. One replicator per directory.

Called by the replicator role; `run` until `stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from gate.clock import monotonic_ms, wall_ms
from gate.core.changes import ChangeUnreadable, check_heads, slices
from gate.core.revision import Position
from gate.errors import ChangelogBroken, ReplicaForeign, ReplicaFull, ReplicaMissing, StoreUnavailable
from gate.replica import files
from gate.replica.changelog_checks import UNREACHED_MS, HeadsTarget, verify_history
from gate.replica.compaction import Compaction, opened_in_step
from gate.replica.heartbeat import HeadsRead, Heartbeat
from gate.replica.layout import BOARD_FILE, MAP_BYTES, generation_of
from gate.replica.lost import OnLoss, load_and_list
from gate.replica.ports import Upstream
from gate.replica.replaced import Replaced
from gate.replica.status_page import STAMP_EVERY_MS, State, StatusPage
from gate.replica.upkeep import CHECK_PLACE_EVERY_MS, Upkeep
from gate.replica.writer import FactsFile

FIRST_RETRY_MS, LAST_RETRY_MS = 50, 1_000
# On a full disk, each attempt to load reads all of Redis in vain.
LAST_RELOAD_RETRY_MS = 15_000
PURGED_AT_ONCE = 5_000

_log = structlog.get_logger()


class _Stopping(Exception):
    """`stop` was called; unwinds a load."""


class Replicator:
    """Keeps `directory` in step with `upstream`. Make one per process; `run` it once."""

    def __init__(
        self,
        directory: Path,
        upstream: Upstream,
        *,
        before_snapshot: Callable[[], Awaitable[None]] | None = None,
        map_bytes: int = MAP_BYTES,
        compaction: Compaction | None = None,
        was_ready: bool = False,
        show_problem: Callable[[str], object] = bool,
        on_loss: OnLoss | None = None,
    ) -> None:
        """`before_snapshot` runs before each load: an emptied Redis may need its first App again.

        `was_ready`: the previous process was, so this one is ready even if cut off. `show_problem` is called with the reason
        why the facts are not current, and with "" once they are; `on_loss` with the facts that Redis lost.
        """
        self.opened = asyncio.Event()
        """Set once the facts on disk are open, or discarded because they can't be trusted."""
        self.ready = asyncio.Event()
        """Set once the heads seen at start are applied; stays set."""
        self._directory = directory
        self._upstream = upstream
        self._heartbeat = Heartbeat(upstream, self._applied, self._end_freshness)
        self._before_snapshot = before_snapshot
        self._map_bytes = map_bytes
        self.compaction = compaction or Compaction(directory)
        self._was_ready = was_ready
        self._show_problem, self._on_loss = show_problem, on_loss
        self._stopping = asyncio.Event()
        self.file: FactsFile | None = None
        self._replaced = Replaced()
        self._used_generation = 0
        self._status_page: StatusPage
        self._reload_reason: str | None = None
        self._retry_ms = FIRST_RETRY_MS
        self._target = HeadsTarget()
        self._upkeep: Upkeep
        self._damages = self._reloads = self._applied_changes = 0
        self._state = State.LOADING
        self._is_partly_cut_off = False
        self._cut_off_by = ""  # the reason logged last; each reason is logged once until the Replica is current again

    def stop(self) -> None:
        """Make `run` end in order, soon."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve the local facts, then keep them in step until `stop`. Ends with the facts file closed in order."""
        self._open()
        announcing: asyncio.Task[None] | None = None
        try:
            await self._upstream.first_attempt()
            while not self._stopping.is_set():
                try:
                    await self._heartbeat.take()
                    announcing = announcing or self._start_heartbeat()
                    await self._follow(await self._open_or_reload())
                except _Stopping:
                    break
                except StoreUnavailable as fault:
                    if self._reload_reason is None:
                        self._heartbeat.in_step()  # Redis is missing, not this node
                    await self._stay_cut_off("redis-away", str(fault))
                except ReplicaFull as fault:
                    await self._stay_cut_off("no-room", str(fault))
                except (ChangelogBroken, ChangeUnreadable) as fault:
                    self._must_reload(getattr(fault, "reason", "unreadable"), str(fault))
                    await self._pause()
                except ReplicaForeign as fault:
                    await self.compaction.aclose()
                    self._mark_corrupt(str(fault))
        finally:
            await self._end(announcing)

    # Starting and ending

    def _open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._status_page = StatusPage(self._directory / BOARD_FILE, write=True)
        self._used_generation = self._status_page.last_generation
        self._upkeep = Upkeep(self._directory, self._status_page)
        try:
            self.file = self._upkeep.opened(self._map_bytes)
            if self._status_page.is_new:  # readers may map the removed page: only another facts file moves them
                self._reload_reason = "no-board"
        except ReplicaMissing:
            self._reload_reason = "missing"
        except ReplicaForeign as fault:
            self._mark_corrupt(str(fault))
        files.delete_leftovers(self._directory, self.file.path if self.file else None)
        self._publish_state(State.CATCHING_UP if self.file else State.LOADING)
        if self.file is None:
            self._status_page.put(fresh_at_ms=0)
        elif files.rebuild_is_requested(self._directory):
            self._must_reload("asked", "a fresh snapshot was requested")
        self.opened.set()

    def _mark_corrupt(self, problem: str) -> None:
        """Serve no facts rather than untrustworthy ones, and load them again."""
        _log.warning("the Replica is rebuilt from Redis", reason="foreign", problem=problem)
        files.forget_current(self._directory)
        if self.file is not None:
            # Its readers continue until the next one exists; they report its facts as of unknown age.
            self._damages += 1
            self._status_page.put(fresh_at_ms=0, ready=0, damages=self._damages)
            self._replaced.drop(self.file)
            self.file = None
            self._target.clear()
        self._reload_reason = "foreign"

    def _start_heartbeat(self) -> asyncio.Task[None]:
        announcing = asyncio.create_task(self._heartbeat.run())
        announcing.add_done_callback(lambda _: self.stop())  # a node that can't announce must not continue unnoticed
        return announcing

    async def _end(self, announcing: asyncio.Task[None] | None) -> None:
        if announcing is not None:
            announcing.cancel()
            await asyncio.wait([announcing])
        await self._heartbeat.resign()
        await self.compaction.aclose()
        await self._upkeep.aclose()
        self._replaced.close()
        if self.file is not None:
            self._close_clean(self.file)
        self._publish_state(State.STOPPED)
        self._status_page.close()
        if announcing is not None and not announcing.cancelled():
            announcing.result()

    def _close_clean(self, file: FactsFile) -> None:
        try:
            file.close_clean()
        except (ReplicaFull, ReplicaForeign) as fault:
            _log.warning("the Replica was not closed in order; a reboot will rebuild it", problem=str(fault))
            file.close()

    # From local facts to facts that can be followed

    async def _open_or_reload(self) -> FactsFile:
        """Return the facts file in use after proof that the Changelog continues it, else a fresh one."""
        await self._upstream.source.prepare()
        if self.file is not None and self._reload_reason is None:
            read = self._heartbeat.begin_read()
            heads = await verify_history(self._upstream.source, self.file.positions)
            self._publish_state(State.CATCHING_UP)
            self._accept_heads(self.file, read, heads)
            return self.file
        return await self._reload()

    def _must_reload(self, reason: str, problem: str) -> None:
        _log.warning("the Changelog can't be followed; loading a fresh snapshot", reason=reason, problem=problem)
        self._reload_reason = reason

    async def _reload(self) -> FactsFile:
        self._publish_state(State.RELOADING if self.file else State.LOADING)
        if self._before_snapshot is not None:
            await self._before_snapshot()
        await self.compaction.aclose()  # it reads the file that is about to be closed
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = files.next_facts(self._directory, self._used_generation)
        began_ms = monotonic_ms()
        reason = self._reload_reason
        fresh = await load_and_list(
            self._upstream.source, path, self.file, reason, self._map_bytes, self._tick, self._on_loss
        )
        self._reloads += self.file is not None or (self._reload_reason == "foreign" and self._damages > 0)
        self._end_freshness()  # the new facts are fresh once Redis has returned its heads again
        self._swap(fresh)
        files.rebuild_is_done(self._directory)
        files.forget_damage(self._directory)
        _log.info("a fresh snapshot is in use", reason=reason, file=path.name, ms=monotonic_ms() - began_ms)
        self._reload_reason, self._retry_ms = None, FIRST_RETRY_MS
        await self._check_heads(fresh, idle=False)
        return fresh

    def _swap(self, fresh: FactsFile) -> None:
        try:
            files.make_current(fresh.path)
        except ReplicaFull:
            fresh.close()
            files.delete_facts(fresh.path)
            raise
        if self.file is not None:
            self._replaced.add(self.file)
        self.file = fresh
        self._target.clear()
        self._used_generation = generation_of(fresh.path.name)
        self._status_page.put(reloads=self._reloads)
        self._status_page.use(self._used_generation, fresh.identity)
        self._replaced.send_readers_on(fresh.path.name)
        self._heartbeat.queue(self._applied())

    # Following

    async def _follow(self, file: FactsFile) -> None:
        while not self._stopping.is_set() and self._reload_reason is None:
            changes = await self._upstream.source.read(file.positions, STAMP_EVERY_MS)
            for portion in slices(changes):
                self._heartbeat.queue(file.apply(portion, wall_ms()))
                self._applied_changes += sum(map(len, portion.values()))
                if not self._target.is_reached:
                    self._stamp_if_reached(file)
                await asyncio.sleep(0)  # lets the heartbeat announce and renew before the next portion
            if not changes or (self._target.is_reached and monotonic_ms() - self._target.asked_at_ms >= STAMP_EVERY_MS):
                await self._check_available_heads(file, idle=not changes)
            if self._target.is_stuck(monotonic_ms(), idle=not changes):
                self._recover_stuck()
            if self._heartbeat.in_step():
                return
            self._retry_ms = FIRST_RETRY_MS
            self._maintain(file, idle=not changes)
            if changes:
                self.compaction.note_changes()
            if (copy := self.compaction.finished_copy(file)) is not None:
                file = await self._swap_to_copy(copy, file)

    async def _swap_to_copy(self, path: Path, file: FactsFile) -> FactsFile:
        """Continue with a compacted copy once it has the current facts; with the present file if that fails."""
        fresh = await opened_in_step(path, file, self._upstream.source, self._raise_if_stopping, self._map_bytes)
        if fresh is None:
            return file
        pages_before, pages_after = file.pages(), fresh.pages()
        self._swap(fresh)
        _log.info("the Replica was compacted", file=path.name, pages=pages_after, pages_before=pages_before)
        return fresh

    async def _check_available_heads(self, file: FactsFile, *, idle: bool) -> None:
        """As `_check_heads`. While some of several servers are away, the others' Changes are applied, and no fact is fresh."""
        try:
            await self._check_heads(file, idle=idle or self._is_partly_cut_off)
            self._is_partly_cut_off = False
        except StoreUnavailable as fault:
            if not self._upstream.source.is_partly_away:
                raise
            self._is_partly_cut_off = True
            self._target.clear()
            self._note_cut_off("redis-partly-away", str(fault))

    async def _check_heads(self, file: FactsFile, *, idle: bool) -> None:
        """Request Redis's heads, the only basis for calling facts fresh.

        If no Change comes although the heads are ahead, the missing ones may have been trimmed; no read reveals that.
        """
        read = self._heartbeat.begin_read()
        if idle:
            heads = await verify_history(self._upstream.source, file.positions)
        else:
            heads = await self._upstream.source.heads()
            check_heads(file.positions, heads)
        self._accept_heads(file, read, heads)

    def _accept_heads(self, file: FactsFile, read: HeadsRead, heads: list[Position]) -> None:
        self._heartbeat.confirm_server(read)
        self._target.set(read.at_ms, heads if read.is_waited_for else None)
        if read.is_waited_for:
            self._stamp_if_reached(file)
        self._status_page.put(applied=self._applied_changes)

    def _recover_stuck(self) -> None:
        """The heads are not reached: reconnect the first time, load a snapshot the second time."""
        problem = f"the heads of Redis were not reached for {UNREACHED_MS} ms"
        if self._target.times_stuck == 1:
            self._upstream.source.reconnect(problem)
            raise StoreUnavailable(problem)
        self._must_reload("unreached", problem)

    def _stamp_if_reached(self, file: FactsFile) -> None:
        behind = self._target.lag(file.positions)
        self._status_page.put(lag=behind, applied=self._applied_changes)
        if not behind:
            self._target.clear()
            self._status_page.stamp(self._target.asked_at_ms)
            if self._state is not State.CURRENT:
                _log.info("the Replica is current", file=file.path.name)
                self._cut_off_by = ""
                self._status_page.put(ready=1)
                self.ready.set()
            self._publish_state(State.CURRENT)
            self._show_problem("")

    def _maintain(self, file: FactsFile, *, idle: bool) -> None:
        self._replaced.send_readers_on(file.path.name)
        if idle:
            file.purge(PURGED_AT_ONCE)
        if self._reload_reason is None and (reason := self._upkeep.reload_reason(file)):
            self._must_reload(*reason)

    async def _stay_cut_off(self, reason: str, problem: str) -> None:
        self._note_cut_off(reason, problem)
        await self._pause(LAST_RELOAD_RETRY_MS if reason == "no-room" and self._reload_reason else LAST_RETRY_MS)

    def _note_cut_off(self, reason: str, problem: str) -> None:
        if self.file is not None and reason != self._cut_off_by:
            _log.warning("the Replica is cut off; serving the facts as they were", reason=reason, problem=problem)
            self._cut_off_by = reason
        self._publish_state(State.CUT_OFF if self.file else State.LOADING)
        self._show_problem(problem)
        if self._was_ready and self.file is not None:
            self._status_page.put(ready=1)

    async def _pause(self, last_ms: int = LAST_RETRY_MS) -> None:
        """Wait before the next attempt, longer each time. `stop` ends the wait."""
        wait_ms = int(self._retry_ms * random.uniform(0.5, 1.0))
        self._retry_ms = min(last_ms, self._retry_ms * 2)
        for begun_ms in range(0, wait_ms, CHECK_PLACE_EVERY_MS):
            self._run_upkeep()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), min(wait_ms - begun_ms, CHECK_PLACE_EVERY_MS) / 1_000)

    def _run_upkeep(self) -> None:
        """Upkeep while no Changelog is followed. A damaged file is left at once, even before another one exists."""
        if self.file is None or self._stopping.is_set():
            return
        try:
            if (reason := self._upkeep.reload_reason(self.file, is_cut_off=True)) and self._reload_reason is None:
                self._must_reload(*reason)
        except ReplicaForeign as fault:
            self._mark_corrupt(str(fault))
            self._publish_state(State.LOADING)

    # Published state

    def _end_freshness(self) -> None:
        self._target.clear()
        self._status_page.end_freshness(monotonic_ms())

    def _applied(self) -> dict[int, Position]:
        return dict(enumerate(self.file.positions)) if self.file else {}

    def _publish_state(self, state: State) -> None:
        self._state = state
        self._status_page.put(state=state)

    def _tick(self) -> None:
        self._raise_if_stopping()
        self._run_upkeep()

    def _raise_if_stopping(self) -> None:
        if self._stopping.is_set():
            raise _Stopping
