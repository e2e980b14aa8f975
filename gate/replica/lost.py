"""Facts that a failover lost: the old Replica has them, a snapshot of another history lacks them. Listed before the swap.

A primary that was promoted, or restored from an older file, lacks the latest writes. This node's Replica still has them. Both
facts files are read in parallel in key order, within `LISTED_MS` and `MAX_BYTES`, while the event loop continues:

    DIR/lost/<moment>.<app key>.ndjson   the facts of an App, in the format of `gate import`
    DIR/lost/<moment>.json               a `Loss`: counts, kinds, what must be restored by hand, and whether it is complete

Limits: a fact that was lifted in the new history looks like a lost one. A lost lifting leaves nothing here, so such facts are
counted as `returned`, together with new ones. A Replica has no reasons and actors of Bans, no names and portraits. Past the
bounds nothing is compared or written, and `is_complete` is false.

Called by the replicator; `losses` by `gate replica lost`.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO

import lmdb
import msgspec
import structlog

from gate.clock import monotonic_ms, wall_ms
from gate.core.ids import shown
from gate.core.model import FOREVER_MS, NO_FACTS, ListKind, UserFacts
from gate.errors import ReplicaError
from gate.replica.files import delete_facts
from gate.replica.layout import unpack_until
from gate.replica.loader import Tick, load_snapshot
from gate.replica.ports import ChangeSource
from gate.replica.verify import Compared, apps_in, facts_of_both
from gate.replica.writer import FactsFile

FOLDER = "lost"
# Reasons for a broken Changelog in which Redis may lack what is applied here.
OTHER_HISTORY = frozenset({"epoch", "behind", "forked"})
# The old facts are served, stale, for this much longer: enough to compare some millions of facts.
LISTED_MS = 10_000
# Of all lines of one loss: an emptied Redis lost everything, and the disk should not hold it a third time.
MAX_BYTES = 64 << 20
MAX_BY_HAND = 1_000
COMPARED_AT_ONCE = 2_000
MEMBERS_A_LINE = 1_000
# A full disk; damaged old facts.
_NOT_LISTED = (OSError, ReplicaError, lmdb.Error, ValueError, IndexError, struct.error)
_LIST_WORDS = {ListKind.BLACKLIST: "blacklist", ListKind.WHITELIST: "whitelist"}

_log = structlog.get_logger()


class Loss(msgspec.Struct, kw_only=True):
    """One loss, as stored. `kinds` and `apps` count facts, each list entry as one; `files` has each App's file by its key."""

    at_ms: int
    reason: str
    compared: int = 0
    is_complete: bool = True
    lost: int = 0
    kinds: dict[str, int] = {}
    apps: dict[str, int] = {}
    files: dict[str, str] = {}
    by_hand: list[str] = []
    by_hand_count: int = 0
    returned: int = 0


OnLoss = Callable[[Loss], Awaitable[None]]


async def load_and_list(
    source: ChangeSource,
    path: Path,
    old: FactsFile | None,
    reason: str | None,
    map_bytes: int,
    tick: Tick,
    on_loss: OnLoss | None = None,
) -> FactsFile:
    """As `load_snapshot`. If Redis has another history than `old`, the facts that it lacks are listed. Raises the same."""
    fresh = await load_snapshot(source, path, map_bytes=map_bytes, tick=tick)
    if old is None or reason not in OTHER_HISTORY:
        return fresh
    try:
        loss = await list_lost(path.parent / FOLDER, old, fresh, reason, tick)
        if on_loss is not None and loss.lost:
            await on_loss(loss)
    except _NOT_LISTED as fault:  # fresh facts are more important than the list
        _log.error("the facts that Redis lost could not be listed", problem=str(fault))
    except BaseException:
        fresh.close()
        delete_facts(path)
        raise
    else:
        log = _log.warning if loss.lost or loss.by_hand_count or not loss.is_complete else _log.info
        log("facts that Redis lost were listed", reason=reason, lost=loss.lost, kinds=loss.kinds, by_hand=loss.by_hand_count,
            returned=loss.returned, is_complete=loss.is_complete, files=sorted(loss.files.values()))  # fmt: skip
    return fresh


async def list_lost(folder: Path, old: FactsFile, fresh: FactsFile, reason: str, tick: Tick) -> Loss:
    """Compare, and write the facts that `fresh` lacks into `folder`, if any. Raises `OSError`."""
    now_ms, ends_ms = wall_ms(), monotonic_ms() + LISTED_MS
    loss = Loss(at_ms=now_ms, reason=reason, kinds={}, apps={}, files={}, by_hand=[])
    written = 0
    with old.read() as ours, fresh.read() as theirs:
        for app in sorted(apps_in(ours)):
            lines = _Lines(folder / f"{now_ms}.{app}.ndjson", loss, MAX_BYTES - written)
            try:
                for fact in facts_of_both(ours, theirs, app):
                    loss.compared += 1
                    if loss.compared % COMPARED_AT_ONCE == 0:
                        await asyncio.sleep(0)  # lets the heartbeat renew the lease
                        tick()
                        if monotonic_ms() > ends_ms:
                            loss.is_complete = False
                            break
                    if fact.in_replica != fact.in_redis:
                        lines.take(app, fact, now_ms)
            finally:
                written += lines.close()
            if many := loss.lost - sum(loss.apps.values()):
                loss.apps[app] = many
            if lines.is_used:
                loss.files[app] = lines.path.name
            if not loss.is_complete:
                break
    if loss.lost or loss.by_hand_count or not loss.is_complete:
        write_file(folder / f"{now_ms}.json", msgspec.json.format(msgspec.json.encode(loss), indent=2) + b"\n")
    return loss


