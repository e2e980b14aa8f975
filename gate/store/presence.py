"""Presence in Redis: leases, Sessions, their counts, and the feed of what changed.

Methods are one exchange with the server, or a few where many Users are meant, and raise `StoreUnavailable`; those that open and
close are built as `SlicedCall`, so that a caller can send many in one pipeline (`gate.presence.gateway`). Sliced by App and by
User, see docs/decisions/0018: `exchange` finds the slices. It may be another Redis than that of the facts (`--presence-redis`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
)
from gate.core.revision import Position
from gate.core.sessions import CloseOutcome, Leased, OpenOutcome, OpenSession
from gate.core.slices import MAX_SLICES
from gate.errors import SessionRefused
from gate.store import presence_keys as keys
from gate.store import scripts
from gate.store.client import Client
from gate.store.link import Reply
from gate.store.presence_forms import page, presences_of, sample_of
from gate.store.scripts import Call
from gate.store.slicing import SlicedCall, Slices, answered

MAX_USERS_A_SCRIPT = 1_000
"""Lua can't take much more on its stack; a script of so many holds the server for about a millisecond."""
SWEPT_A_SCRIPT = 200
"""Users whose Sessions end in one script, of some 4 ms: what else waits, waits no longer."""
LEASE_TRIES = 5
"""Each that fails means that another process took the epoch meanwhile."""
BARS_A_SCRIPT = 500
"""Bars that are dropped in one script, of some 2 ms."""

OPEN_OUTCOMES: dict[Reply, OpenOutcome] = {outcome.encode(): outcome for outcome in OpenOutcome}
"""By the script's word: a look-up takes a third of the time of the enum's own."""


class LogPosition(NamedTuple):
    """The Change that Sessions are closed for; none for an operator's kick."""

    log_epoch: str = ""
    log_seq: int = 0


NO_POSITION = LogPosition()


