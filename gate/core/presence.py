"""The parts of Presence: Sessions, Gateways' leases, and the feed of changes.

    Session id      11 random characters, a dot, the User id in base64url. The User can be read from it, so that a close needs
                    no index. Whether the caller holds the Session is checked at the close
    platform        the kind of device, as the client names it: "iOS", "Android", "Websocket", ...
    place           <epoch>-<seq>-<moment, µs, hex>: a position in the feed of one slice. `seq` is contiguous. The moment
                    distinguishes two entries with the same number, which occur after Redis went back to an older file
    cursor          a place in each slice of an App's feed, joined by dots. It has no place in slices that did not exist yet
    feed entry      kind, moment (µs), Session, platform, Gateway, address, why, start of an announced departure (ms), User;
                    separated by spaces. From the address on, all but the User may be empty

A User is announced `online` with its first platform and `offline` with its last. Other platforms are announced as
`platform-online` and `platform-offline`. So `online` and `offline` alternate for each User. A `kick` informs the Gateway that
holds a Session that it was closed, and why.

Pure. Called by `gate.store.presence`, `gate.presence` and every surface that handles Sessions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar, get_args

import msgspec

from gate.core.ids import MAX_ID_BYTES, shown
from gate.core.model import AppFacts
from gate.core.slices import MAX_SLICES
from gate.core.token import decoded, encoded
from gate.errors import InvalidInput

# A Gateway that does not renew its lease for this long loses its Sessions.
LEASE_TTL_MS = 15_000
# With a lease, or with one that ended within `LEASE_KEPT_MS`: every node reads all of them four times a second.
MAX_GATEWAYS_AN_APP = 4_096
# An ended lease is kept this long for its epoch: far longer than any process is paused and then continues.
LEASE_KEPT_MS = 86_400_000
# At a time. A User with more has a client that connects in a loop.
MAX_SESSIONS_A_USER = 64
MAX_GATEWAY_BYTES = 64
# Prefix of the name of a node's local Gateway, which holds WebSockets. No other Gateway may lease such a name.
LOCAL_GATEWAY_PREFIX = b"websocket@"
MAX_ADDRESS_BYTES = 64
MAX_EPOCH = 1 << 53
SESSION_RANDOM_BYTES = 8
# Interval of samples of how many Users are online.
SAMPLE_EVERY_MS = 15_000
# Kept per App: an hour, and five minutes to spare.
MAX_SAMPLES = 260
# Pairs of Gateway and platform in a sample; the others are summed. An App's samples take half a megabyte at most.
MAX_PAIRS_A_SAMPLE = 64
MAX_PLATFORMS_SUMMED = 16

Kind = Literal["online", "offline", "platform-online", "platform-offline", "kick"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Why a Session ended. The App and its operators cause `banned` to `kicked`, the device `closed` and `logout`. `slow` to
# `unsupported` are faults of the connection: slow to read, silent to pings, flooding, unsupported frames.
CloseReason = Literal[
    "closed", "logout", "lost", "banned", "deactivated", "token-revoked", "token-expired", "replaced", "kicked", "lease-ended",
    "app-removed", "shutting-down", "slow", "silent", "flooding", "unsupported",
]  # fmt: skip

_Name = TypeVar("_Name", str, bytes)
_PLATFORM = re.compile(rb"[A-Za-z0-9._-]{1,32}")
_SESSION = re.compile(r"([A-Za-z0-9_-]{11})\.([A-Za-z0-9_-]{2,86})")
_PLACE = re.compile(r"([0-9a-f]{1,16})-(\d{1,16})-([0-9a-f]{1,16})")


class Session(NamedTuple):
    """One connected device of one User. `id` is its name for callers; `active_ms` is 0 if no activity was recorded."""

    id: str
    user: bytes
    platform: str
    gateway: bytes
    epoch: int
    since_ms: int
    ip: str
    minted_at_ms: int
    active_ms: int


class Verified(msgspec.Struct, frozen=True):
    """A User whose Token was verified by a Replica that had applied its Partition's Changelog up to `log_seq`."""

    app: AppFacts
    user: bytes
    minted_at_ms: int
    log_epoch: str
    log_seq: int
    expires_at_ms: int = 0
    """Expiry of the Token; 0 for never, or where it does not matter."""
    generation: bytes = b""
    """Generation of the key that signed the Token; empty where it does not matter."""


class UserPresence(NamedTuple):
    """A User's live Sessions, oldest first, and when it was last seen offline and last active; ms, 0 for never."""

    sessions: tuple[Session, ...]
    last_seen_ms: int
    last_active_ms: int

    @property
    def online(self) -> bool:
        """Whether the User has at least one Session."""
        return bool(self.sessions)


