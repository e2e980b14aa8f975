"""What Presence is made of: Sessions, Gateways' leases, and the feed of what changed.

    Session id      11 random characters, a dot, the User id in base64url: whose Session it is can be read from it, so that
                    closing one needs no index; that it is held by the caller is checked where it is closed
    platform        the kind of device, as the client names it: "iOS", "Android", "Websocket", ...
    place           <epoch>-<seq>-<moment, µs, hex>: in the feed of one slice. `seq` is contiguous; the moment sets an entry
                    apart from another that took its number after Redis went back to an older file
    cursor          a place in each slice of an App's feed, dots between. It says nothing of slices that did not exist yet
    feed entry      kind, moment (µs), Session, platform, Gateway, address, why, since when a departure that is announced
                    lasts (ms), User; spaces between them, and those from the address on may be empty but for the User

A User is announced `online` with its first platform and `offline` with its last; others come and go as `platform-online` and
`platform-offline`. So `online` and `offline` take turns for each User. A `kick` tells the Gateway that holds a Session that it
was closed, and why.

Pure. Called by `gate.store.presence`, `gate.presence` and every surface that speaks of Sessions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar, get_args

import msgspec

from gate.core.base64url import decoded, encoded
from gate.core.ids import MAX_ID_BYTES, shown
from gate.core.model import AppFacts
from gate.core.slices import MAX_SLICES
from gate.errors import InvalidInput

LEASE_TTL_MS = 15_000
"""How long a Gateway that says nothing keeps its Sessions."""
MAX_GATEWAYS_AN_APP = 4_096
"""That hold a lease, or whose lease ended within `LEASE_KEPT_MS`: every node reads all of them four times a second."""
LEASE_KEPT_MS = 86_400_000
"""How long a lease that ended is remembered for its epoch: far longer than any process is paused and goes on."""
MAX_SESSIONS_A_USER = 64
"""Of one User at a time: more is a client that connects in a loop."""
MAX_GATEWAY_BYTES = 64
LOCAL_GATEWAY_PREFIX = b"websocket@"
"""What the name of a node's own Gateway begins with, which holds WebSockets; nobody else may lease such a name."""
MAX_ADDRESS_BYTES = 64
MAX_EPOCH = 1 << 53
SESSION_RANDOM_BYTES = 8
SAMPLE_EVERY_MS = 15_000
"""How often it is noted how many are online."""
MAX_SAMPLES = 260
"""Kept of each App: an hour, and five minutes to spare."""
MAX_PAIRS_A_SAMPLE = 64
"""Of Gateway and platform, that a sample names; the others are summed. An App's samples are half a megabyte at most."""
MAX_PLATFORMS_SUMMED = 16

