"""Presence in Redis: leases, Sessions, their counts, and the feed of what changed.

Methods are one exchange with the server, or a few where many Users are meant, and raise `StoreUnavailable`; those that open and
close are built as calls, so that a caller can send many in one pipeline (`gate.presence.batches`). Sliced by App, see
docs/decisions/0010. It may be another Redis than the one that holds the facts (`--presence-redis`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import msgspec

from gate.core.model import AppFacts
from gate.core.presence import (
    LEASE_KEPT_MS,
    MAX_GATEWAYS_AN_APP,
    MAX_PAIRS_A_SAMPLE,
    MAX_PLATFORMS_SUMMED,
    MAX_SAMPLES,
    MAX_SESSIONS_A_USER,
    SAMPLE_EVERY_MS,
    Counts,
    Lease,
    Sample,
    Session,
    UserPresence,
    lease_of,
    session_named,
)
from gate.core.revision import Position
from gate.errors import SessionRefused
from gate.store import presence_keys as keys
from gate.store import scripts
from gate.store.client import Client
from gate.store.link import Reply
from gate.store.scripts import Call

MAX_USERS_A_SCRIPT = 1_000
"""Lua can't take much more on its stack; a script of so many holds the server for about a millisecond."""
SWEPT_A_SCRIPT = 200
"""Users whose Sessions end in one script, of some 4 ms: what else waits, waits no longer."""
BARS_A_SCRIPT = 500
"""Bars that are dropped in one script, of some 2 ms."""

FIRST_RANKED = 1 << 62
"""Cursors of a page from here on are ranks of Users; the server's own are below."""
RANK_BYTES = 6

Opened = Literal["ok", "nolease", "fenced", "barred", "full"]
Closed = Literal["closed", "gone", "foreign"]
_Row = tuple[bytes, bytes]
"""A User and its Sessions, packed."""
_rows = msgspec.msgpack.Decoder(list[list[int | str]])
_flat = msgspec.msgpack.Decoder(list[int | str])
_pair = msgspec.msgpack.Decoder(tuple[int, int])


class Leased(NamedTuple):
    """What taking or renewing a lease gave: the epoch that counts; whether this one holds; whether it did not exist before."""

    epoch: int
    holds: bool
    is_new: bool


class Opening(msgspec.Struct, frozen=True, gc=False):
    """A Session to open: of whom, held by which Gateway, and the facts under which its Token was found valid."""

    app: AppFacts
    gateway: bytes
    epoch: int
    user: bytes
    stored_id: str
    platform: str
    ip: str
    minted_at_ms: int
    log_epoch: str
    log_seq: int
    since_ms: int | None = None
    """To bring back a Session that the server lost; None for a new one."""


class Because(NamedTuple):
    """The Change that Sessions are closed for; none for an operator's kick."""

    log_epoch: str = ""
    log_seq: int = 0


UNCAUSED = Because()


