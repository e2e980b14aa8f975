"""Drives the store and the naive model of Presence at once, and compares them after each step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar, cast

import msgspec
import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gate.core.model import AppFacts
from gate.core.presence import LEASE_KEPT_MS, Cursor
from gate.core.sessions import OpenSession
from gate.errors import FeedReset, SessionRefused
from gate.store import presence as presence_module
from gate.store import presence_keys as keys
from gate.store import scripts
from gate.store.address import parse_address
from gate.store.feed import Feed
from gate.store.presence import NO_POSITION, LogPosition, PresenceStore, closed, opened
from gate.store.slicing import SlicedCall
from harness.servers import RedisServer
from tests.presence.played import PATIENCE_MS, spread
from tests.presence.takes_turns import TakesTurns
from tests.store import presence_domain as domain
from tests.store.played_clock import PlayedClock, put_away, set_clock
from tests.store.presence_domain import APP, GATEWAYS, LOGS, MOST_GATEWAYS, MOST_SESSIONS, NOON_US, PLATFORMS, USERS
from tests.store.presence_model import FLAP_MS, Held, Model, entry_of

T = TypeVar("T")


class Agrees(RuleBasedStateMachine):
    """One App, driven through the store and the model at once."""

    def __init__(self, server: RedisServer, most_slices: int) -> None:
        super().__init__()
        self.most_slices = most_slices
        self.client: redis.Redis = server.client
        self.client.flushall()
        self.runner = asyncio.Runner()
        self.store = PresenceStore(PlayedClock(parse_address(server.url), PATIENCE_MS, PATIENCE_MS))
        self.now_us = NOON_US
        self.model = Model(0, MOST_SESSIONS, MOST_GATEWAYS)
        self.made: list[Held] = []
        self.feed = Feed(self.store.client, APP)
        self.cursor = Cursor("0", 0, 0)
        self.turns = TakesTurns()
        self._move(0)

    def teardown(self) -> None:
        self._settles()
        self.run(self.store.client.aclose())
        self.runner.close()
        put_away(self.client, APP, self.most_slices)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    users = st.sampled_from(USERS)
    gateways = st.sampled_from(GATEWAYS)
    platforms = st.sampled_from(PLATFORMS)
    policies = st.sampled_from(["all", "all", "one-per-platform", "one"])
    offsets = st.sampled_from([0, 0, 0, 0, -1, 1])

    # Leases

    @initialize()
    def gateways_arrive(self) -> None:
        for gateway in GATEWAYS[:2]:
            self.take_lease(gateway, None)

    @rule(gateway=gateways, offset=st.sampled_from([0, 0, None, -1, 1, 5]))
    def take_lease(self, gateway: bytes, offset: int | None) -> None:
        epoch = None if offset is None else max(1, self._epoch(gateway) + offset)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(presence_module, "MAX_GATEWAYS_AN_APP", MOST_GATEWAYS)
            try:
                leased: tuple[Any, ...] | None = tuple(self.run(self.store.lease(APP, gateway, epoch)))
            except SessionRefused as refused:
                assert refused.fault == "too-many-gateways"
                leased = None
        assert leased == self.model.lease(gateway, epoch)

    @rule(gateway=gateways, offset=offsets, beats=st.sampled_from([None, 0, 0, -1]))
    def lose_lease(self, gateway: bytes, offset: int, beats: int | None) -> None:
        known = self.model.leases.get(gateway)
        epoch, beat = self._epoch(gateway) + offset, None if beats is None or known is None else known.beat + beats
        assert self.run(self.store.end_lease(APP, gateway, epoch, beat)) == self.model.end_lease(gateway, epoch, beat)

    # Sessions

    @rule(
        user=users, gateway=gateways, platform=platforms, policy=policies, offset=offsets, log=st.sampled_from(LOGS),
        minted_at_ms=st.integers(1, 9), ip=st.sampled_from(["", "10.0.0.1"]),
    )  # fmt: skip
    def connect(
        self, user: bytes, gateway: bytes, platform: str, policy: Any, offset: int, log: tuple[str, int],
        minted_at_ms: int, ip: str,
    ) -> None:  # fmt: skip
        epoch = max(1, self._epoch(gateway) + offset)
        number = f"{len(self.made):011d}"
        held = Held(number, user, platform, gateway, epoch, self.model.now_ms, ip, minted_at_ms)
        self.made.append(held)
        self._open(held, policy, log, None)

    @precondition(lambda self: self.made)
    @rule(policy=policies, which=st.integers(0, 1_000), ago_ms=st.integers(0, 5_000), log=st.sampled_from(LOGS))
    def bring_back(self, policy: Any, which: int, ago_ms: int, log: tuple[str, int]) -> None:
        """As a Gateway does after Redis lost a Session, or its lease ended and it took the next."""
        old = self.made[-1 - which % min(8, len(self.made))]
        since_ms = self.model.now_ms - ago_ms
        held = Held(
            old.id, old.user, old.platform, old.gateway, self._epoch(old.gateway), since_ms, old.ip, old.minted_at_ms
        )
        self._open(held, policy, log, since_ms)

    @precondition(lambda self: self.made)
    @rule(which=st.integers(0, 1_000), gateway=st.none() | gateways, offset=offsets)
    def disconnect(self, which: int, gateway: bytes | None, offset: int) -> None:
        one = self._some(which)
        by = gateway or one.gateway
        epoch = self._epoch(by) + offset
        call = self.store.closing(APP, by, epoch, one.user, one.id, "closed")
        (reply,) = self.run(self.store.exchange(call))
        assert closed(reply) == self.model.close(by, epoch, one.user, one.id, "closed")

    steps = st.lists(st.tuples(st.sampled_from([0, 0, 1, 2, 3]), users, platforms), min_size=2, max_size=9)

    @rule(steps=steps, gateway=gateways, policy=policies, offset=offsets, log=st.sampled_from(LOGS))
    def storm(self, steps: Any, gateway: bytes, policy: Any, offset: int, log: tuple[str, int]) -> None:
        """Many at once, which go out as a few scripts: each finds what the one before it left."""
        epoch, calls, expected = max(1, self._epoch(gateway) + offset), list[SlicedCall](), list[Callable[[], Any]]()
        for back, user, platform in steps:
            if back and len(self.made) >= back:
                closing = epoch, self.made[-back].user, self.made[-back].id, "closed"
                calls.append(self.store.closing(APP, gateway, *closing))
                expected.append(partial(self.model.close, gateway, *closing))
                continue
            self.made.append(Held(f"{len(self.made):011d}", user, platform, gateway, epoch, self.model.now_ms, "", 1))
            calls.append(self._opening(self.made[-1], policy, log, None))
            expected.append(partial(self.model.open, self.made[-1], policy, log, False))
        replies = self.run(self.store.exchange(*calls))
        read = [opened if call.script is scripts.PRESENCE_OPEN else closed for call in calls]
        assert [one(reply) for one, reply in zip(read, replies, strict=True)] == [one() for one in expected]

    @rule(
        users=st.lists(users, min_size=1, max_size=2, unique=True),
        before_ms=st.none() | st.integers(1, 9),
        platform=st.sampled_from(["", "", *PLATFORMS]),
        log=st.sampled_from([("", 0), *LOGS]),
    )
    def kick(self, users: list[bytes], before_ms: int | None, platform: str, log: tuple[str, int]) -> None:
        up_to = LogPosition(*log) if log[0] else NO_POSITION
        asked = self.store.kick(APP, users, "banned", minted_before_ms=before_ms, platform=platform, up_to=up_to)
        assert self.run(asked) == self.model.kick(users, "banned", before_ms, "", platform, log)

    @precondition(lambda self: self.made)
    @rule(which=st.integers(0, 1_000), user=st.none() | users)
    def kick_session(self, which: int, user: bytes | None) -> None:
        one = self._some(which)
        of = user or one.user
        asked = self.store.kick(APP, [of], "kicked", stored_id=one.id)
        assert self.run(asked) == self.model.kick([of], "kicked", None, one.id, "", ("", 0))

    @precondition(lambda self: self.made)
    @rule(which=st.lists(st.integers(0, 1_000), min_size=1, max_size=3, unique=True))
    def touch(self, which: list[int]) -> None:
        pairs = list(dict.fromkeys((one.user, one.id) for one in map(self._some, which)))
        (found,) = self.run(self.store.exchange(self.store.touching(APP, pairs)))
        assert sum(found) == self.model.touch(pairs)

    # What any node does at any moment

    @rule(room=st.sampled_from([1, 1, 2, 200]))
    def sweep(self, room: int) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(presence_module, "SWEPT_A_SCRIPT", room)
            ended = sum(self.run(self.store.sweep(APP, at))[0] for at in self._slices)
        assert ended <= room * MOST_SESSIONS * 2 * len(self._slices)
        self.model.swept(self._stored(), ended)

    @rule(room=st.sampled_from([1, 500]))
    def drop_bars(self, room: int) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(presence_module, "BARS_A_SCRIPT", room)
            self._drop_bars()

    @rule(floors=st.lists(st.sampled_from(LOGS), min_size=1, max_size=2).map(dict))
    def set_floors(self, floors: dict[str, int]) -> None:
        self.run(self.store.set_floors(APP, floors))
        self.model.set_floors(floors)

    @rule()
    def tidy(self) -> None:
        if self.client.exists(*(keys.ending(APP, at) for at in self._slices)):
            assert len(self._slices) > 1 or self.run(self.store.tidy(APP)) == 0
            return
        expected = self.model.tidy(LEASE_KEPT_MS)
        assert [self.run(self.store.tidy(APP, at)) for at in self._slices] == [expected] * len(self._slices)

    @precondition(lambda self: self.model.slicing.slices < self.most_slices)
    @rule(by=st.sampled_from([1, 2]))
    def grow(self, by: int) -> None:
        """Users move to new slices. Sessions that are dead by then end on the way."""
        self.feed_agrees()
        before, slices = self._stored_count(), min(self.most_slices, self.model.slicing.slices + by)
        for at in range(slices):
            set_clock(self.client, APP, self.now_us, at)
        self.run(spread(self.store, APP, slices))
        self.model.grow(slices)
        self.model.swept(self._stored(), before - self._stored_count())

    @rule(room=st.sampled_from([1, 2, 200]))
    def announce(self, room: int) -> None:
        self._announce(room)

    @rule(user=users)
    def erase(self, user: bytes) -> None:
        self.run(self.store.forget_users(APP, [user]))
        for kept in (self.model.seen_ms, self.model.active_ms):
            kept.pop(user, None)

    @rule(by_us=st.sampled_from([1, 1_000, 400_000, 999_000, 1_000_000, 1_001_000, 2_500_000, 61_000_000]))
    def time_passes(self, by_us: int) -> None:
        self._move(by_us)

    @rule(by_us=st.sampled_from([-1, -300_000, -5_000_000, -90_000_000, -86_400_000_000, 86_400_000_000]))
    def clock_steps(self, by_us: int) -> None:
        self._move(by_us)

    @rule()
    def everything_settles(self) -> None:
        self._settles()

    @rule(chance=st.integers(0, 9))
    def redis_loses_all(self, chance: int) -> None:
        if chance:
            return
        self.client.flushall()
        self._move(1)
        self.model = Model(self.model.now_ms, MOST_SESSIONS, MOST_GATEWAYS)
        if self.cursor.many:
            with pytest.raises(FeedReset):
                self.run(self.feed.read(self.cursor, 1))
        self.cursor, self.turns = Cursor("0", 0, 0), TakesTurns()

    # What must be so after every step

    @invariant()
    def feed_agrees(self) -> None:
        events = self.run(self.feed.read(self.cursor, domain.ALL_ENTRIES))
        # Of several slices, events of one User alone have an order.
        order = (lambda entry: entry[1]) if len(self._slices) > 1 else lambda entry: b""
        assert sorted(map(entry_of, events), key=order) == sorted(self.model.entries, key=order)
        self._followed(events)

    @invariant()
    def reads_agree(self) -> None:
        live = {user: self.model.live(user) for user in USERS}
        assert self.run(self.store.online(APP, USERS)) == [bool(live[user]) for user in USERS]
        presences = self.run(self.store.presences(APP, USERS))
        assert presences == [self.model.presence(user) for user in USERS]
        page, cursor = self.run(self.store.page(APP, 0, 1_000))
        assert (dict(page), cursor) == ({user: sessions for user, sessions in live.items() if sessions}, 0)
        assert self.run(self.store.leases([APP])) == [sorted(self.model.leases.values())]

    @invariant()
    def counts_agree(self) -> None:
        counts = self.run(self.store.counts(APP))
        assert counts.sessions == self.model.counts()
        assert counts.total == sum(len(self.model.live(user)) for user in USERS)
        assert counts.users == len(self.model.sessions)
        # A lease whose last Sessions were closed otherwise is taken off the list by the next sweep.
        assert counts.sweeping >= len(self.model.ended_leases())

    @invariant()
    def keys_agree(self) -> None:
        """Nothing is kept of a User without Sessions, but when it was seen, what it left a moment ago, and a bar."""
        stored = [one for here in self.model.sessions.values() for one in here]
        assert self._stored() == {user: {one.id for one in here} for user, here in self.model.sessions.items()}
        for at in self._slices:
            self._keys_agree(at, [one for one in stored if self.model.slicing.place(one.user) == at])

    def _keys_agree(self, at: int, stored: list[Held]) -> None:
        def here(users: Mapping[bytes, T]) -> dict[bytes, T]:
            return {user: what for user, what in users.items() if self.model.slicing.place(user) == at}

        held: dict[bytes, set[bytes]] = {}
        for one in stored:
            held.setdefault(keys.held(APP, one.epoch, one.gateway, at), set()).add(one.user)
        base = keys.base(APP, at)
        assert {key: self.client.smembers(key) for key in self.client.keys(base + b"held:*")} == held
        counted = Counter(b"%d:%b:%b" % (one.epoch, one.platform.encode(), one.gateway) for one in stored)
        assert {name: int(many) for name, many in self.client.hgetall(base + b"counts").items()} == counted
        left = here({user: departures for user, departures in self.model.leaving.items() if departures})
        assert set(self.client.hkeys(base + b"left")) == set(left)
        due = {user: float(min(one.due_ms for one in departures.values())) for user, departures in left.items()}
        assert self._scored(base + b"leaving") == due
        barred_here = here(self.model.bars)
        bars = self.client.hgetall(base + b"bars")
        assert bars == {user: b"%b:%d" % (epoch.encode(), seq) for user, (epoch, seq, _) in barred_here.items()}
        assert self._scored(base + b"barred") == {user: float(at_ms) for user, (_, _, at_ms) in barred_here.items()}
        stored_floors = cast("dict[bytes, bytes]", self.client.hgetall(base + b"floors"))
        floors = {epoch.decode(): int(seq) for epoch, seq in stored_floors.items()}
        assert floors == self.model.floors.get(at, {})
        seen = here(self.model.seen_ms) | here(self.model.active_ms)
        assert set(self.client.hkeys(base + b"seen")) == set(seen)
        assert not self.client.exists(base + b"moving")

    # Within

    def _open(self, held: Held, policy: Any, log: tuple[str, int], since_ms: int | None) -> None:
        (reply,) = self.run(self.store.exchange(self._opening(held, policy, log, since_ms)))
        assert opened(reply) == self.model.open(held, policy, log, since_ms is not None)

    def _opening(self, held: Held, policy: Any, log: tuple[str, int], since_ms: int | None) -> SlicedCall:
        app = AppFacts(key=APP, secrets=("s",), device_policy=policy)
        opening = OpenSession(
            app, held.gateway, held.epoch, held.user, held.id, held.platform, held.ip, held.minted_at_ms, *log, since_ms
        )
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(presence_module, "MAX_SESSIONS_A_USER", MOST_SESSIONS)
            return self.store.opening(opening)

    def _announce(self, room: int) -> int:
        self.feed_agrees()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(presence_module, "SWEPT_A_SCRIPT", room)
            announced = [self.run(self.store.announce(APP, at)) for at in self._slices]
        many = sum(one for one, _ in announced)
        next_ms = min((one for _, one in announced if one is not None), default=None)
        events = self.run(self.feed.read(self.cursor, domain.ALL_ENTRIES))
        assert len(events) == many
        self.model.announced(events)
        self._followed(events)
        pending = any(self.model.leaving.values())
        assert (next_ms is not None) == pending
        assert next_ms is None or 0 <= next_ms <= FLAP_MS
        return many

    def _settles(self) -> None:
        """All that is dead is swept, and all that is due announced."""
        self._repeat(lambda: sum(self.run(self.store.sweep(APP, at))[1] for at in self._slices), "sweeping")
        self.model.swept(self._stored(), sum(map(len, self.model.sessions.values())) - self._stored_count())
        self._drop_bars()
        assert not self.model.ended_leases()
        self._repeat(lambda: self._announce(200), "announcing")
        self.model.expect_none_due()

    def _drop_bars(self) -> None:
        self._repeat(lambda: sum(self.run(self.store.drop_bars(APP, at)) for at in self._slices), "dropping bars")
        self.model.drop_old_bars(self._slices)

    def _repeat(self, work: Callable[[], int], what: str) -> None:
        for _ in range(domain.MOST_REPEATS):
            if not work():
                return
        raise AssertionError(f"{what} does not come to an end")

    def _followed(self, events: list[Any]) -> None:
        self.turns.follow(events)
        self.cursor = events[-1].cursor if events else self.cursor
        self.model.entries = []

    def _move(self, by_us: int) -> None:
        self.now_us += by_us
        self.model.now_ms = self.now_us // 1_000
        for at in self._slices:
            set_clock(self.client, APP, self.now_us, at)

    def _epoch(self, gateway: bytes) -> int:
        known = self.model.leases.get(gateway)
        return known.epoch if known else 1

    def _some(self, which: int) -> Held:
        """One of the last that were made; most of them are still there."""
        return self.made[-1 - which % min(12, len(self.made))]

    def _scored(self, key: bytes) -> dict[bytes, float]:
        return dict(cast("list[tuple[bytes, float]]", self.client.zrange(key, 0, -1, withscores=True)))

    def _stored(self) -> dict[bytes, set[str]]:
        read = [cast("dict[bytes, bytes]", self.client.hgetall(keys.sessions(APP, at))) for at in self._slices]
        rows = [row for stored in read for row in stored.items()]
        assert len(rows) == len({user for user, _ in rows})
        return {user: {one[0] for one in msgspec.msgpack.decode(packed)} for user, packed in rows}

    @property
    def _slices(self) -> range:
        return range(self.model.slicing.slices)

    def _stored_count(self) -> int:
        return sum(map(len, self._stored().values()))
