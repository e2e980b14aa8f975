"""Rate limits: the bucket by itself on a clock that the test turns, and the answers over HTTP."""

from __future__ import annotations

import msgspec
import pytest

from gate.core.limits import CLIENT_DEFAULTS, EACH_CLIENT, EACH_CLIENT_ASKED, LIMITABLE, limit_names
from gate.core.model import AppFacts
from gate.http import client, rongcloud, v1
from gate.http.client import websocket
from gate.http.limits import Limiter, OwnTable, RateExceeded
from harness.websocket import connect
from tests.http.test_client_blacklist import PATH, token_of
from tests.http.world import World, signed


class Clock:
    now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


def app(**rates: int) -> AppFacts:
    return AppFacts(
        key="app", secrets=("s",), rate_limits={name.replace("_", "/"): rate for name, rate in rates.items()}
    )


def passed(limiter: Limiter, facts: AppFacts, tries: int, *names: str, user: bytes = b"") -> int:
    count = 0
    for _ in range(tries):
        try:
            limiter.spend(facts, names, user)
        except RateExceeded:
            continue
        count += 1
    return count


def test_a_seconds_worth_at_once_then_as_time_passes(clock: Clock) -> None:
    limiter = Limiter(clock)
    assert passed(limiter, app(user=10), 100, "user") == 10
    clock.now_ms += 99
    assert passed(limiter, app(user=10), 100, "user") == 0
    clock.now_ms += 1
    assert passed(limiter, app(user=10), 100, "user") == 1
    clock.now_ms += 3_600_000
    assert passed(limiter, app(user=10), 100, "user") == 10


def test_over_any_second_the_rate_holds_within_the_burst(clock: Clock) -> None:
    limiter = Limiter(clock)
    count = 0
    for _ in range(10_000):
        count += passed(limiter, app(user=7), 1, "user")
        clock.now_ms += 1
    assert 70 <= count <= 77


def test_an_app_without_limits_has_none(clock: Clock) -> None:
    assert passed(Limiter(clock), app(), 1_000, "user", "user/block") == 1_000
    assert passed(Limiter(clock), app(v1=1), 1_000, "user", "user/block") == 1_000


def test_a_refused_call_takes_from_no_bucket(clock: Clock) -> None:
    limiter, facts = Limiter(clock), app(user=3, user_block=1)
    assert passed(limiter, facts, 10, "user", "user/block") == 1
    assert passed(limiter, facts, 10, "user", "user/unblock") == 2


def test_apps_do_not_share(clock: Clock) -> None:
    limiter = Limiter(clock)
    other = msgspec.structs.replace(app(user=1), key="other")
    assert passed(limiter, app(user=1), 5, "user") == passed(limiter, other, 5, "user") == 1


def test_one_user_may_not_use_up_what_is_everybodys(clock: Clock) -> None:
    limiter = Limiter(clock)
    facts = AppFacts(key="app", secrets=("s",), rate_limits={EACH_CLIENT: 2, "client": 5})
    assert [passed(limiter, facts, 9, "client", EACH_CLIENT, user=user) for user in (b"a", b"b", b"c")] == [2, 2, 1]


def test_a_lowered_rate_holds_at_once(clock: Clock) -> None:
    limiter = Limiter(clock)
    assert passed(limiter, app(user=100), 1, "user") == 1
    assert passed(limiter, app(user=2), 100, "user") == 2


def test_buckets_are_bounded(clock: Clock) -> None:
    limiter = Limiter(clock, OwnTable(10))
    facts = AppFacts(key="app", secrets=("s",), rate_limits={EACH_CLIENT: 1})
    for number in range(100):
        limiter.spend(facts, [EACH_CLIENT], b"%d" % number)
    assert [passed(limiter, facts, 1, EACH_CLIENT, user=b"%d" % number) for number in (99, 90, 89)] == [0, 0, 1]


def test_every_name_covers_an_endpoint() -> None:
    paths = [*rongcloud.ENDPOINTS, *(path for path, _ in (*v1.ENDPOINTS, *client.ENDPOINTS)), websocket.PATH]
    covering = {name for path in paths for name in limit_names(path)} | {EACH_CLIENT, EACH_CLIENT_ASKED}
    assert LIMITABLE - covering == set()


