"""What the fields of an imported line mean: the table of kinds, the checks that no line passes unread, and the Batch they fill.

    kind              fields
    ban, mute         user; one of until, seconds, minutes, permanent; reason, actor
    blacklist         owner; member or members; until, seconds or minutes if the entries end
    whitelist         the same
    whitelist-switch  user; on
    user              user (registers it); name, portrait; registered, the moment since when (default: now)

Which kinds there are, and with which fields, is in `gate.store.operations`, the table that `POST /v1/bulk` has as well.
An unknown field is an error, not noise: a misspelt `until` would block for ever. A fact whose end has passed is
counted and left out, so that an old export can be imported. Ids are text, or `{"b64": …}` where they are no UTF-8. Pure.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from gate.cli.time_format import one_end, parse_moment
from gate.core.ids import MAX_ID_BYTES
from gate.core.model import FOREVER_MS, ListKind
from gate.core.reasons import MAX_IMPORTED_ACTOR_CHARS, MAX_REASON_CHARS, audit_text
from gate.core.registration import profile_mistakes
from gate.errors import InvalidInput
from gate.store.operations import IMPORTED, Operation

Fields = Mapping[str, object]
ListKey = tuple[ListKind, bytes]

_ENDS = frozenset(("until", "seconds", "minutes", "permanent"))

# Of a CSV header, in any order.
COLUMNS = (
    "kind", "user", "owner", "member", "until", "seconds", "minutes", "permanent", "on", "reason", "actor",
    "name", "portrait", "registered",
)  # fmt: skip

# The columns of a CSV without a header, by kind; trailing ones may be left out.
POSITIONAL: dict[str, tuple[str, ...]] = {
    kind: (*row.subject, *(() if row.ends == "never" else ("until",)), *row.line_fields)
    for kind, row in IMPORTED.items()
}

# The keys of `IMPORTED`, which the command line offers as choices.
Kind = Literal["ban", "mute", "blacklist", "whitelist", "whitelist-switch", "user"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_TRUE = frozenset(("true", "1", "yes", "on"))
_FALSE = frozenset(("false", "0", "no", "off"))


class Imposition(NamedTuple):
    """A Ban or a Mute, but for whose it is."""

    until_ms: int
    why: str
    by: str


class Newcomer(NamedTuple):
    """A User to register, but for who it is; `line` is where. None: since now, or what there is."""

    line: int
    at_ms: int | None = None
    name: str | None = None
    portrait: str | None = None


@dataclass(slots=True)
class Batch:
    """Some facts, by kind, so that each is written once and an owner's entries travel together.

    The last line about a thing wins, as it would if the lines were written one by one; dictionaries keep their order. `lines`
    is where each list first appeared, so that a list that is refused as a whole (its ceiling) can be reported by line as well.
    `entries` counts what was taken in, repeats included.
    """

    bans: dict[bytes, Imposition] = field(default_factory=dict)
    mutes: dict[bytes, Imposition] = field(default_factory=dict)
    lists: dict[ListKey, dict[bytes, int]] = field(default_factory=dict)
    switches: dict[bytes, bool] = field(default_factory=dict)
    registered: dict[bytes, Newcomer] = field(default_factory=dict)
    lines: dict[ListKey, int] = field(default_factory=dict)
    entries: int = 0
    source: str = ""

    def put(self, kind: ListKind, owner: bytes, members: Iterable[bytes], until_ms: int, line: int) -> None:
        """List entries; an entry that is here already takes the new end."""
        key = (kind, owner)
        # Not `setdefault`: that makes a dictionary for each line, in the hottest loop of an import.
        known = self.lists.get(key)
        if known is None:
            known = self.lists[key] = {}
            self.lines[key] = line
        before = len(known)
        for member in members:
            known[member] = until_ms
        # Repeats count once: what is reported is what the store was asked to hold.
        self.entries += len(known) - before

    def put_one(self, kind: ListKind, owner: bytes, member: bytes, line: int) -> None:
        """One list entry without end."""
        known = self.lists.get((kind, owner))
        if known is None:
            known = self.lists[kind, owner] = {}
            self.lines[kind, owner] = line
        if member not in known:
            self.entries += 1
        known[member] = FOREVER_MS


class Taker:
    """Adds the fields of each line to `batch`. Raises `InvalidInput` for an invalid line."""

    def __init__(self, now_ms: int, kind: str | None = None) -> None:
        """`now_ms` is the moment that durations count from; `kind` is that of lines that name none."""
        self.batch = Batch()
        self.ended = 0
        self._now_ms = now_ms
        self._kind = kind
        self._list_kind = IMPORTED[kind].list_kind if kind in IMPORTED else None
        by_operation: dict[str, Callable[[Operation, Fields, int], None]] = {
            "ban": self._take_imposed,
            "mute": self._take_imposed,
            "block": self._take_listed,
            "admit": self._take_listed,
            "whitelist-switch": self._take_switched,
            "register": self._take_registered,
        }
        self._takes = {kind: (by_operation[row.op], row, _known(row)) for kind, row in IMPORTED.items()}

    def take(self, fields: Fields, line: int) -> None:
        """Add one line, or nothing of it if any field is invalid."""
        kind = fields.get("kind", self._kind)
        # JSON may have a list there, which is no key of a dictionary.
        known_kind = self._takes.get(kind) if isinstance(kind, str) else None
        if known_kind is None:
            problem = "is missing" if kind is None else f"is not known: {str(kind)[:40]!r}"
            raise InvalidInput("kind", f"{problem}; must be one of {', '.join(KINDS)}")
        take, row, known = known_kind
        # Before any value is read: a misspelt `until` must not become a Ban without end.
        if not known.issuperset(fields):
            strange = ", ".join(sorted(repr(name[:40]) for name in fields if name not in known))
            raise InvalidInput(f"a {kind} line", f"has fields that it can't have: {strange}")
        take(row, fields, line)

    def take_pair(self, pair: tuple[str, str], line: int) -> None:
        """Add an owner and a member with the default kind: a quarter of the time of `take`."""
        owner, member = pair
        if self._list_kind is None:
            self.take({"owner": owner, "member": member}, line)
            return
        owner_id = owner.encode("utf-8", "surrogateescape")
        member_id = member.encode("utf-8", "surrogateescape")
        # Checked in one line, worded by the slow path: wrong ids are rare among millions.
        if not (0 < len(owner_id) <= MAX_ID_BYTES and 0 < len(member_id) <= MAX_ID_BYTES):
            _id_of(owner, "owner")
            _id_of(member, "member")
        self.batch.put_one(self._list_kind, owner_id, member_id, line)

    def cut(self) -> Batch:
        """The Batch so far; the next line begins another."""
        batch, self.batch = self.batch, Batch()
        return batch

    def _take_imposed(self, row: Operation, fields: Fields, line: int) -> None:
        user = _id(fields, "user")
        until_ms = self._end(fields, required=True)
        # Read before the end is looked at: an old line must still be a right line.
        imposition = Imposition(until_ms, _text(fields, "reason"), _text(fields, "actor", MAX_IMPORTED_ACTOR_CHARS))
        if until_ms <= self._now_ms:
            self.ended += 1
            return
        (self.batch.bans if row.op == "ban" else self.batch.mutes)[user] = imposition
        self.batch.entries += 1

    def _take_listed(self, row: Operation, fields: Fields, line: int) -> None:
        owner = _id(fields, "owner")
        members = _members(fields)
        # Most lines are owner and member alone: a kind given by the option leaves two fields.
        until_ms = self._end(fields, required=False) if len(fields) > 2 else FOREVER_MS
        if until_ms <= self._now_ms:
            self.ended += len(members)
            return
        assert row.list_kind is not None
        self.batch.put(row.list_kind, owner, members, until_ms, line)

    def _take_switched(self, row: Operation, fields: Fields, line: int) -> None:
        self.batch.switches[_id(fields, "user")] = _flag(fields, "on")
        self.batch.entries += 1

    def _take_registered(self, row: Operation, fields: Fields, line: int) -> None:
        user = _id(fields, "user")
        # The common line registers since now, without a name.
        newcomer = Newcomer(line)
        if len(fields) > 2 or "kind" not in fields:
            newcomer = Newcomer(line, self._registered_at(fields), *_profile(fields))
        self.batch.registered[user] = newcomer
        self.batch.entries += 1

    def _registered_at(self, fields: Fields) -> int | None:
        if "registered" not in fields:
            return None
        at_ms = _moment(fields, "registered")
        if at_ms > self._now_ms:
            raise InvalidInput("registered", f"must not be later than now, got {at_ms} ms")
        return at_ms

    def _end(self, fields: Fields, *, required: bool) -> int:
        if not required and _ENDS.isdisjoint(fields):
            return FOREVER_MS
        until = _moment_text(fields, "until")
        return one_end(
            self._now_ms,
            seconds=_whole(fields, "seconds"),
            minutes=_whole(fields, "minutes"),
            until=until,
            permanent="permanent" in fields and _flag(fields, "permanent"),
            required=required,
        )


def _known(row: Operation) -> frozenset[str]:
    """The fields that a line of the operation may have."""
    members = () if row.list_kind is None else ("members",)
    ends = () if row.ends == "never" else _ENDS
    return frozenset(("kind", *row.subject, *members, *ends, *row.line_fields))


def _id(fields: Fields, name: str) -> bytes:
    if name not in fields:
        raise InvalidInput(name, "is missing")
    return _id_of(fields[name], name)


def _id_of(value: object, name: str) -> bytes:
    if type(value) is str:
        # A cell of a CSV carries bytes that are no UTF-8 as surrogates; JSON can't hold any.
        raw = value.encode("utf-8", "surrogateescape")
    elif isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        raw = _unbase64(value["b64"], name)
    else:
        raise InvalidInput(name, 'must be text, or {"b64": "…"} for bytes that are no UTF-8')
    if not 1 <= len(raw) <= MAX_ID_BYTES:
        raise InvalidInput(name, f"must be 1 to {MAX_ID_BYTES} bytes, {len(raw)} were given")
    return raw


def _unbase64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(name, "holds a b64 that is no base64") from None


def _members(fields: Fields) -> list[bytes]:
    # A CSV has one member a line, NDJSON often a list.
    if "member" in fields:
        if "members" in fields:
            raise InvalidInput("members", "say member or members, not both")
        return [_id_of(fields["member"], "member")]
    members = fields.get("members")
    if not isinstance(members, list) or not members:
        raise InvalidInput("member", "is missing" if members is None else "members must be a list of at least one id")
    return [_id_of(member, "members") for member in members]


def _text(fields: Fields, name: str, most: int = MAX_REASON_CHARS) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise InvalidInput(name, f"must be text of at most {most} characters")
    return audit_text(value, name, most)


def _profile(fields: Fields) -> tuple[str | None, str | None]:
    name, portrait = fields.get("name"), fields.get("portrait")
    for member, value in (("name", name), ("portrait", portrait)):
        if value is not None and not isinstance(value, str):
            raise InvalidInput(member, "must be text")
    assert isinstance(name, str | None) and isinstance(portrait, str | None)
    for member, problem in profile_mistakes(name, portrait):
        raise InvalidInput(member, problem)
    return name, portrait


def _moment(fields: Fields, name: str) -> int:
    text = _moment_text(fields, name)
    return parse_moment(text or "", name)


def _moment_text(fields: Fields, name: str) -> str | None:
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(name, "must be Unix milliseconds or a moment as 2030-01-31T18:00:00Z")
    return value


def _whole(fields: Fields, name: str) -> int | None:
    value = fields.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        return int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise InvalidInput(name, "must be a whole number")


def _flag(fields: Fields, name: str) -> bool:
    value = fields.get(name)
    if isinstance(value, bool):
        return value
    word = str(value).lower() if isinstance(value, str | int) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise InvalidInput(name, "is missing" if value is None else "must be true or false")