class PresenceStore:
    """One Redis's Presence, of all Apps."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.slices = Slices(client)
        self._listed: set[str] = set()
        """Apps that this process has put among those that are swept."""

    async def exchange(self, *asked: SlicedCall) -> list[Reply]:
        """The reply of each, in order. Raises `StoreUnavailable`."""
        return [answered(reply) for reply in await self.slices.exchange(asked)]

    # Leases

    async def lease(self, app_key: str, gateway: bytes, epoch: int | None) -> Leased:
        """Take or renew a lease, in every slice. Epoch None takes the one after the last, whichever run has that.

        It holds if it holds in every slice; it is new if it is in any. Raises `SessionRefused` for a name beyond
        `MAX_GATEWAYS_AN_APP`.
        """
        leased = await self._leased(app_key, gateway, epoch)
        if leased.holds and (leased.is_new or app_key not in self._listed):
            # If this fails, it is done with the next renewal: a lease must not go unwatched.
            self._listed.discard(app_key)
            await self.client.read(("SADD", keys.APPS, app_key))
            self._listed.add(app_key)
        return leased

    async def end_lease(
        self, app_key: str, gateway: bytes, epoch: int, beat: int | None = None, at: int | None = None
    ) -> bool:
        """End a lease in one slice or in all, unless it was renewed since it had this beat. Its Sessions are not live then."""
        slices = range((await self.slices.slicing(app_key)).slices) if at is None else [at]
        args = gateway, epoch, "" if beat is None else beat
        return any(await self.client.write([_call(scripts.PRESENCE_END, app_key, one, *args) for one in slices]))

    async def leases(self, app_keys: Sequence[str]) -> list[list[Lease]]:
        """All Gateways of each App, by name; a lease holds if it holds in every slice."""
        found = await self.slices.look(app_keys, lambda app, at: [("HGETALL", keys.leases(app, at))])
        return [_leases_of([flat for (flat,) in slices]) for slices in found]

    async def lease_holds(self, app_key: str, gateway: bytes, epoch: int) -> bool:
        """Whether this lease holds in every slice."""
        (found,) = await self.slices.look([app_key], lambda app, at: [("HGET", keys.leases(app, at), gateway)])
        known = [lease_of(gateway, packed) if packed else None for (packed,) in found]
        return all(lease is not None and lease.holds and lease.epoch == epoch for lease in known)

    async def apps(self) -> list[str]:
        """Apps that have or had a Gateway."""
        (members,) = await self.client.read(("SMEMBERS", keys.APPS))
        return sorted(member.decode() for member in members)

    # Sessions

    def opening(self, session: OpenSession) -> SlicedCall:
        """What `opened` reads the reply of. A Session with a moment of its own is brought back, another is new."""
        since = "" if session.since_ms is None else session.since_ms
        # What is stored of an id is in front of its dot; the User behind it is the key.
        row = (
            session.user, session.id.partition(".")[0], session.platform, session.ip, session.minted_at_ms,
            session.log_epoch, session.log_seq, since,
        )  # fmt: skip
        args = session.gateway, session.epoch, session.app.device_policy, MAX_SESSIONS_A_USER
        return SlicedCall(session.app.key, scripts.PRESENCE_OPEN, args, row, len(row), is_row=True)

    def closing(self, app_key: str, gateway: bytes, epoch: int, user: bytes, stored_id: str, why: str) -> SlicedCall:
        """What `closed` reads the reply of."""
        return SlicedCall(app_key, scripts.PRESENCE_CLOSE, (gateway, epoch, why), (user, stored_id), 2, is_row=True)

    def touching(self, app_key: str, sessions: Sequence[tuple[bytes, str]]) -> SlicedCall:
        """Note that these Sessions, by User and stored id, were active just now; replies 1 for each that there is, else 0."""
        return SlicedCall(app_key, scripts.PRESENCE_TOUCH, (), [part for session in sessions for part in session], 2)

    async def kick(
        self,
        app_key: str,
        users: Sequence[bytes],
        why: str,
        *,
        minted_before_ms: int | None = None,
        stored_id: str = "",
        platform: str = "",
        up_to: LogPosition = NO_POSITION,
    ) -> int:
        """Close these Users' Sessions wherever they are held, and notify their Gateways. Returns how many were live."""
        before = "" if minted_before_ms is None else minted_before_ms
        args = why, before, stored_id, platform, up_to.log_epoch, up_to.log_seq
        closed = 0
        for some in _some(users, SWEPT_A_SCRIPT):  # one by one: other commands can't run between those of a pipeline
            (each,) = await self.exchange(SlicedCall(app_key, scripts.PRESENCE_KICK, args, some, 1))
            closed += sum(each)
        return closed

    # Reads

    def asking_online(self, app_key: str, users: Sequence[bytes]) -> SlicedCall:
        """What replies 1 or 0 for each of up to `MAX_USERS_A_SCRIPT` Users."""
        return SlicedCall(app_key, scripts.PRESENCE_ONLINE, (), users, 1)

    def asking_sessions(self, app_key: str, users: Sequence[bytes]) -> SlicedCall:
        """What `presences_of` reads the reply of, for up to `MAX_USERS_A_SCRIPT` Users."""
        return SlicedCall(app_key, scripts.PRESENCE_READ, (), users, 1)

    async def online(self, app_key: str, users: Sequence[bytes]) -> list[bool]:
        """Which Users have a live Session, in order."""
        replies = await self.exchange(*(self.asking_online(app_key, some) for some in _some(users)))
        return [one == 1 for reply in replies for one in reply]

    async def is_online(self, app_key: str, user: bytes) -> bool:
        """Whether the User has a live Session."""
        return (await self.online(app_key, [user]))[0]

    async def presences(self, app_key: str, users: Sequence[bytes]) -> list[UserPresence]:
        """Each User's live Sessions and last moments, in order."""
        chunks = list(_some(users))
        replies = await self.exchange(*(self.asking_sessions(app_key, some) for some in chunks))
        return [one for some, reply in zip(chunks, replies, strict=True) for one in presences_of(some, reply)]

    async def counts(self, app_key: str) -> Counts:
        """How many are online, by Gateway and platform; no Session is looked at. Without Users that are under way to another
        slice: some 500 at most, for some ms."""
        return _counts_of(await self.slices.everywhere(app_key, scripts.PRESENCE_COUNTS))

    async def counts_by_slice(self, app_key: str) -> list[Counts]:
        """As `counts`, for each slice."""
        return [_counts_of([rows]) for rows in await self.slices.everywhere(app_key, scripts.PRESENCE_COUNTS)]

    async def history(self, app_key: str, since_ms: int) -> list[Sample]:
        """How many were online from a moment on, the oldest first; of the hour and some that is kept, and with gaps for when no
        node could sample."""
        first = f"{max(0, since_ms) // SAMPLE_EVERY_MS}-0"
        (rows,) = await self.client.read(("XRANGE", keys.samples(app_key), first, "+"))
        samples = [sample_of(flat) for _, flat in rows]
        return [one for one in samples if one.at_ms >= since_ms]

    async def page(self, app_key: str, cursor: int, count: int) -> tuple[list[tuple[bytes, tuple[Session, ...]]], int]:
        """Some `count` online Users and the cursor of the next page, 0 after the last.

        Who is online throughout is found; who is found twice while many come and go may be.
        """
        return await page(self.client, self.presences, app_key, cursor, count)

    # Housekeeping, which any node may do; of one slice where it takes `at`

    async def sample(self, app_key: str) -> bool:
        """Note how many are online now; False where that was done in this slot of `SAMPLE_EVERY_MS` by the server's clock."""
        bounds = (SAMPLE_EVERY_MS, MAX_SAMPLES, MAX_PAIRS_A_SAMPLE, MAX_PLATFORMS_SUMMED)
        slices = await self.slices.everywhere(app_key, scripts.PRESENCE_COUNTS)
        others = _counts_of(slices[1:])
        pairs = [part for (gateway, platform), many in others.sessions.items() for part in (gateway, platform, many)]
        call = _call(scripts.PRESENCE_SAMPLE, app_key, 0, *bounds, others.users, *pairs)
        return bool((await self.client.write([call]))[0])

    async def server_ms(self) -> int:
        """The server's clock, which dates everything here."""
        ((seconds, microseconds),) = await self.client.read(("TIME",))
        return int(seconds) * 1_000 + int(microseconds) // 1_000

    async def sweep(self, app_key: str, at: int = 0) -> tuple[int, int]:
        """End some Sessions whose lease has ended; how many, and how many leases still have some."""
        (reply,) = await self.client.write([_call(scripts.PRESENCE_SWEEP, app_key, at, SWEPT_A_SCRIPT)])
        return reply[0], reply[1]

    async def tidy(self, app_key: str, at: int = 0) -> int:
        """Drop leases that ended more than `LEASE_KEPT_MS` ago, once none is being swept; how many."""
        return int((await self.client.write([_call(scripts.PRESENCE_TIDY, app_key, at, LEASE_KEPT_MS)]))[0])

    async def announce(self, app_key: str, at: int = 0) -> tuple[int, int | None]:
        """Announce departures that have lasted; how many, and in how many ms the next is due."""
        (reply,) = await self.client.write([_call(scripts.PRESENCE_ANNOUNCE, app_key, at, SWEPT_A_SCRIPT)])
        return reply[0], None if reply[1] < 0 else reply[1]

    async def drop_bars(self, app_key: str, at: int = 0) -> int:
        """Delete some old connect fences. Returns how many; 0 while Users move to other slices."""
        (dropped,) = await self.client.write([_call(scripts.PRESENCE_UNBAR, app_key, at, BARS_A_SCRIPT)])
        return int(dropped)

    async def set_floors(self, app_key: str, floors: Mapping[str, int]) -> None:
        """Refuse connects verified on facts older than these (Changelog epoch -> seq). Replaces all fences and floors."""
        flat = [part for floor in floors.items() for part in floor]
        await self.slices.everywhere(app_key, scripts.PRESENCE_FLOORS, *flat)

    async def forget_users(self, app_key: str, users: Sequence[bytes]) -> None:
        """Drop what is kept of Users without a Session, as when they are erased."""
        await self.exchange(*(SlicedCall(app_key, scripts.PRESENCE_FORGET, (), some, 1) for some in _some(users)))

    async def remove_app(self, app_key: str) -> None:
        """Drop all of an App's Presence. Its Gateways' connections are refused by its absence already.

        In all slices that there may be, since one may just have begun; slice 0 last, which says how many there are.
        """
        calls = [_call(scripts.PRESENCE_REMOVE, app_key, at, *keys.NOUNS) for at in reversed(range(MAX_SLICES))]
        await self.client.write(calls)
        await self.client.read(("SREM", keys.APPS, app_key))

    # How far Sessions were closed for what the Changelog says

    async def kicked_up_to(self) -> dict[int, Position]:
        """Return the stored Changelog position by Partition."""
        (flat,) = await self.client.read(("HGETALL", keys.KICKS))
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return {int(partition): _place(place) for partition, place in pairs}

    async def note_kicked(self, places: Mapping[int, Position]) -> None:
        """Store Changelog positions. Several nodes may: each repeats at most the work of another."""
        flat = [part for partition, place in places.items() for part in (partition, ":".join(map(str, place)))]
        if flat:
            await self.client.read(("HSET", keys.KICKS, *flat))

    # Within

    async def _leased(self, app_key: str, gateway: bytes, epoch: int | None) -> Leased:
        for _ in range(LEASE_TRIES):
            wanted = await self._next_epoch(app_key, gateway) if epoch is None else epoch
            args = gateway, wanted, MAX_GATEWAYS_AN_APP
            replies = await self.slices.everywhere(app_key, scripts.PRESENCE_LEASE, *args)
            words = {word for word, *_ in replies}
            if b"full" in words:
                problem = (
                    f"this App has {max(int(number) for word, number, *_ in replies if word == b'full')} Gateways "
                    "that hold a lease or did within a day, the most there may be"
                )
                raise SessionRefused("too-many-gateways", f"{problem}: use their names again instead of new ones")
            leased = Leased(
                max(int(number) for _, number, *_ in replies),
                # If a growth began since the next epoch was looked up, slices may have taken different ones.
                words == {b"ok"} and len({number for _, number, *_ in replies}) == 1,
                any(word == b"ok" and new[0] == b"1" for word, _, *new in replies),
            )
            if leased.holds or epoch is not None:
                break
        return leased if leased.holds else leased._replace(is_new=False)

    async def _next_epoch(self, app_key: str, gateway: bytes) -> int | str:
        """The one after the last in any slice; "" where the script itself finds it, with one slice."""
        (found,) = await self.slices.look([app_key], lambda app, at: [("HGET", keys.leases(app, at), gateway)])
        if len(found) == 1:
            return ""
        return 1 + max(lease_of(gateway, packed).epoch if packed else 0 for (packed,) in found)