class PresenceStore:
    """One Redis's Presence, of all Apps."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._listed: set[str] = set()
        """Apps that this process has put among those that are swept."""

    # Leases

    async def lease(self, app_key: str, gateway: bytes, epoch: int | None) -> Leased:
        """Take or renew a lease. Epoch None takes the one after the last, whoever has that.

        Raises `SessionRefused` for a name beyond `MAX_GATEWAYS_AN_APP`.
        """
        call = _call(scripts.PRESENCE_LEASE, app_key, gateway, "" if epoch is None else epoch, MAX_GATEWAYS_AN_APP)
        (word, number, *new) = (await self.client.write([call]))[0]
        if word == b"full":
            problem = (
                f"this App has {int(number)} Gateways that hold a lease or did within a day, the most there may be"
            )
            raise SessionRefused("too-many-gateways", f"{problem}: use their names again instead of new ones")
        if word == b"ok" and (new[0] == b"1" or app_key not in self._listed):
            # If this fails, it is done with the next renewal: a lease must not go unwatched.
            self._listed.discard(app_key)
            await self.client.read(("SADD", keys.APPS, app_key))
            self._listed.add(app_key)
        return Leased(int(number), word == b"ok", bool(new) and new[0] == b"1")

    async def end_lease(self, app_key: str, gateway: bytes, epoch: int, beat: int | None = None) -> bool:
        """End a lease, unless it was renewed since it had this beat. Its Sessions are not live from then on."""
        call = _call(scripts.PRESENCE_END, app_key, gateway, epoch, "" if beat is None else beat)
        return bool((await self.client.write([call]))[0])

    async def leases(self, app_keys: Sequence[str]) -> list[list[Lease]]:
        """All Gateways of each App, by name."""
        replies = await self.client.read(*(("HGETALL", keys.leases(app)) for app in app_keys)) if app_keys else []
        return [sorted(map(lease_of, reply[::2], reply[1::2])) for reply in replies]

    async def apps(self) -> list[str]:
        """Apps that have or had a Gateway."""
        (members,) = await self.client.read(("SMEMBERS", keys.APPS))
        return sorted(member.decode() for member in members)

    # Sessions

    def opening(self, one: Opening) -> Call:
        """The call whose reply `opened` reads."""
        return Call(
            scripts.PRESENCE_OPEN,
            [keys.base(one.app.key)],
            (one.gateway, one.epoch, one.app.device_policy, MAX_SESSIONS_A_USER),
            (
                one.user, one.stored_id, one.platform, one.ip, one.minted_at_ms, one.log_epoch, one.log_seq,
                "" if one.since_ms is None else one.since_ms,
            ),
        )  # fmt: skip

    def closing(self, app_key: str, gateway: bytes, epoch: int, user: bytes, stored_id: str, why: str) -> Call:
        """The call whose reply `closed` reads."""
        return Call(scripts.PRESENCE_CLOSE, [keys.base(app_key)], (gateway, epoch, why), (user, stored_id))

    def touching(self, app_key: str, sessions: Sequence[tuple[bytes, str]]) -> Call:
        """Note that these Sessions, by User and stored id, were active just now; replies how many there are."""
        return _call(scripts.PRESENCE_TOUCH, app_key, *(part for session in sessions for part in session))

    async def kick(
        self,
        app_key: str,
        users: Sequence[bytes],
        why: str,
        *,
        minted_before_ms: int | None = None,
        stored_id: str = "",
        platform: str = "",
        because: Because = UNCAUSED,
    ) -> int:
        """Close these Users' Sessions wherever they are held, and tell their Gateways; answers how many were live."""
        before = "" if minted_before_ms is None else minted_before_ms
        told = (before, stored_id, platform, because.log_epoch, because.log_seq)
        closed = 0
        for some in _some(users, SWEPT_A_SCRIPT):  # one by one, as a pipeline of them would let nobody in between
            (many,) = await self.client.write([_call(scripts.PRESENCE_KICK, app_key, why, *told, *some)])
            closed += int(many)
        return closed

    # Reads

    def asking_online(self, app_key: str, users: Sequence[bytes]) -> Call:
        """The call that replies 1 or 0 for each of up to `MAX_USERS_A_SCRIPT` Users."""
        return _call(scripts.PRESENCE_ONLINE, app_key, *users)

    def asking_sessions(self, app_key: str, users: Sequence[bytes]) -> Call:
        """The call whose reply `presences_of` reads, of up to `MAX_USERS_A_SCRIPT` Users."""
        return _call(scripts.PRESENCE_READ, app_key, *users)

    async def online(self, app_key: str, users: Sequence[bytes]) -> list[bool]:
        """Which Users have a live Session, in order."""
        replies = await self.client.write([self.asking_online(app_key, some) for some in _some(users)])
        return [one == 1 for reply in replies for one in reply]

    async def is_online(self, app_key: str, user: bytes) -> bool:
        """Whether the User has a live Session."""
        return (await self.online(app_key, [user]))[0]

    async def presences(self, app_key: str, users: Sequence[bytes]) -> list[UserPresence]:
        """Each User's live Sessions and last moments, in order."""
        chunks = list(_some(users))
        replies = await self.client.write([self.asking_sessions(app_key, some) for some in chunks])
        return [one for some, reply in zip(chunks, replies, strict=True) for one in presences_of(some, reply)]

    async def counts(self, app_key: str) -> Counts:
        """How many are online, by Gateway and platform; no Session is looked at."""
        (rows,) = await self.client.write([_call(scripts.PRESENCE_COUNTS, app_key)])
        named = zip(rows[2::3], rows[3::3], rows[4::3], strict=True)
        return Counts(rows[0], {(gateway, platform.decode()): many for gateway, platform, many in named}, rows[1])

    async def history(self, app_key: str, since_ms: int) -> list[Sample]:
        """How many were online from a moment on, the oldest first; of the hour and some that is kept, and with gaps for when no
        node could sample."""
        first = f"{max(0, since_ms) // SAMPLE_EVERY_MS}-0"
        (rows,) = await self.client.read(("XRANGE", keys.samples(app_key), first, "+"))
        samples = [_sample(flat) for _, flat in rows]
        return [one for one in samples if one.at_ms >= since_ms]

    async def page(self, app_key: str, cursor: int, count: int) -> tuple[list[tuple[bytes, tuple[Session, ...]]], int]:
        """Some `count` online Users and the cursor of the next page, 0 after the last.

        Who is online throughout is found; who is found twice while many come and go may be.
        """
        rank, place = (cursor - FIRST_RANKED, 0) if cursor >= FIRST_RANKED else (0, cursor)
        (told, leases) = await self.client.read(
            ("HSCAN", keys.sessions(app_key), place, "COUNT", count), ("HGETALL", keys.leases(app_key))
        )
        holding = {(lease.gateway, lease.epoch) for lease in map(lease_of, leases[::2], leases[1::2]) if lease.holds}
        rows, following = list(zip(told[1][::2], told[1][1::2], strict=True)), int(told[0])
        if place == 0 and (rank or following == 0):
            rows, following = _ranked(rows, rank, count if following == 0 else len(rows), following)
        found = [(user, _sessions(user, packed)) for user, packed in rows]
        live = [(user, tuple(one for one in some if (one.gateway, one.epoch) in holding)) for user, some in found]
        return [(user, some) for user, some in live if some], following

    # Housekeeping, which any node may do

    async def sample(self, app_key: str) -> bool:
        """Note how many are online now; False where that was done in this slot of `SAMPLE_EVERY_MS` by the server's clock."""
        bounds = (SAMPLE_EVERY_MS, MAX_SAMPLES, MAX_PAIRS_A_SAMPLE, MAX_PLATFORMS_SUMMED)
        return bool((await self.client.write([_call(scripts.PRESENCE_SAMPLE, app_key, *bounds)]))[0])

    async def server_ms(self) -> int:
        """The server's clock, which dates everything here."""
        ((seconds, microseconds),) = await self.client.read(("TIME",))
        return int(seconds) * 1_000 + int(microseconds) // 1_000

    async def sweep(self, app_key: str) -> tuple[int, int]:
        """End some Sessions whose lease has ended; how many, and how many leases still have some."""
        (reply,) = await self.client.write([_call(scripts.PRESENCE_SWEEP, app_key, SWEPT_A_SCRIPT)])
        return reply[0], reply[1]

    async def tidy(self, app_key: str) -> int:
        """Drop leases that ended more than `LEASE_KEPT_MS` ago, once none is being swept; how many."""
        return int((await self.client.write([_call(scripts.PRESENCE_TIDY, app_key, LEASE_KEPT_MS)]))[0])

    async def announce(self, app_key: str) -> tuple[int, int | None]:
        """Announce departures that have lasted; how many, and in how many ms the next is due."""
        (reply,) = await self.client.write([_call(scripts.PRESENCE_ANNOUNCE, app_key, SWEPT_A_SCRIPT)])
        return reply[0], None if reply[1] < 0 else reply[1]

    async def drop_bars(self, app_key: str) -> int:
        """Drop some bars that hold nobody back any more; how many."""
        (dropped,) = await self.client.write([_call(scripts.PRESENCE_UNBAR, app_key, BARS_A_SCRIPT)])
        return int(dropped)

    async def set_floors(self, app_key: str, floors: Mapping[str, int]) -> None:
        """Nobody connects who was verified on facts from before these: epoch of a Changelog -> seq. All bars are dropped."""
        flat = [part for floor in floors.items() for part in floor]
        await self.client.write([_call(scripts.PRESENCE_FLOORS, app_key, *flat)])

    async def forget_users(self, app_key: str, users: Sequence[bytes]) -> None:
        """Drop what is kept of Users without a Session, as when they are erased."""
        if users:
            await self.client.write([_call(scripts.PRESENCE_FORGET, app_key, *some) for some in _some(users)])

    async def remove_app(self, app_key: str) -> None:
        """Drop all of an App's Presence. Its Gateways' connections are refused by its absence already."""
        await self.client.write([_call(scripts.PRESENCE_REMOVE, app_key, *keys.NOUNS)])
        await self.client.read(("SREM", keys.APPS, app_key))

    # How far Sessions were closed for what the Changelog says

    async def kicked_up_to(self) -> dict[int, Position]:
        """Partition -> up to where."""
        (flat,) = await self.client.read(("HGETALL", keys.KICKS))
        told = zip(flat[::2], flat[1::2], strict=True)
        return {int(partition): _place(place) for partition, place in told}

    async def note_kicked(self, places: Mapping[int, Position]) -> None:
        """Note how far. Several nodes may: each repeats at most what another did."""
        flat = [part for partition, place in places.items() for part in (partition, ":".join(map(str, place)))]
        if flat:
            await self.client.read(("HSET", keys.KICKS, *flat))