def losses(directory: Path) -> list[Loss]:
    """Return all losses listed in a Replica's directory, oldest first. Raises `ReplicaError` for an unreadable one."""
    found = []
    for path in sorted((directory / FOLDER).glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Loss))
        except (OSError, msgspec.DecodeError) as fault:
            raise ReplicaError(f"{path} can't be read: {fault}") from None
    return found


class _Lines:
    """Writes the lines of one App. The file is created with the first line."""

    def __init__(self, path: Path, loss: Loss, room: int) -> None:
        self.path = path
        self._loss = loss
        self._room = room
        self._written = 0
        self._file: IO[bytes] | None = None
        self._list: tuple[bytes, ListKind, int] | None = None
        self._members: list[bytes] = []

    @property
    def is_used(self) -> bool:
        """Whether the file exists."""
        return self._file is not None

    def take(self, app: str, fact: Compared, now_ms: int) -> None:
        """Add one fact that differs."""
        if fact.kind is not None:
            self._take_entry(fact, now_ms)
        elif not fact.owner:
            self._take_settings(app, fact)
        else:
            ours = fact.in_replica if isinstance(fact.in_replica, UserFacts) else NO_FACTS
            theirs = fact.in_redis if isinstance(fact.in_redis, UserFacts) else NO_FACTS
            self._take_user(app, fact.owner, ours, theirs, now_ms)

    def close(self) -> int:
        """Write the pending list line. Returns the number of bytes written."""
        self._end_list()
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return self._written

    def _take_entry(self, fact: Compared, now_ms: int) -> None:
        assert fact.kind is not None
        if not isinstance(fact.in_replica, bytes):
            self._loss.returned += 1
            return
        until_ms = unpack_until(fact.in_replica)
        # Ended entries, and those that Redis has for at least as long, are not lost.
        if until_ms <= now_ms or (isinstance(fact.in_redis, bytes) and unpack_until(fact.in_redis) >= until_ms):
            return
        these = fact.owner, fact.kind, until_ms
        # Entries arrive in key order, so those of one list and end are grouped into one line.
        if these != self._list or len(self._members) == MEMBERS_A_LINE:
            self._end_list()
            self._list = these
        self._members.append(fact.member)

    def _end_list(self) -> None:
        if self._list is None or not self._members:
            return
        owner, kind, until_ms = self._list
        line: dict[str, object] = {"owner": _json_id(owner), "members": [_json_id(each) for each in self._members]}
        if until_ms < FOREVER_MS:
            line["until"] = until_ms
        self._put(_LIST_WORDS[kind], line, len(self._members))
        self._list, self._members = None, []

    def _take_settings(self, app: str, fact: Compared) -> None:
        if fact.member:
            return  # the settings for checks: the record itself was compared already
        if fact.in_replica is None:
            self._loss.returned += 1
        else:
            self._by_hand(f"App {app}: {'it is missing' if fact.in_redis is None else 'its settings differ'}")

    def _take_user(self, app: str, user: bytes, ours: UserFacts, theirs: UserFacts, now_ms: int) -> None:
        # An import must not register a deactivated User again.
        if ours.registered and not theirs.registered and not ours.deactivated:
            self._put("user", {"user": _json_id(user)})
        for kind, until_ms, known_ms in (
            ("ban", ours.banned_until_ms, theirs.banned_until_ms),
            ("mute", ours.muted_until_ms, theirs.muted_until_ms),
        ):
            if until_ms > now_ms and until_ms > known_ms:
                end = {"until": until_ms} if until_ms < FOREVER_MS else {"permanent": True}
                self._put(kind, {"user": _json_id(user), **end})
            self._loss.returned += known_ms > now_ms and known_ms > until_ms
        if ours.whitelist_on and not theirs.whitelist_on:
            self._put("whitelist-switch", {"user": _json_id(user), "on": True})
        if ours.deactivated and not theirs.deactivated:
            self._by_hand(f"App {app}: the deactivation of {shown(user)}")
        # Imports can't revoke Tokens, so an operator must.
        if ours.tokens_valid_from_ms > theirs.tokens_valid_from_ms:
            self._by_hand(f"App {app}: the revocation of Tokens of {shown(user)}")

    def _by_hand(self, what: str) -> None:
        self._loss.by_hand_count += 1
        if len(self._loss.by_hand) < MAX_BY_HAND:
            self._loss.by_hand.append(what)

    def _put(self, kind: str, fields: dict[str, object], many: int = 1) -> None:
        self._loss.lost += many
        self._loss.kinds[kind] = self._loss.kinds.get(kind, 0) + many
        line = msgspec.json.encode({"kind": kind, **fields}) + b"\n"
        if self._written + len(line) > self._room:
            self._loss.is_complete = False  # counted nevertheless
            return
        if self._file is None:
            # os.open sets the mode at creation; there is no moment at which others could read the file.
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self._file = open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")  # noqa: SIM115
        self._file.write(line)
        self._written += len(line)


def _json_id(raw: bytes) -> object:
    """An id in the form that `gate import` reads."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(raw).decode()}


def write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_suffix(".draft")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    # A rename, so that a reader never sees half a file.
    draft.replace(path)