async def test_rongclouds_wording_is_429_and_1008(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, rate_limits={"user/checkOnline": 1}))
    answers = [await world.user("checkOnline.json", [("userId", "a")]) for _ in range(3)]
    assert answers[0].status == 200
    reply = answers[-1]
    assert (reply.status, reply.body["code"], reply.headers["Retry-After"]) == (429, 1008, "1")
    assert set(reply.body) == {"code", "errorMessage", "url"}
    assert (await world.user("block/query.json")).status == 200


async def test_v1_and_clients_are_429_too(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, rate_limits={"v1/bans": 1, "client": 1}))
    for _ in range(3):
        reply = await world.v1("GET", "bans")
    assert (reply.status, reply.body["error"], reply.headers["Retry-After"]) == (429, "rate-limited", "1")
    for _ in range(3):
        reply = await world.send("GET", PATH, headers={"Authorization": f"Bearer {token_of(world.app)}"})
    assert (reply.status, reply.body["error"]) == (429, "rate-limited")


async def test_who_is_not_the_app_uses_up_nothing(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, rate_limits={"user": 1}))
    for _ in range(5):
        headers = {**signed(world.app, secret="wrong"), "Content-Type": "application/x-www-form-urlencoded"}
        assert (await world.send("POST", "/user/block/query.json", b"", headers)).status == 401
    assert (await world.user("block/query.json")).status == 200


def asked(limiter: Limiter, facts: AppFacts, user: bytes, many: int) -> int:
    """How many seconds to wait; 0 if it may ask."""
    try:
        limiter.spend_asked(facts, user, many)
    except RateExceeded as fault:
        return fault.retry_after_s
    return 0


def test_a_question_is_weighed_by_the_users_it_names(clock: Clock) -> None:
    limiter, facts = Limiter(clock), app()
    assert [asked(limiter, facts, b"ann", 1_000) for _ in range(2)] == [0, 5]
    assert asked(limiter, facts, b"bob", 1_000) == 0
    clock.now_ms += 1_000
    assert [asked(limiter, facts, b"ann", 1) for _ in range(201)] == [0] * 200 + [1]
    clock.now_ms += 4_999
    assert asked(limiter, facts, b"ann", 1_000) == 1
    clock.now_ms += 1
    assert asked(limiter, facts, b"ann", 1_000) == 0
    slower = msgspec.structs.replace(facts, rate_limits={EACH_CLIENT_ASKED: 1})
    assert [asked(limiter, slower, b"eve", 10) for _ in range(101)] == [0] * 100 + [10]


def test_end_users_are_limited_unless_the_app_says_otherwise(clock: Clock) -> None:
    limiter, default = Limiter(clock), CLIENT_DEFAULTS[EACH_CLIENT]
    assert passed(limiter, app(), 200, "client", EACH_CLIENT, user=b"ann") == default
    freer = AppFacts(key="app", secrets=("s",), rate_limits={EACH_CLIENT: 1_000})
    assert passed(limiter, freer, 200, "client", EACH_CLIENT, user=b"bob") == 200


async def test_presence_of_a_thousand_is_a_thousand_on_every_way(world: World) -> None:
    many = [f"u{number}" for number in range(1_000)]
    header = {"Authorization": f"Bearer {token_of(world.app, 'ann')}"}
    target = "/client/v1/presence?" + "&".join(f"user={one}" for one in many)
    assert (await world.send("GET", target, headers=header)).status == 200
    reply = await world.send("GET", target, headers=header)
    assert (reply.status, reply.body["error"], reply.headers["Retry-After"]) == (429, "rate-limited", "5")
    ann = await connect(world.url, token_of(world.app, "ann"))
    answer = await ann.ask("presence", users=many)
    assert (answer["error"], answer["retry_after_s"]) == ("rate-limited", 5)
    assert (await ann.ask("ping"))["type"] == "pong"
    await ann.leave()
