"""Presence as naive Python: what docs/decisions/0010 and gate.core.presence promise, kept in lists and found by looking at all.

It is asked to do what the store does, and says what must come of it. Where the store may choose (which Users a sweep takes, in
which order departures of one moment are announced) the model gets the store's choice and fails if it is not allowed.

Sessions whose lease is gone stay in `sessions` until they are swept, as they do in Redis; `is_live` is False for them.
Followers believe the feed: to them, a User's platforms are those of its Sessions, and those with an unannounced departure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gate.core.model import DevicePolicy
from gate.core.presence import Event, Lease, Session, UserPresence, full_session_id
from gate.core.slices import UNSLICED, Slicing

FeedEntry = tuple[str, bytes, str, str, bytes, str, str, int]
"""kind, User, Session, platform, Gateway, address, why, since: an `Event` but for where it stands."""
FLAP_MS = 1_000
BAR_MS = 60_000
"""As docs/decisions/0010 has it: a departure shorter than this is not announced."""


@dataclass(eq=False)
class Held:
    """A Session that is kept, live or not."""

    id: str
    user: bytes
    platform: str
    gateway: bytes
    epoch: int
    since_ms: int
    ip: str
    minted_at_ms: int
    active_ms: int = 0

    @property
    def activity_ms(self) -> int:
        return max(self.since_ms, self.active_ms)

    @property
    def shown(self) -> Session:
        return Session(
            full_session_id(self.id, self.user), self.user, self.platform, self.gateway, self.epoch, self.since_ms, self.ip,
            self.minted_at_ms, self.active_ms,
        )  # fmt: skip


@dataclass
class Departure:
    """A platform that a User left, and is not announced to have left. `last` may be named as its last Session."""

    due_ms: int
    at_ms: int
    last: list[Held]
    why: str


@dataclass
class Model:
    """One App's Presence."""

    now_ms: int
    most_sessions: int
    most_gateways: int
    leases: dict[bytes, Lease] = field(default_factory=dict)
    sessions: dict[bytes, list[Held]] = field(default_factory=dict)
    leaving: dict[bytes, dict[str, Departure]] = field(default_factory=dict)
    seen_ms: dict[bytes, int] = field(default_factory=dict)
    active_ms: dict[bytes, int] = field(default_factory=dict)
    bars: dict[bytes, tuple[str, int, int]] = field(default_factory=dict)
    floors: dict[int, dict[str, int]] = field(default_factory=dict)
    """By slice: a bar that is dropped raises the floor of its User's slice."""
    slicing: Slicing = UNSLICED
    entries: list[FeedEntry] = field(default_factory=list)
    """What the feed must say of the step that was just made."""

    # Leases

    def lease(self, gateway: bytes, epoch: int | None) -> tuple[int, bool, bool] | None:
        """(epoch that counts, whether this one holds, whether it is new); None for a Gateway too many."""
        known = self.leases.get(gateway)
        wanted = epoch if epoch is not None else known.epoch + 1 if known else 1
        if known is None and len(self.leases) >= self.most_gateways:
            return None
        if known and (wanted < known.epoch or (wanted == known.epoch and not known.holds)):
            return known.epoch, False, False
        self.leases[gateway] = Lease(gateway, wanted, known.beat + 1 if known else 1, self.now_ms, True)
        return wanted, True, known is None or wanted > known.epoch

    def end_lease(self, gateway: bytes, epoch: int, beat: int | None) -> bool:
        known = self.leases.get(gateway)
        if not known or not known.holds or known.epoch != epoch or beat not in (None, known.beat):
            return False
        self.leases[gateway] = known._replace(holds=False, renewed_at_ms=self.now_ms)
        return True

    def tidy(self, keep_ms: int) -> int:
        """How many leases are dropped: those that ended long ago. One that ended in the future did so under another clock."""
        assert not self.ended_leases(), "nothing is dropped while Sessions are being swept"
        ended = [lease for lease in self.leases.values() if not lease.holds]
        for lease in ended:
            if lease.renewed_at_ms > self.now_ms:
                self.leases[lease.gateway] = lease._replace(renewed_at_ms=self.now_ms)
            elif self.now_ms - lease.renewed_at_ms > keep_ms:
                del self.leases[lease.gateway]
        return len(ended) - sum(not lease.holds for lease in self.leases.values())

    def is_live(self, session: Held) -> bool:
        known = self.leases.get(session.gateway)
        return known is not None and known.holds and known.epoch == session.epoch

    # Sessions

    def open(self, session: Held, policy: DevicePolicy, log: tuple[str, int], is_restored: bool) -> str:
        """The word that opening it answers."""
        known = self.leases.get(session.gateway)
        if not known or known.epoch < session.epoch:
            return "nolease"
        if known.epoch > session.epoch or not known.holds:
            return "fenced"
        if self._is_barred(session.user, *log):
            return "barred"
        here = self.sessions.get(session.user, [])
        if any(one.id == session.id and self.is_live(one) for one in here):
            return "ok"
        replaced = [one for one in here if not is_restored and _replaces(policy, session, one)]
        again = [one for one in here if one.id == session.id]
        if sum(self.is_live(one) for one in here if one not in replaced) >= self.most_sessions:
            return "full"
        self.entries += [self._entry("kick", one, "replaced") for one in replaced if self.is_live(one)]
        believed = self._platforms(session.user)
        if session.platform not in believed:
            kind = "platform-online" if believed else "online"
            self.entries.append(self._entry(kind, session, "", since_ms=self.now_ms))
        self.leaving.get(session.user, {}).pop(session.platform, None)
        self.sessions.setdefault(session.user, []).append(session)
        self._remove(session.user, [*again, *(one for one in replaced if one not in again)], "replaced", FLAP_MS)
        return "ok"

    def close(self, gateway: bytes, epoch: int, user: bytes, session_id: str, why: str) -> str:
        for one in self.sessions.get(user, []):
            if one.id == session_id:
                if one.gateway != gateway:
                    return "foreign"
                if one.epoch != epoch or not self.is_live(one):
                    return "gone"
                self._remove(user, [one], why, FLAP_MS)
                return "closed"
        return "gone"

    def kick(
        self,
        users: Sequence[bytes],
        why: str,
        before_ms: int | None,
        session_id: str,
        platform: str,
        log: tuple[str, int],
    ) -> int:
        """How many live Sessions it closes."""
        closed = 0
        epoch, seq = log
        for user in users:
            if epoch:
                known = self.bars.get(user)
                higher = known[1] if known and known[0] == epoch and known[1] > seq else seq
                self.bars[user] = (epoch, higher, self.now_ms)
            gone = [
                one
                for one in self.sessions.get(user, [])
                if session_id in ("", one.id)
                and platform in ("", one.platform)
                and (before_ms is None or one.minted_at_ms < before_ms)
            ]
            live = [one for one in gone if self.is_live(one)]
            self.entries += [self._entry("kick", one, why) for one in live]
            closed += len(live)
            self._remove(user, gone, why, 0)
        if epoch and not self.leases:
            self.drop_old_bars({self.slicing.place(user) for user in users})
        return closed

    def touch(self, sessions: Sequence[tuple[bytes, str]]) -> int:
        found = [one for user, wanted in sessions for one in self.sessions.get(user, []) if one.id == wanted]
        live = [one for one in found if self.is_live(one)]
        for one in live:
            one.active_ms = self.now_ms
        return len(live)

    # What the store chooses the order of

    def swept(self, kept: dict[bytes, set[str]], ended: int) -> None:
        """A sweep left these Sessions of these Users."""
        for user, here in list(self.sessions.items()):
            gone = [one for one in here if one.id not in kept.get(user, set())]
            assert not any(map(self.is_live, gone)), "a sweep ended a Session that is live"
            ended -= len(gone)
            self._remove(user, gone, "lease-ended", FLAP_MS, any_last=True)
        assert ended == 0

    def drop_old_bars(self, slices: Collection[int]) -> None:
        """A bar that is older goes; and one of the future is of a clock that was set back. The floor is where it was."""
        for user, (epoch, seq, at_ms) in list(self.bars.items()):
            at = self.slicing.place(user)
            if at in slices and abs(self.now_ms - at_ms) > BAR_MS:
                del self.bars[user]
                floors = self.floors.setdefault(at, {})
                floors[epoch] = max(floors.get(epoch, 0), seq)

    def set_floors(self, floors: Mapping[str, int]) -> None:
        self.floors, self.bars = {at: dict(floors) for at in range(self.slicing.slices)}, {}

    def grow(self, slices: int) -> None:
        """New slices have the floors of all old ones."""
        old = [(epoch, seq) for floors in self.floors.values() for epoch, seq in floors.items()]
        for at in range(self.slicing.slices, slices):
            self.floors |= {at: {epoch: max(seq for one, seq in old if one == epoch) for epoch, _ in old}}
        self.slicing = Slicing(slices)

    def _is_barred(self, user: bytes, epoch: str, seq: int) -> bool:
        bar_epoch, bar_seq, _ = self.bars.get(user, (epoch, 0, 0))
        floor = self.floors.get(self.slicing.place(user), {}).get(epoch, 0)
        return bar_epoch != epoch or bar_seq > seq or floor > seq

    def announced(self, events: Sequence[Event]) -> None:
        """Departures were announced in this order."""
        for event in events:
            departure = self.leaving[event.user][event.platform]
            assert self._is_due(departure), f"announced before it lasted: {event}"
            del self.leaving[event.user][event.platform]
            kind = "platform-offline" if self._platforms(event.user) else "offline"
            may_be = [self._entry(kind, one, departure.why, since_ms=departure.at_ms) for one in departure.last]
            assert entry_of(event) in may_be

    def expect_none_due(self) -> None:
        """Nothing is left to announce. Who has a departure that is not due waits with all that a clock misdated."""
        for user, departures in self.leaving.items():
            oldest = min(departures.values(), key=lambda one: one.due_ms, default=None)
            assert oldest is None or not self._is_due(oldest), user

    # Reads

    def live(self, user: bytes) -> tuple[Session, ...]:
        return tuple(one.shown for one in self.sessions.get(user, []) if self.is_live(one))

    def presence(self, user: bytes) -> UserPresence:
        sessions = self.live(user)
        active_ms = max((max(one.since_ms, one.active_ms) for one in sessions), default=0)
        return UserPresence(sessions, self.seen_ms.get(user, 0), max(active_ms, self.active_ms.get(user, 0)))

    def counts(self) -> dict[tuple[bytes, str], int]:
        every = (one for user in self.sessions for one in self.live(user))
        return dict(Counter((one.gateway, one.platform) for one in every))

    def ended_leases(self) -> set[tuple[bytes, int]]:
        """Those that still have Sessions to be swept."""
        every = [one for here in self.sessions.values() for one in here]
        return {(one.gateway, one.epoch) for one in every if not self.is_live(one)}

    # Within

    def _remove(self, user: bytes, gone: Sequence[Held], why: str, delay_ms: int, any_last: bool = False) -> None:
        if not gone:
            return
        here = [one for one in self.sessions.get(user, []) if one not in gone]
        platforms = {one.platform for one in here}
        for one in gone:
            if one.platform not in platforms:
                last = [other for other in gone if other.platform == one.platform]
                departure = Departure(self.now_ms + delay_ms, self.now_ms, last if any_last else last[-1:], why)
                self.leaving.setdefault(user, {})[one.platform] = departure
        self.active_ms[user] = max([self.active_ms.get(user, 0), *(one.activity_ms for one in gone)])
        if here:
            self.sessions[user] = here
        else:
            del self.sessions[user]
            self.seen_ms[user] = self.now_ms

    def _platforms(self, user: bytes) -> set[str]:
        """Those that followers of the feed believe the User to be on."""
        return {one.platform for one in self.sessions.get(user, [])} | set(self.leaving.get(user, {}))

    def _is_due(self, departure: Departure) -> bool:
        """Also what could not be due so late, unless the clock was set back since."""
        return departure.due_ms <= self.now_ms or departure.due_ms > self.now_ms + FLAP_MS

    def _entry(self, kind: str, session: Held, why: str, since_ms: int | None = None) -> FeedEntry:
        named = full_session_id(session.id, session.user)
        since_ms = self.now_ms if since_ms is None else since_ms
        return kind, session.user, named, session.platform, session.gateway, session.ip, why, since_ms


def entry_of(event: Event) -> FeedEntry:
    """An entry of the feed but for where it stands."""
    return event.kind, event.user, event.session, event.platform, event.gateway, event.ip, event.why, event.since_ms


def _replaces(policy: DevicePolicy, newer: Held, older: Held) -> bool:
    return policy == "one" or (policy == "one-per-platform" and older.platform == newer.platform)