def _ranked(rows: list[_Row], rank: int, count: int, following: int) -> tuple[list[_Row], int]:
    """Of a small App's Users, some `count` from this rank on, and the cursor of the next page.

    The server tells of a small hash at once, however many were asked for. So its Users are told in the order of their ranks,
    which no other User moves. If the hash has become a large one since the page before, those of lower ranks were on a page.
    """
    if len(rows) <= count and not rank:
        return rows, following
    rows = sorted((row for row in rows if _rank(row[0]) >= rank), key=lambda row: _rank(row[0]))
    end = next((at for at in range(count, len(rows)) if _rank(rows[at][0]) > _rank(rows[at - 1][0])), len(rows))
    return rows[:end], FIRST_RANKED + _rank(rows[end][0]) if end < len(rows) else following


def _rank(user: bytes) -> int:
    return int.from_bytes(blake2b(user, digest_size=RANK_BYTES).digest())


def opened(reply: Reply) -> Opened:
    """What came of opening a Session."""
    word: Opened = reply.decode()
    return word


def closed(reply: Reply) -> Closed:
    """What came of closing one."""
    return "foreign" if reply == b"foreign" else "closed" if reply else "gone"


def presences_of(users: Sequence[bytes], reply: Sequence[Sequence[bytes]]) -> list[UserPresence]:
    """What `asking_sessions` replied; last seen while online is of the time before."""
    found = []
    for user, (packed, seen) in zip(users, reply, strict=True):
        sessions = _sessions(user, packed) if packed else ()
        last_seen_ms, last_active_ms = _pair.decode(seen) if seen else (0, 0)
        active_ms = max([last_active_ms, *(max(one.since_ms, one.active_ms) for one in sessions)])
        found.append(UserPresence(sessions, last_seen_ms, active_ms))
    return found


