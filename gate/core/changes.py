"""The Change: one fact that happened, in the past tense, as stored in a Partition's Changelog.

A Change states the new fact ("banned until X"), never a difference. Applying it twice, or over facts that were read after it
happened, therefore ends in the same state. This lets a follower load a snapshot while writes continue and then catch up.
Scripts in `store/lua/` write these fields; the follower reads them with `decode_change`.

Stream fields, one letter each because every Change is stored and sent to every node:

    k  kind, one of the words below
    t  when it happened, Unix ms        w  this write's id, 16 hex digits        p  the id of the write before it ("" if first)
    a  App key
    u  the User concerned (a list's owner)
    e  until, ms (a Ban, a Mute, list entries; FOREVER_MS for no end)
    m  list members, packed by `codec.pack_members`
    v  a value: "1"/"0" for the whitelist switch, "1"/"0" registered, a moment for tokens-revoked, JSON for app-set;
       for user-erased the facts that remain, see `left_by_erasure`

`p` makes the Changelog a chain. A follower that holds write id X at seq n and reads an entry n+1 whose `p` is not X knows that
Redis went back in time and was then written again. Contiguous numbers alone cannot show this. `check_follows` and `check_heads`
are the checks of every follower, the replicator and the session revoker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from gate.core.codec import unpack_members
from gate.core.model import UserFacts
from gate.core.revision import Position
from gate.errors import ChangelogBroken, GateError

Kind = Literal[
    "app-set",
    "app-removed",
    "user-registered",
    "user-deactivated",
    "user-reactivated",
    "user-erased",
    "ban-imposed",
    "ban-lifted",
    "mute-imposed",
    "mute-lifted",
    "tokens-revoked",
    "blocked",
    "unblocked",
    "admitted",
    "unadmitted",
    "whitelist-switched",
]

KINDS: frozenset[str] = frozenset(get_args(Kind))

_KIND_OF = {kind.encode(): kind for kind in KINDS}
# Maximum of puts per commit, roughly: some 10 ms without other work. LMDB keeps the pages that the last commits replaced:
# commits of 5,000 scattered entries filled a quarter of a file of 600,000 with them.
MAX_SLICE_WEIGHT = 2_000

# Every script writes these first, in this order.
_FIRST_FIELDS = [b"k", b"t", b"w", b"p", b"a"]


def left_by_erasure(value: bytes) -> UserFacts:
    """Return the facts that a User has after user-erased: b"d" deactivated, b"dr" deactivated and registered, b"" no facts.

    An id that is out of use stays known to the App: its verdict is `sender-deactivated`, not `sender-unknown`.
    """
    return UserFacts(deactivated=value.startswith(b"d"), registered=value == b"dr")


class ChangeUnreadable(GateError):
    """An entry of the Changelog is not a Change that this version can read. The follower must load a snapshot."""


class Change(NamedTuple):
    """One Change, decoded. Fields that its kind does not use are empty."""

    seq: int
    kind: str
    at_ms: int
    write_id: str
    previous_write_id: str
    app: str
    user: bytes
    until_ms: int
    members: tuple[bytes, ...]
    value: bytes


def decode_change(seq: int, fields: Mapping[bytes, bytes]) -> Change:
    """Decode one stream entry. Raises `ChangeUnreadable`, which names the problem."""
    try:
        kind = fields[b"k"].decode()
        if kind not in KINDS:
            raise ChangeUnreadable(f"Change {seq} has an unknown kind, {kind[:40]!r}")
        return Change(
            seq,
            kind,
            int(fields[b"t"]),
            fields[b"w"].decode(),
            fields[b"p"].decode(),
            fields[b"a"].decode(),
            fields.get(b"u", b""),
            int(fields.get(b"e", b"0")),
            tuple(unpack_members(fields.get(b"m", b""))),
            fields.get(b"v", b""),
        )
    except (KeyError, ValueError) as fault:
        raise ChangeUnreadable(f"Change {seq} is malformed: {fault!r}") from None


def decode_entry(seq: int, flat: Sequence[bytes]) -> Change:
    """Decode one stream entry from a flat list of names and values, as Redis sends it.

    It takes 2 µs where `decode_change` takes 4, because it builds no mapping. Used by a node that catches up. Entries whose
    fields are in another order go through `decode_change`.
    """
    # The five mandatory names are at even indexes 0 to 8; one list comparison checks all of them.
    kind = _KIND_OF.get(flat[1]) if flat[0:9:2] == _FIRST_FIELDS and not len(flat) % 2 else None
    if kind is None:
        return decode_change(seq, dict(zip(flat[::2], flat[1::2], strict=False)))
    user = members = value = b""
    until = b"0"
    # Optional fields follow; a chain of comparisons is cheaper than a dict for at most four of them.
    for at in range(10, len(flat), 2):
        name = flat[at]
        if name == b"u":
            user = flat[at + 1]
        elif name == b"e":
            until = flat[at + 1]
        elif name == b"m":
            members = flat[at + 1]
        elif name == b"v":
            value = flat[at + 1]
    try:
        return Change(
            seq,
            kind,
            int(flat[3]),
            flat[5].decode(),
            flat[7].decode(),
            flat[9].decode(),
            user,
            int(until),
            tuple(unpack_members(members)) if members else (),
            value,
        )
    except ValueError as fault:
        raise ChangeUnreadable(f"Change {seq} is malformed: {fault!r}") from None


def check_follows(position: Position, changes: Sequence[Change]) -> Position:
    """The Position after `changes`, or `ChangelogBroken` if one is not directly after the previous one."""
    epoch, seq, tip = position
    for change in changes:
        if change.seq != seq + 1:
            raise ChangelogBroken("hole", f"after seq {seq} came {change.seq}")
        if change.previous_write_id != tip:
            raise ChangelogBroken("forked", f"seq {change.seq} follows another write than the one applied before it")
        seq, tip = change.seq, change.write_id
    return Position(epoch, seq, tip)


def check_heads(applied: Sequence[Position], heads: Sequence[Position]) -> None:
    """`ChangelogBroken` if these heads can't be the future of what is applied, as far as heads alone show."""
    if len(applied) != len(heads):
        raise ChangelogBroken("partitions", f"there are {len(heads)}, the Replica was loaded from {len(applied)}")
    for partition, (ours, head) in enumerate(zip(applied, heads, strict=True)):
        if ours.epoch != head.epoch:
            raise ChangelogBroken(
                "epoch", f"Partition {partition} has {head.epoch or 'none'}, not {ours.epoch or 'none'}"
            )
        # Redis lost writes that are applied here.
        if ours.seq > head.seq:
            raise ChangelogBroken("behind", f"Partition {partition} ends at {head.seq}, {ours.seq} is applied here")
        # The same number, but another write.
        if ours.seq == head.seq and ours.tip != head.tip:
            raise ChangelogBroken(
                "forked", f"Partition {partition} has another write at {ours.seq} than the one applied"
            )


def slices(changes: Mapping[int, Sequence[Change]]) -> Iterator[dict[int, list[Change]]]:
    """Split the Changes of one read into portions for one commit each; usually one. Partition 0, the Apps, comes first."""
    portion: dict[int, list[Change]] = {}
    weight = 0
    # Sorted: Partition 0 with the Apps comes first.
    for partition in sorted(changes):
        for change in changes[partition]:
            portion.setdefault(partition, []).append(change)
            # One Change is one put, and each list member another.
            weight += 1 + len(change.members)
            if weight >= MAX_SLICE_WEIGHT:
                yield portion
                portion, weight = {}, 0
    if portion:
        yield portion