def opened(reply: Reply) -> OpenOutcome:
    """The outcome of opening a Session."""
    return OPEN_OUTCOMES[reply]


def closed(reply: Reply) -> CloseOutcome:
    """The outcome of closing a Session."""
    if reply == b"foreign":
        return CloseOutcome.FOREIGN
    return CloseOutcome.CLOSED if reply else CloseOutcome.GONE


def _leases_of(slices: Sequence[Reply]) -> list[Lease]:
    """Of the copies of a lease the one that ended or was renewed before the others."""
    found: dict[bytes, Lease] = {}
    for flat in slices:
        for lease in map(lease_of, flat[::2], flat[1::2]):
            known = found.get(lease.gateway)
            if known is None or (lease.holds, lease.renewed_at_ms) < (known.holds, known.renewed_at_ms):
                found[lease.gateway] = lease
    return sorted(found.values())


def _counts_of(slices: Sequence[Reply]) -> Counts:
    sessions: Counter[tuple[bytes, str]] = Counter()
    for rows in slices:
        for gateway, platform, many in zip(rows[2::3], rows[3::3], rows[4::3], strict=True):
            sessions[gateway, platform.decode()] += many
    return Counts(sum(rows[0] for rows in slices), dict(sessions), sum(rows[1] for rows in slices))


def _place(packed: bytes) -> Position:
    epoch, seq, tip = packed.decode().split(":")
    return Position(epoch, int(seq), tip)


def _call(script: scripts.Script, app_key: str, at: int, *args: bytes | str | int) -> Call:
    return Call(script, [keys.base(app_key, at)], args)


def _some(users: Sequence[bytes], most: int = MAX_USERS_A_SCRIPT) -> list[Sequence[bytes]]:
    return [users[at : at + most] for at in range(0, len(users), most)]