class Lease(NamedTuple):
    """A Gateway's lease. `beat` counts renewals. Once `holds` is False, `renewed_at_ms` is the moment at which it ended."""

    gateway: bytes
    epoch: int
    beat: int
    renewed_at_ms: int
    holds: bool


class Cursor(NamedTuple):
    """A position in an App's feed: after the entry `seq` of slice 0. The feed's beginning has seq 0.

    `rest` has the places in the other slices, each without a rest. If the App has more slices than the cursor, the cursor is
    at the beginning of those.
    """

    epoch: str
    seq: int
    at_us: int
    rest: tuple[Cursor, ...] = ()

    def __str__(self) -> str:
        return ".".join([f"{place.epoch}-{place.seq}-{place.at_us:x}" for place in self.places])

    @property
    def places(self) -> tuple[Cursor, ...]:
        """The place in each slice."""
        return (self if not self.rest else Cursor(self.epoch, self.seq, self.at_us), *self.rest)

    @property
    def many(self) -> int:
        """Number of entries before it, in all slices."""
        return self.seq + sum(place.seq for place in self.rest)

    def at(self, slice_: int, place: Cursor) -> Cursor:
        """Return the cursor with another place in one slice that it has."""
        if slice_ == 0:
            return place._replace(rest=self.rest) if self.rest else place
        return self._replace(rest=(*self.rest[: slice_ - 1], place, *self.rest[slice_:]))

    def reaches(self, other: Cursor) -> bool:
        """Return whether this cursor is at or after the other one in every slice."""
        places = self.over(len(other.places)).places
        return all(place.seq >= wanted.seq for place, wanted in zip(places, other.places, strict=False))

    def over(self, slices: int) -> Cursor:
        """Return the cursor extended to this number of slices, if it has fewer."""
        missing = slices - 1 - len(self.rest)
        return self._replace(rest=(*self.rest, *[BEGINNING] * missing)) if missing > 0 else self


# Of any feed, in any epoch.
BEGINNING = Cursor("0", 0, 0)


def cursor_of(places: Sequence[Cursor]) -> Cursor:
    """Return a cursor with these places, slice 0 first."""
    return places[0]._replace(rest=tuple(places[1:])) if len(places) > 1 else places[0]


class Event(NamedTuple):
    """One entry of an App's feed. `cursor` is its position; `since_ms` is when the reported state began."""

    cursor: Cursor
    kind: Kind
    user: bytes
    session: str
    platform: str
    gateway: bytes
    ip: str
    why: str
    since_ms: int
    slice_: int = 0

    @property
    def place(self) -> Cursor:
        """Its position within its slice."""
        rest = self.cursor.rest
        if not rest:
            return self.cursor
        return rest[self.slice_ - 1] if self.slice_ else Cursor(*self.cursor[:3])

    @property
    def at_ms(self) -> int:
        """When it was appended."""
        return self.place.at_us // 1_000


class EventFilter(NamedTuple):
    """Which events a reader gets. Without Users: of all; without a Gateway: of every one's Sessions."""

    kinds: frozenset[str]
    users: frozenset[bytes]
    gateway: bytes | None

    def has(self, event: Event) -> bool:
        """Whether the reader gets it."""
        return (
            event.kind in self.kinds
            and (not self.users or event.user in self.users)
            and (self.gateway is None or event.gateway == self.gateway)
        )


def following(cursor: Cursor, events: Iterable[Event]) -> list[Event]:
    """Return events with cursors over all slices, each after the one before. The given cursors are places in their slices."""
    found = []
    for event in events:
        cursor = cursor.at(event.slice_, event.place)
        found.append(event._replace(cursor=cursor))
    return found


class HowMany(msgspec.Struct, frozen=True):
    """Number of Users online, and live Sessions by (Gateway, platform)."""

    users: int
    sessions: dict[tuple[bytes, str], int]

    @property
    def total(self) -> int:
        """All live Sessions."""
        return sum(self.sessions.values())

    def by_platform(self) -> dict[str, int]:
        """Sessions by platform, highest first."""
        return _summed((platform, many) for (_, platform), many in self.sessions.items())

    def by_gateway(self) -> dict[bytes, int]:
        """Sessions by Gateway, highest first."""
        return _summed((gateway, many) for (gateway, _), many in self.sessions.items())

    def document(self) -> dict[str, object]:
        """The JSON form of every surface: users, sessions, by_platform, by_gateway."""
        return {
            "users": self.users,
            "sessions": self.total,
            "by_platform": self.by_platform(),
            "by_gateway": {gateway.decode(): many for gateway, many in self.by_gateway().items()},
        }


class Counts(HowMany, frozen=True):
    """Counts of this moment. While `sweeping` ended leases are being swept, `users` still includes some of their Users."""

    sweeping: int