Kind = Literal["online", "offline", "platform-online", "platform-offline", "kick"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CloseReason = Literal[
    "closed", "logout", "lost", "banned", "deactivated", "token-revoked", "token-expired", "replaced", "kicked", "lease-ended",
    "app-removed", "shutting-down", "slow", "silent", "flooding", "unsupported",
]  # fmt: skip
"""Why a Session ended. The App and its operators cause banned to kicked, the device itself `closed` and `logout`, and what is
wrong with its connection: slow to read, silent to pings, flooding, unsupported frames."""

_Name = TypeVar("_Name", str, bytes)
_PLATFORM = re.compile(rb"[A-Za-z0-9._-]{1,32}")
_SESSION = re.compile(r"([A-Za-z0-9_-]{11})\.([A-Za-z0-9_-]{2,86})")
_PLACE = re.compile(r"([0-9a-f]{1,16})-(\d{1,16})-([0-9a-f]{1,16})")


class Session(NamedTuple):
    """One connected device of one User. `id` is what callers name it by; `active_ms` is 0 where nothing was noted."""

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
    """A User whose Token was found valid, by a Replica that had applied its Partition's Changelog up to here."""

    app: AppFacts
    user: bytes
    minted_at_ms: int
    log_epoch: str
    log_seq: int
    expires_at_ms: int = 0
    """Of the Token; 0 for never, or where it does not matter."""
    generation: bytes = b""
    """Of the key that signed the Token; empty where it does not matter."""


class UserPresence(NamedTuple):
    """A User's live Sessions, the oldest first, and when it was last seen offline and last active; ms, 0 for never."""

    sessions: tuple[Session, ...]
    last_seen_ms: int
    last_active_ms: int

    @property
    def online(self) -> bool:
        """Whether there is at least one."""
        return bool(self.sessions)


class Lease(NamedTuple):
    """A Gateway's lease. `beat` counts its renewals; `holds` is False once it has ended, which `renewed_at_ms` dates then."""

    gateway: bytes
    epoch: int
    beat: int
    renewed_at_ms: int
    holds: bool


class Cursor(NamedTuple):
    """A place in an App's feed: behind the entry `seq` of slice 0. The feed's beginning has seq 0.

    `rest` has the places in the other slices, each without a rest. Where the App has more slices than the cursor, it stands at
    the beginning of those.
    """

    epoch: str
    seq: int
    at_us: int
    rest: tuple[Cursor, ...] = ()

    def __str__(self) -> str:
        return ".".join([f"{place.epoch}-{place.seq}-{place.at_us:x}" for place in self.places])

    @property
    def places(self) -> tuple[Cursor, ...]:
        """In each slice."""
        return (self if not self.rest else Cursor(self.epoch, self.seq, self.at_us), *self.rest)

    @property
    def many(self) -> int:
        """How many entries lie before it, of all slices."""
        return self.seq + sum(place.seq for place in self.rest)

    def at(self, slice_: int, place: Cursor) -> Cursor:
        """The same but for one slice, which it has."""
        if slice_ == 0:
            return place._replace(rest=self.rest) if self.rest else place
        return self._replace(rest=(*self.rest[: slice_ - 1], place, *self.rest[slice_:]))

    def reaches(self, other: Cursor) -> bool:
        """Whether nothing lies between this and the other one."""
        places = self.over(len(other.places)).places
        return all(place.seq >= wanted.seq for place, wanted in zip(places, other.places, strict=False))

    def over(self, slices: int) -> Cursor:
        """The same with a place in so many slices, if there are more than it has."""
        missing = slices - 1 - len(self.rest)
        return self._replace(rest=(*self.rest, *[BEGINNING] * missing)) if missing > 0 else self


BEGINNING = Cursor("0", 0, 0)
"""Of any feed, whatever its epoch."""


def cursor_of(places: Sequence[Cursor]) -> Cursor:
    """With these places, in slice 0 and the others."""
    return places[0]._replace(rest=tuple(places[1:])) if len(places) > 1 else places[0]


class Event(NamedTuple):
    """One entry of an App's feed. Where it stands is `cursor`; `since_ms` is when what it tells began."""

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
        """Where it stands in its slice."""
        rest = self.cursor.rest
        if not rest:
            return self.cursor
        return rest[self.slice_ - 1] if self.slice_ else Cursor(*self.cursor[:3])

    @property
    def at_ms(self) -> int:
        """When it was appended."""
        return self.place.at_us // 1_000


def following(cursor: Cursor, events: Iterable[Event]) -> list[Event]:
    """Events whose cursors are places in their slices, with cursors over all slices: each behind the one before."""
    found = []
    for event in events:
        cursor = cursor.at(event.slice_, event.place)
        found.append(event._replace(cursor=cursor))
    return found


class HowMany(msgspec.Struct, frozen=True):
    """How many Users are online, and live Sessions by (Gateway, platform)."""

    users: int
    sessions: dict[tuple[bytes, str], int]

    @property
    def total(self) -> int:
        """All live Sessions."""
        return sum(self.sessions.values())

    def by_platform(self) -> dict[str, int]:
        """Sessions of each platform, the most first."""
        return _summed((platform, many) for (_, platform), many in self.sessions.items())

    def by_gateway(self) -> dict[bytes, int]:
        """Sessions that each Gateway holds, the most first."""
        return _summed((gateway, many) for (gateway, _), many in self.sessions.items())

    def document(self) -> dict[str, object]:
        """As every surface tells it in JSON: users, sessions, by_platform, by_gateway."""
        return {
            "users": self.users,
            "sessions": self.total,
            "by_platform": self.by_platform(),
            "by_gateway": {gateway.decode(): many for gateway, many in self.by_gateway().items()},
        }


class Counts(HowMany, frozen=True):
    """Now. While a lease that ended is being swept (`sweeping` of them), `users` has some of its Users yet."""

    sweeping: int


class Sample(HowMany, frozen=True):
    """At one moment that has passed.

    Past `MAX_PAIRS_A_SAMPLE` pairs, the smallest are summed by platform under the Gateway b""; past `MAX_PLATFORMS_SUMMED`
    of those, under the platform "" too.
    """

    at_ms: int


def _summed(pairs: Iterable[tuple[_Name, int]]) -> dict[_Name, int]:
    sums: Counter[_Name] = Counter()
    for name, many in pairs:
        sums[name] += many
    return dict(sums.most_common())


def session_id(random: bytes, user: bytes) -> str:
    """The id of a new Session; `random` is `SESSION_RANDOM_BYTES`."""
    return (encoded(random) + b"." + encoded(user)).decode()


def session_parts(session: str) -> tuple[str, bytes]:
    """What is stored of a Session's id, and whose Session it is; `InvalidInput` for what is no such id."""
    match = _SESSION.fullmatch(session)
    user = decoded(match[2].encode()) if match else b""
    if match is None or not 1 <= len(user) <= MAX_ID_BYTES:
        raise InvalidInput("session", f"must be the id that opening it answered, got {session[:100]!r}")
    return match[1], user


def session_named(stored: str, user: bytes) -> str:
    """The whole id out of what is stored of it."""
    return f"{stored}.{encoded(user).decode()}"


@lru_cache(maxsize=256)
def platform_named(raw: bytes) -> str:
    """The platform, or `InvalidInput`: 1 to 32 letters, digits, `.`, `_` or `-`."""
    if not _PLATFORM.fullmatch(raw):
        raise InvalidInput("platform", f"must be 1 to 32 letters, digits, '.', '_' or '-', got {shown(raw[:40])!r}")
    return raw.decode()


def gateway_named(raw: bytes) -> bytes:
    """The Gateway's name, or `InvalidInput`: 1 to 64 bytes of visible ASCII."""
    if not 1 <= len(raw) <= MAX_GATEWAY_BYTES or any(byte < 33 or byte > 126 for byte in raw):
        raise InvalidInput(
            "gateway", f"must be 1 to {MAX_GATEWAY_BYTES} visible ASCII characters, got {shown(raw[:80])!r}"
        )
    return raw


def address_told(raw: bytes) -> str:
    """The client's address as its Gateway tells it, or `InvalidInput`: up to 64 visible ASCII characters."""
    if len(raw) > MAX_ADDRESS_BYTES or any(byte < 33 or byte > 126 for byte in raw):
        raise InvalidInput(
            "ip", f"must be at most {MAX_ADDRESS_BYTES} visible ASCII characters, got {shown(raw[:80])!r}"
        )
    return raw.decode()


def epoch_numbered(raw: bytes) -> int:
    """A Gateway's epoch, or `InvalidInput`: a whole number from 1."""
    if not raw.isdigit() or len(raw) > 16 or not 1 <= int(raw) < MAX_EPOCH:
        raise InvalidInput("epoch", f"must be a whole number from 1 to {MAX_EPOCH - 1}, got {shown(raw[:40])!r}")
    return int(raw)


def cursor_told(text: str) -> Cursor:
    """The cursor that a caller gives back, or `InvalidInput`."""
    found = [_PLACE.fullmatch(part) for part in text.split(".", MAX_SLICES)]
    places = [Cursor(match[1], int(match[2]), int(match[3], 16)) for match in found if match]
    if len(places) != len(found) or len(found) > MAX_SLICES:
        raise InvalidInput("cursor", f"must be one that the feed gave, got {text[:80]!r}")
    return cursor_of(places)


def event_of(epoch: str, seq: int, flat: Sequence[bytes]) -> Event:
    """One entry of the feed, from its one field's name and value as they come over the wire."""
    told, at, session, platform, gateway, ip, why, since, user = flat[1].split(b" ", 8)
    kind, at_us = told.decode(), int(at)
    if kind not in KINDS:
        raise ValueError(f"entry {seq} is of an unknown kind, {kind[:40]!r}")
    return Event(
        Cursor(epoch, seq, at_us),
        kind,
        user,
        session_named(session.decode(), user),
        platform.decode(),
        gateway,
        ip.decode("utf-8", "replace"),
        why.decode(),
        int(since or 0) or at_us // 1_000,
    )


def lease_of(gateway: bytes, packed: bytes) -> Lease:
    """A Gateway's lease as it is kept."""
    epoch, beat, at_ms, holds = packed.split(b":")
    return Lease(gateway, int(epoch), int(beat), int(at_ms), holds == b"1")
