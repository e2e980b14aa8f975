"""Gateways over RESP against a real service: leases, Sessions, kicks and the feed, as a Gateway's author would try them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import requests

from gate.core.model import AppFacts
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.http.world import signed

LEASE_TTL_MS = 1_500
SLACK_S = 10.0


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    return start_module_service.start("--lease-ttl-ms", str(LEASE_TTL_MS))


@pytest.fixture
def gateway(service: GateService) -> Iterator[redis.Redis]:
    with connected(service) as client:
        wait_until(lambda: answers(client), SLACK_S, "Presence")
        yield client


def connected(service: GateService) -> redis.Redis:
    known = service.credentials
    return redis.Redis(port=service.resp_port, username=known.app_key, password=known.app_secret, protocol=3)


def answers(client: redis.Redis) -> bool:
    try:
        client.execute_command("GATE.ONLINE", "anybody")
    except redis.ResponseError:
        return False
    return True


def said(service: GateService, path: str, **fields: object) -> dict[str, Any]:
    known = service.credentials
    app = AppFacts(key=known.app_key, secrets=(known.app_secret,))
    reply = requests.post(f"{service.http}/user/{path}.json", data=fields, headers=signed(app), timeout=10)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def token_of(service: GateService, user: str) -> str:
    token: str = said(service, "getToken", userId=user, name=user)["token"]
    return token


def events_since(client: redis.Redis, cursor: bytes, *options: object) -> list[dict[bytes, Any]]:
    found: list[dict[bytes, Any]] = client.execute_command("GATE.EVENTS", cursor, *options)[1]
    return found


def head(client: redis.Redis) -> bytes:
    cursor: bytes = client.execute_command("GATE.EVENTS", "$")[0]
    return cursor


def test_a_session_is_seen_at_once_and_gone_when_it_is_closed(service: GateService, gateway: redis.Redis) -> None:
    cursor = head(gateway)
    assert gateway.execute_command("GATE.LEASE", "edge", 1) == LEASE_TTL_MS
    session = gateway.execute_command("GATE.CONNECT", token_of(service, "ann"), "iOS", "edge", "10.0.0.1:7")
    assert gateway.execute_command("GATE.ONLINE", "ann", "stranger") == [1, 0]
    (shown,) = gateway.execute_command("GATE.SESSIONS", "ann")
    assert (shown[b"session"], shown[b"platform"], shown[b"gateway"]) == (session, b"iOS", b"edge")
    assert abs(shown[b"since"] - time.time() * 1_000) < 60_000
    assert gateway.execute_command("GATE.ROUTE", "bob", "ann") == [b"allowed", [[b"iOS", b"edge", session]]]
    assert said(service, "checkOnline", userId="ann")["status"] == "1"
    assert gateway.execute_command("GATE.TOUCH", session) == 1
    assert [gateway.execute_command("GATE.DISCONNECT", session) for _ in range(2)] == [1, 0]
    assert gateway.execute_command("GATE.ONLINE", "ann") == [0]
    assert said(service, "checkOnline", userId="ann")["status"] == "0"

    def mine() -> list[bytes]:
        return [e[b"kind"] for e in events_since(gateway, cursor) if e[b"user"] == b"ann"]

    wait_until(lambda: len(mine()) == 2, SLACK_S, "the departure to be announced")
    assert mine() == [b"online", b"offline"]


def test_a_logout_is_distinguished_from_a_connection_that_ended(service: GateService, gateway: redis.Redis) -> None:
    cursor = head(gateway)
    gateway.execute_command("GATE.LEASE", "edge-l", 1)
    for user, words in (("lea", ()), ("leo", ("logout",))):
        session = gateway.execute_command("GATE.CONNECT", token_of(service, user), "iOS", "edge-l")
        assert gateway.execute_command("GATE.DISCONNECT", session, *words) == 1

    def left() -> dict[bytes, bytes]:
        return {e[b"user"]: e[b"why"] for e in events_since(gateway, cursor) if e[b"kind"] == b"offline"}

    wait_until(lambda: len(left()) == 2, SLACK_S, "the departures to be announced")
    assert left() == {b"lea": b"closed", b"leo": b"logout"}


def test_a_blocked_sender_gets_no_route(service: GateService, gateway: redis.Redis) -> None:
    gateway.execute_command("GATE.LEASE", "edge-r", 1)
    gateway.execute_command("GATE.CONNECT", token_of(service, "rae"), "iOS", "edge-r")
    said(service, "blacklist/add", userId="rae", blackUserId="pest")
    assert gateway.execute_command("GATE.ROUTE", "pest", "rae") == [b"blacklisted", []]


def test_the_sessions_of_a_silent_gateway_end_and_can_not_be_revived(
    service: GateService, gateway: redis.Redis
) -> None:
    gateway.execute_command("GATE.LEASE", "dying", 7)
    gateway.execute_command("GATE.CONNECT", token_of(service, "sue"), "iOS", "dying")
    assert gateway.execute_command("GATE.ONLINE", "sue") == [1]
    began = time.monotonic()
    wait_until(lambda: gateway.execute_command("GATE.ONLINE", "sue") == [0], SLACK_S, "the lease to end")
    assert time.monotonic() - began > LEASE_TTL_MS / 1_000 - 0.1
    with pytest.raises(redis.ResponseError, match=r"^FENCED"):
        gateway.execute_command("GATE.LEASE", "dying", 7)
    with pytest.raises(redis.ResponseError, match=r"^FENCED"):
        gateway.execute_command("GATE.CONNECT", token_of(service, "sue"), "iOS", "dying")
    assert gateway.execute_command("GATE.LEASE", "dying", 8) == LEASE_TTL_MS
    assert gateway.execute_command("GATE.ONLINE", "sue") == [0]


def test_a_gateway_that_renews_keeps_its_sessions(service: GateService, gateway: redis.Redis) -> None:
    gateway.execute_command("GATE.LEASE", "steady", 1)
    gateway.execute_command("GATE.CONNECT", token_of(service, "kim"), "iOS", "steady")
    until = time.monotonic() + 2.5 * LEASE_TTL_MS / 1_000

    def renewed_to_the_end() -> bool:
        gateway.execute_command("GATE.LEASE", "steady", 1)
        assert gateway.execute_command("GATE.ONLINE", "kim") == [1]
        return time.monotonic() > until

    wait_until(renewed_to_the_end, SLACK_S, "two and a half leases to pass")


def test_a_higher_epoch_ends_the_sessions_of_the_lower_at_once(service: GateService, gateway: redis.Redis) -> None:
    gateway.execute_command("GATE.LEASE", "again", 1)
    gateway.execute_command("GATE.CONNECT", token_of(service, "lou"), "iOS", "again")
    with connected(service) as other:
        other.execute_command("GATE.LEASE", "again", 2)
        assert other.execute_command("GATE.ONLINE", "lou") == [0]
    with pytest.raises(redis.ResponseError, match=r"^FENCED"):
        gateway.execute_command("GATE.CONNECT", token_of(service, "lou"), "iOS", "again")


@pytest.mark.parametrize("deed", ["block", "deactivate"])
def test_a_ban_or_a_deactivation_closes_sessions_and_the_gateway_hears_it(
    deed: str, service: GateService, gateway: redis.Redis
) -> None:
    user, token = f"rude-{deed}", token_of(service, f"rude-{deed}")
    gateway.execute_command("GATE.LEASE", "doors", 1)
    session = gateway.execute_command("GATE.CONNECT", token, "Android", "doors")
    cursor = head(gateway)
    said(service, deed, userId=user, **({"minute": 5} if deed == "block" else {}))
    (kick,) = wait_until(lambda: events_since(gateway, cursor, "GATEWAY", "doors"), SLACK_S, "the kick")
    assert (kick[b"kind"], kick[b"session"]) == (b"kick", session)
    assert kick[b"why"] == {"block": b"banned", "deactivate": b"deactivated"}[deed]
    assert gateway.execute_command("GATE.ONLINE", user) == [0]
    with pytest.raises(redis.ResponseError, match={"block": "^BANNED", "deactivate": "^DEACTIVATED"}[deed]):
        gateway.execute_command("GATE.CONNECT", token, "Android", "doors")
    assert events_since(gateway, cursor, "GATEWAY", "elsewhere") == []


def test_pipelines_keep_their_order(service: GateService, gateway: redis.Redis) -> None:
    said(service, "blacklist/add", userId="owner", blackUserId="pest")
    tokens = [token_of(service, f"many-{nth}") for nth in range(20)]
    asked = gateway.pipeline(transaction=False)
    asked.execute_command("GATE.LEASE", "busy", 1)
    for nth in range(2_000):
        asked.execute_command("GATE.CONNECT", tokens[nth % 20], "iOS", "busy")
        asked.execute_command("GATE.CHECK", "pest" if nth % 2 else "friend", "owner")
    lease, *replies = asked.execute(raise_on_error=False)
    assert lease == LEASE_TTL_MS
    assert replies[1::2] == [0 if nth % 2 else 1 for nth in range(2_000)]
    opened, refused = replies[:2_560:2], replies[2_560::2]
    assert all(isinstance(one, bytes) for one in opened), "64 of each"
    assert all("64 Sessions" in str(one) for one in refused)
    asked = gateway.pipeline(transaction=False)
    for session in opened:
        asked.execute_command("GATE.DISCONNECT", session)
    assert asked.execute() == [1] * len(opened)


WRONG = [
    (("GATE.CONNECT", "gt1.AAAA", "iOS", "edge-w"), "^BADTOKEN"),
    (("GATE.CONNECT", "\x00\xff", "iOS", "edge-w"), "^BADTOKEN"),
    (("GATE.CONNECT", "{token}", "i OS", "edge-w"), "^platform: must be"),
    (("GATE.CONNECT", "{token}", "iOS", "edge-w", "a b"), "^ip: must be"),
    (("GATE.CONNECT", "{token}", "iOS", "not-mine"), "^NOLEASE"),
    (("GATE.CONNECT", "{token}", "iOS", ""), "^gateway: must be"),
    (("GATE.LEASE", "edge-w", "0"), r"^epoch: must be a whole number from 1 to \d+, got '0'$"),
    (("GATE.LEASE", "edge-w", "-1"), "^epoch: must be"),
    (("GATE.LEASE", "edge-w", "9" * 40), "^epoch: must be"),
    (("GATE.LEASE", "x" * 65, "1"), "^gateway: must be"),
    (("GATE.DISCONNECT", "no-session"), "^session: must be"),
    (("GATE.EVENTS", "yesterday"), "^cursor: must be"),
    (("GATE.EVENTS", "abc-5-5"), "^RESET"),
    (("GATE.EVENTS", "$", "COUNT", "0"), "^COUNT: must be"),
    (("GATE.EVENTS", "$", "COUNT"), "^syntax: expected"),
    (("GATE.ONLINE", ""), "^user: must be"),
    (("GATE.SESSIONS", "u" * 65), "^user: must be"),
]


@pytest.mark.parametrize(("command", "problem"), WRONG)
def test_what_is_wrong_is_said_and_costs_nothing_else(
    command: tuple[str, ...], problem: str, service: GateService, gateway: redis.Redis
) -> None:
    gateway.execute_command("GATE.LEASE", "edge-w", 1)
    token = token_of(service, "wes")
    with pytest.raises(redis.ResponseError, match=problem):
        gateway.execute_command(*(part.format(token=token) if part == "{token}" else part for part in command))
    assert gateway.execute_command("GATE.CHECK", "a", "b") == 1


def test_another_gateways_session_can_not_be_closed(service: GateService, gateway: redis.Redis) -> None:
    gateway.execute_command("GATE.LEASE", "owner-of-it", 1)
    session = gateway.execute_command("GATE.CONNECT", token_of(service, "pat"), "iOS", "owner-of-it")
    with connected(service) as liar:
        with pytest.raises(redis.ResponseError, match=r"^NOLEASE"):
            liar.execute_command("GATE.DISCONNECT", session)
        liar.execute_command("GATE.LEASE", "liar", 1)
        with pytest.raises(redis.ResponseError, match="another Gateway holds"):
            liar.execute_command("GATE.DISCONNECT", session)
    gateway.execute_command("GATE.LEASE", "owner-of-it", 1)
    assert gateway.execute_command("GATE.ONLINE", "pat") == [1]


def test_a_token_of_another_app_opens_nothing(service: GateService, gateway: redis.Redis) -> None:
    known = service.credentials
    made = requests.post(
        f"{service.http}/v1/apps", json={"name": "other"}, auth=(known.operator, known.operator_password), timeout=10
    ).json()
    other = AppFacts(key=made["app_key"], secrets=(made["app_secret"],))
    reply = requests.post(
        f"{service.http}/user/getToken.json", data={"userId": "spy", "name": "spy"}, headers=signed(other), timeout=10
    )
    gateway.execute_command("GATE.LEASE", "edge-o", 1)
    with pytest.raises(redis.ResponseError, match=r"^BADTOKEN"):
        gateway.execute_command("GATE.CONNECT", reply.json()["token"], "iOS", "edge-o")


@pytest.mark.parametrize(("policy", "left"), [("all", 3), ("one-per-platform", 2), ("one", 1)])
def test_the_app_says_how_many_devices(policy: str, left: int, service: GateService, gateway: redis.Redis) -> None:
    known, user = service.credentials, f"multi-{policy}"
    reply = requests.patch(
        f"{service.http}/v1/apps/{known.app_key}",
        json={"device_policy": policy},
        auth=(known.operator, known.operator_password),
        timeout=10,
    )
    assert reply.status_code == 200, reply.text
    gateway.execute_command("GATE.LEASE", "edge-d", 1)
    cursor, token = head(gateway), token_of(service, user)
    opened = [gateway.execute_command("GATE.CONNECT", token, kind, "edge-d") for kind in ("iOS", "web", "iOS")]
    shown = [one[b"session"] for one in gateway.execute_command("GATE.SESSIONS", user)]
    assert shown == {"all": opened, "one-per-platform": opened[1:], "one": opened[2:]}[policy]
    replaced = [e[b"session"] for e in events_since(gateway, cursor, "GATEWAY", "edge-d") if e[b"why"] == b"replaced"]
    assert sorted(replaced) == sorted(set(opened) - set(shown))
    assert len(shown) == left


def test_the_next_renewal_restores_sessions_in_a_redis_that_lost_all(
    private_redis: RedisServer, start_service: Services
) -> None:
    service = start_service.start(redis_url=private_redis.url)
    with connected(service) as gateway:
        wait_until(lambda: answers(gateway), SLACK_S, "Presence")
        gateway.execute_command("GATE.LEASE", "edge", 1)
        gateway.execute_command("GATE.CONNECT", token_of(service, "ann"), "iOS", "edge")
        gone = gateway.execute_command("GATE.CONNECT", token_of(service, "bea"), "iOS", "edge")
        gateway.execute_command("GATE.DISCONNECT", gone)
        names = private_redis.client.scan_iter(f"gate:{{{service.credentials.app_key}}}:*")
        private_redis.client.delete(*names)
        assert gateway.execute_command("GATE.ONLINE", "ann") == [0]
        gateway.execute_command("GATE.LEASE", "edge", 1)
        assert gateway.execute_command("GATE.ONLINE", "ann", "bea") == [1, 0]


def test_while_redis_is_away_presence_is_unavailable_and_none_is_swept(
    private_redis: RedisServer, start_service: Services
) -> None:
    service = start_service.start("--lease-ttl-ms", "1000", redis_url=private_redis.url)
    with connected(service) as gateway:
        wait_until(lambda: answers(gateway), SLACK_S, "Presence")
        gateway.execute_command("GATE.LEASE", "edge", 1)
        gateway.execute_command("GATE.CONNECT", token_of(service, "ann"), "iOS", "edge")
        with private_redis.paused():
            with pytest.raises(redis.ResponseError, match=r"^UNAVAILABLE"):
                gateway.execute_command("GATE.ONLINE", "ann")
            assert gateway.execute_command("GATE.CHECK", "a", "b") == 1
            until = time.monotonic() + 2.0
            wait_until(lambda: time.monotonic() > until, SLACK_S, "two leases to pass")
        wait_until(lambda: answers(gateway), SLACK_S, "Redis to be back")
        gateway.execute_command("GATE.LEASE", "edge", 1)
        assert gateway.execute_command("GATE.ONLINE", "ann") == [1]


def test_an_app_whose_presence_has_slices_answers_as_any_other(service: GateService, gateway: redis.Redis) -> None:
    known, cursor, users = service.credentials, head(gateway), [f"sliced-{nth}" for nth in range(12)]
    gateway.execute_command("GATE.LEASE", "edge-s", 7)  # slices come with an App's first Gateway
    operator = known.operator, known.operator_password
    url, wanted = f"{service.http}/v1/apps/{known.app_key}", {"presence_slices": 4}
    assert requests.patch(url, json=wanted, auth=operator, timeout=10).status_code == 200
    wait_until(lambda: head(gateway).count(b".") == 3, SLACK_S, "a cursor of four slices")
    gateway.execute_command("GATE.LEASE", "edge-s", 7)
    connecting = gateway.pipeline(transaction=False)
    for user in users:
        connecting.execute_command("GATE.CONNECT", token_of(service, user), "iOS", "edge-s")
    gateway.execute_command("GATE.LEASE", "edge-s", 7)
    sessions = connecting.execute()
    assert gateway.execute_command("GATE.ONLINE", *users, "stranger") == [1] * len(users) + [0]
    assert gateway.execute_command("GATE.TOUCH", *sessions) == len(users)
    assert [gateway.execute_command("GATE.SESSIONS", user)[0][b"session"] for user in users] == sessions
    closing = gateway.pipeline(transaction=False)
    for session in sessions * 2:
        closing.execute_command("GATE.DISCONNECT", session)
    assert closing.execute() == [1] * len(users) + [0] * len(users)

    def kinds() -> dict[str, list[bytes]]:
        events = events_since(gateway, cursor, "COUNT", 1_000)
        return {user: [one[b"kind"] for one in events if one[b"user"] == user.encode()] for user in users}

    wait_until(lambda: all(len(some) == 2 for some in kinds().values()), SLACK_S, "all departures")
    assert set(map(tuple, kinds().values())) == {(b"online", b"offline")}
    with pytest.raises(redis.ResponseError, match=r"^FENCED"):
        gateway.execute_command("GATE.LEASE", "edge-s", 6)