class Sample(HowMany, frozen=True):
    """Counts of a moment in the past.

    Past `MAX_PAIRS_A_SAMPLE` pairs, the smallest are summed by platform under the Gateway b"". Past `MAX_PLATFORMS_SUMMED`
    platforms, the rest is summed under the platform "".
    """

    at_ms: int


def _summed(pairs: Iterable[tuple[_Name, int]]) -> dict[_Name, int]:
    sums: Counter[_Name] = Counter()
    for name, many in pairs:
        sums[name] += many
    return dict(sums.most_common())


def session_id(random: bytes, user: bytes) -> str:
    """Return the id of a new Session; `random` has `SESSION_RANDOM_BYTES` bytes."""
    return (encoded(random) + b"." + encoded(user)).decode()


def session_parts(session: str) -> tuple[str, bytes]:
    """Return the stored part of a Session id and its User. Raises `InvalidInput` if it is not a Session id."""
    match = _SESSION.fullmatch(session)
    user = decoded(match[2].encode()) if match else b""
    if match is None or not 1 <= len(user) <= MAX_ID_BYTES:
        raise InvalidInput("session", f"must be the id that opening it answered, got {session[:100]!r}")
    return match[1], user


def full_session_id(stored: str, user: bytes) -> str:
    """Return the full id of a Session from its stored part and its User."""
    return f"{stored}.{encoded(user).decode()}"


# Called on every connect with a handful of different values.
@lru_cache(maxsize=256)
def parse_platform(raw: bytes) -> str:
    """Return the platform. Raises `InvalidInput` unless it is 1 to 32 letters, digits, `.`, `_` or `-`."""
    if not _PLATFORM.fullmatch(raw):
        raise InvalidInput("platform", f"must be 1 to 32 letters, digits, '.', '_' or '-', got {shown(raw[:40])!r}")
    return raw.decode()


def parse_gateway(raw: bytes) -> bytes:
    """Return the Gateway's name. Raises `InvalidInput` unless it is 1 to 64 bytes of visible ASCII."""
    if not 1 <= len(raw) <= MAX_GATEWAY_BYTES or any(byte < 33 or byte > 126 for byte in raw):
        raise InvalidInput(
            "gateway", f"must be 1 to {MAX_GATEWAY_BYTES} visible ASCII characters, got {shown(raw[:80])!r}"
        )
    return raw


def parse_address(raw: bytes) -> str:
    """Return the client's address. Raises `InvalidInput` unless it is up to 64 visible ASCII characters."""
    if len(raw) > MAX_ADDRESS_BYTES or any(byte < 33 or byte > 126 for byte in raw):
        raise InvalidInput(
            "ip", f"must be at most {MAX_ADDRESS_BYTES} visible ASCII characters, got {shown(raw[:80])!r}"
        )
    return raw.decode()


def parse_epoch(raw: bytes) -> int:
    """Return a Gateway's epoch. Raises `InvalidInput` unless it is an integer from 1."""
    if not raw.isdigit() or len(raw) > 16 or not 1 <= int(raw) < MAX_EPOCH:
        raise InvalidInput("epoch", f"must be a whole number from 1 to {MAX_EPOCH - 1}, got {shown(raw[:40])!r}")
    return int(raw)


def parse_cursor(text: str) -> Cursor:
    """Parse a cursor that a caller sends back. Raises `InvalidInput`."""
    # The split is bounded, so that a hostile text makes at most one part too many.
    found = [_PLACE.fullmatch(part) for part in text.split(".", MAX_SLICES)]
    places = [Cursor(match[1], int(match[2]), int(match[3], 16)) for match in found if match]
    if len(places) != len(found) or len(found) > MAX_SLICES:
        raise InvalidInput("cursor", f"must be one that the feed gave, got {text[:80]!r}")
    return cursor_of(places)


def event_of(epoch: str, seq: int, flat: Sequence[bytes]) -> Event:
    """Decode one feed entry from its single field's name and value, as Redis sends it."""
    # The User comes last and may hold spaces, so the split is bounded.
    kind_raw, at, session, platform, gateway, ip, why, since, user = flat[1].split(b" ", 8)
    kind, at_us = kind_raw.decode(), int(at)
    if kind not in KINDS:
        raise ValueError(f"entry {seq} has an unknown kind, {kind[:40]!r}")
    return Event(
        Cursor(epoch, seq, at_us),
        kind,
        user,
        full_session_id(session.decode(), user),
        platform.decode(),
        gateway,
        ip.decode(errors="replace"),
        why.decode(),
        int(since or 0) or at_us // 1_000,
    )


def lease_of(gateway: bytes, packed: bytes) -> Lease:
    """Decode a Gateway's lease from its stored form."""
    epoch, beat, at_ms, holds = packed.split(b":")
    return Lease(gateway, int(epoch), int(beat), int(at_ms), holds == b"1")
