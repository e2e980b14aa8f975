"""A naive follower: it reads Changelogs, requires contiguous chains, and folds Changes or Parts into facts.

It is the oracle of the store's tests: the sum of the Changes, the snapshot, and the intended effect of the operations must be
the same facts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from gate.core.changes import Change
from gate.core.codec import unpack_app
from gate.core.model import FOREVER_MS, AppFacts, ListKind, UserFacts
from gate.core.revision import Position, Revision
from gate.core.snapshot import AppPart, ListPart, Part, UserPart
from gate.store.changelog import Changelog

_LIST_OF = {
    "blocked": ListKind.BLACKLIST,
    "unblocked": ListKind.BLACKLIST,
    "admitted": ListKind.WHITELIST,
    "unadmitted": ListKind.WHITELIST,
}


@dataclass
class Facts:
    """Facts as plain dictionaries, without the empty ones, so that equal facts are equal objects."""

    apps: dict[str, AppFacts] = field(default_factory=dict)
    users: dict[tuple[str, bytes], UserFacts] = field(default_factory=dict)
    lists: dict[tuple[str, ListKind, bytes], dict[bytes, int]] = field(default_factory=dict)
    erasing: set[tuple[str, bytes]] = field(default_factory=set, compare=False)
    valid_from_ms: dict[tuple[str, bytes], int] = field(default_factory=dict, compare=False)
    """Of Tokens of Users whose facts were erased; a reactivation uses them."""

    def set_user(self, app: str, user: bytes, **changed: object) -> None:
        facts = msgspec.structs.replace(self.users.get((app, user), UserFacts()), **changed)
        if facts == UserFacts():
            self.users.pop((app, user), None)
        else:
            self.users[app, user] = facts

    def put_entries(self, app: str, kind: ListKind, owner: bytes, members: dict[bytes, int]) -> None:
        if members:
            self.lists.setdefault((app, kind, owner), {}).update(members)

    def drop_entries(self, app: str, kind: ListKind, owner: bytes, members: list[bytes]) -> None:
        entries = self.lists.get((app, kind, owner), {})
        for member in members:
            entries.pop(member, None)
        if not entries:
            self.lists.pop((app, kind, owner), None)

    def erase(self, app: str, user: bytes, left: bytes) -> None:
        gone = self.users.pop((app, user), UserFacts())
        self.valid_from_ms[app, user] = max(gone.tokens_valid_from_ms, self.valid_from_ms.get((app, user), 0))
        self.lists = {key: own for key, own in self.lists.items() if (key[0], key[2]) != (app, user)}
        self.set_user(app, user, deactivated=b"d" in left, registered=b"r" in left)

    def apply(self, change: Change) -> None:
        match change.kind:
            case "app-set":
                self.apps[change.app] = unpack_app(change.value)
            case "app-removed":
                self.apps.pop(change.app, None)
                self.users = {key: facts for key, facts in self.users.items() if key[0] != change.app}
                self.lists = {key: entries for key, entries in self.lists.items() if key[0] != change.app}
            case "ban-imposed" | "ban-lifted":
                self.set_user(change.app, change.user, banned_until_ms=change.until_ms)
            case "mute-imposed" | "mute-lifted":
                self.set_user(change.app, change.user, muted_until_ms=change.until_ms)
            case "whitelist-switched":
                self.set_user(change.app, change.user, whitelist_on=change.value == b"1")
            case "user-registered":
                self.set_user(change.app, change.user, registered=change.value == b"1")
            case "user-deactivated" | "user-reactivated":
                self.set_user(change.app, change.user, deactivated=change.kind == "user-deactivated")
            case "user-erased":
                self.erase(change.app, change.user, left=change.value)
            case "tokens-revoked":
                self.set_user(change.app, change.user, tokens_valid_from_ms=int(change.value))
            case "blocked" | "admitted":
                entries = dict.fromkeys(change.members, change.until_ms)
                self.put_entries(change.app, _LIST_OF[change.kind], change.user, entries)
            case "unblocked" | "unadmitted":
                self.drop_entries(change.app, _LIST_OF[change.kind], change.user, list(change.members))
            case other:
                raise AssertionError(f"no script appends {other}")

    def load(self, part: Part) -> None:
        match part:
            case AppPart(facts):
                self.apps[facts.key] = facts
            case UserPart(app, user, facts):
                assert facts != UserFacts(), "an empty hash can't exist"
                self.users[app, user] = facts
            case ListPart(app, kind, owner, members, until_ms):
                entries = self.lists.setdefault((app, kind, owner), {})
                for member in members:
                    # The same entry may also come without its end; the end counts.
                    entries[member] = min(until_ms, entries.get(member, FOREVER_MS))


class Follower:
    """Reads every Change since it started, each Partition's as a chain without holes."""

    def __init__(self, changelog: Changelog, positions: list[Position]) -> None:
        self._changelog = changelog
        self.positions = positions
        self.facts = Facts()

    @classmethod
    async def start(cls, changelog: Changelog) -> Follower:
        await changelog.prepare()
        return cls(changelog, await changelog.heads())

    async def read_new(self) -> list[Change]:
        """Return all Changes since the last call, by Partition, checked and applied; ends at the heads."""
        heads = await self._changelog.heads()
        changes: list[Change] = []
        while any(head.seq > at.seq for head, at in zip(heads, self.positions, strict=True)):
            for partition, some in sorted((await self._changelog.read(self.positions, 10)).items()):
                for change in some:
                    self._follow(partition, change)
                changes += some
        assert self.positions == heads
        return changes

    async def read_one(self) -> Change:
        """Return the one Change since the last call."""
        (change,) = await self.read_new()
        return change

    def stands_at(self, revisions: tuple[Revision, ...]) -> bool:
        """Return whether exactly these heads were read."""
        return all(self.positions[p].epoch == epoch and self.positions[p].seq == seq for p, epoch, seq in revisions)

    def _follow(self, partition: int, change: Change) -> None:
        at = self.positions[partition]
        assert change.seq == at.seq + 1, f"a hole in Partition {partition}"
        assert change.previous_write_id == at.tip, f"a broken chain in Partition {partition}"
        assert len(change.write_id) == 16 and change.write_id != at.tip
        self.positions[partition] = Position(at.epoch, change.seq, change.write_id)
        self.facts.apply(change)


async def snapshot_facts(changelog: Changelog) -> Facts:
    """A snapshot, folded."""
    facts = Facts()
    async for batch in changelog.snapshot():
        for part in batch:
            facts.load(part)
    return facts