def _sessions(user: bytes, packed: bytes) -> tuple[Session, ...]:
    return tuple(_session(user, row) for row in _rows.decode(packed))


def _session(user: bytes, row: Sequence[Any]) -> Session:
    """Of the fields that `presence_keys.SESSION_FIELDS` names; all text is ASCII, as it was checked on the way in."""
    stored_id, platform, gateway, epoch, since_ms, ip, minted_at_ms, *active = row
    return Session(
        session_named(stored_id, user), user, platform, gateway.encode(), epoch, since_ms, ip, minted_at_ms,
        active[0] if active else 0,
    )  # fmt: skip


def _sample(flat: Sequence[bytes]) -> Sample:
    """One entry of the samples, from names and values as they come over the wire."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    counts = _flat.decode(fields[b"c"])
    named = zip(counts[::3], counts[1::3], counts[2::3], strict=True)
    sessions = {(str(gateway).encode(), str(platform)): int(many) for gateway, platform, many in named}
    return Sample(int(fields[b"u"]), sessions, int(fields[b"t"]))


def _place(packed: bytes) -> Position:
    epoch, seq, tip = packed.decode().split(":")
    return Position(epoch, int(seq), tip)


def _call(script: scripts.Script, app_key: str, *args: bytes | str | int) -> Call:
    return Call(script, [keys.base(app_key)], args)


def _some(users: Sequence[bytes], most: int = MAX_USERS_A_SCRIPT) -> list[Sequence[bytes]]:
    return [users[at : at + most] for at in range(0, len(users), most)]
