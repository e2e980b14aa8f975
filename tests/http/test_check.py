"""`/v1/check` and `/v1/explain`."""

from __future__ import annotations

import asyncio
import base64
import time

import msgspec
import orjson
import pytest

from gate.core.model import AppFacts
from gate.core.revision import Revision, parse_revisions, partition_of
from gate.http.options import MIN_WAIT_MS
from gate.http.v1.check import MAX_PAIRS
from harness.waiting import TIMER_EARLY_S
from tests.http.world import World, now_ms


async def test_an_allowed_pair(world: World) -> None:
    reply = await world.v1("GET", "check?from=a&to=b")
    assert reply.status == 200
    assert set(reply.body) == {"allowed", "verdict", "until", "revision", "stale_ms"}
    assert (reply.body["allowed"], reply.body["verdict"], reply.body["until"]) == (True, "allowed", None)
    assert reply.body["stale_ms"] == 0


async def test_shadow_mode_answers_allowed_and_explain_the_verdict_of_the_rules(world: World) -> None:
    enforced = world.app
    await world.v1("POST", "bans", {"users": ["a"], "until": now_ms() + 60_000})
    batches: list[dict[str, object]] = [{"pairs": [["a", "b"], ["b", "a"]]}, {"from": "a", "to": ["b", "c"]}]
    for on in (True, False):
        await world.set_app(msgspec.structs.replace(enforced, shadow=on))
        word = "allowed" if on else "sender-banned"
        for query in ("from=a&to=b", "from=%61&to=b"):
            checked = (await world.v1("GET", f"check?{query}")).body
            assert (checked["allowed"], checked["verdict"], checked["until"] is None) == (on, word, on)
            assert set(checked) == {"allowed", "verdict", "until", "revision", "stale_ms"}
        for batch in batches:
            assert (await world.v1("POST", "check", batch)).body["verdicts"][0] == word
        explained = (await world.v1("GET", "explain?from=a&to=b")).body
        assert (explained["verdict"], explained["allowed"]) == ("sender-banned", False)
        assert (explained["shadow"], explained["answered"]) == (on, word)
    counts = world.deps.replica.shadows.take()[enforced.key]
    assert counts.reasons == {"sender-banned": 2 + 1 + 2}
    assert counts.checks == 2 + 2 + 2


async def test_a_denial_is_an_answer_with_its_end(world: World) -> None:
    until_ms = now_ms() + 60_000
    written = await world.v1("POST", "bans", {"users": ["a"], "until": until_ms})
    reply = await world.v1("GET", "check?from=a&to=b")
    assert reply.status == 200
    assert (reply.body["allowed"], reply.body["verdict"], reply.body["until"]) == (False, "sender-banned", until_ms)
    assert set(parse_revisions(written.body["revision"])) <= set(parse_revisions(reply.body["revision"]))


async def test_the_revision_names_the_partitions_of_both(world: World) -> None:
    reply = await world.v1("GET", "check?from=a&to=b")
    wanted = {partition_of(world.app.key, user, world.store.partitions) for user in (b"a", b"b")}
    assert {revision.partition for revision in parse_revisions(reply.body["revision"])} == wanted
    reply = await world.v1("POST", "check", {"pairs": []})
    assert len(parse_revisions(reply.body["revision"])) == world.store.partitions


@pytest.mark.parametrize(
    "odd", [b"\xff\xfe", b"\0", b"a b", b"a+b", b"a&b=c", b"100%", "😀".encode(), b"\r\n", b"x" * 64]
)
async def test_ids_of_any_bytes(world: World, odd: bytes) -> None:
    ids = {"b64": base64.b64encode(odd).decode()}
    await world.v1("POST", "bans", {"users": [ids], "seconds": 60})
    assert await world.word(odd, "x") == "sender-banned"
    assert await world.word(b"x", odd) == "allowed"
    batch = await world.v1("POST", "check", {"pairs": [[ids, "x"], ["x", ids], {"from": ids, "to": ids}]})
    assert batch.body["verdicts"] == ["sender-banned", "allowed", "sender-banned"]
    batch = await world.v1("POST", "check", {"from": ids, "to": ["x", ids]})
    assert batch.body["verdicts"] == ["sender-banned", "sender-banned"]


@pytest.mark.parametrize(
    ("query", "status", "parameter", "problem"),
    [
        ("", 400, "from", "is required"),
        ("?from=a", 400, "to", "is required"),
        ("?from=&to=b", 400, "from", "is required"),
        ("?from=a&from=c&to=b", 400, "from", "must be given once, 2 were sent"),
        ("?from=" + "x" * 65 + "&to=b", 413, "from", "must be 1 to 64 bytes, 65 were sent"),
        ("?from=a&to=b&min=", 200, "", ""),
        ("?from=a&to=b&min=1", 400, "min", "must read partition:epoch:seq as an answer gave it, got '1'"),
        ("?from=a&to=b&min=%ff", 400, "min", "must be UTF-8, byte 0 is not"),
        ("?from=a&to=b&other=1", 200, "", ""),
    ],
)
@pytest.mark.parametrize("endpoint", ["check", "explain"])
async def test_each_mistake_of_a_query_is_named(
    world: World, endpoint: str, query: str, status: int, parameter: str, problem: str
) -> None:
    reply = await world.v1("GET", endpoint + query)
    assert reply.status == status
    if status != 200:
        assert reply.body["parameter"] == parameter
        assert reply.body["message"] == f"{parameter}: {problem}"


async def test_a_batch_answers_in_order(world: World) -> None:
    await world.v1("POST", "bans", {"users": ["bad"], "permanent": True})
    await world.v1("POST", "blacklist", {"owner": "b", "members": ["a"]})
    pairs = [["a", "b"], ["b", "a"], ["bad", "a"], ["a", "bad"], ["a", "b"]]
    words = ["blacklisted", "allowed", "sender-banned", "allowed", "blacklisted"]
    reply = await world.v1("POST", "check", {"pairs": pairs})
    assert reply.body["verdicts"] == words
    assert set(reply.body) == {"verdicts", "revision", "stale_ms"}
    named = [{"from": sender, "to": recipient} for sender, recipient in pairs]
    assert (await world.v1("POST", "check", {"pairs": named})).body["verdicts"] == words
    fanned = await world.v1("POST", "check", {"from": "a", "to": ["b", "c", "b"]})
    assert fanned.body["verdicts"] == ["blacklisted", "allowed", "blacklisted"]
    fanned = await world.v1("POST", "check", {"from": "bad", "to": ["b", "c"]})
    assert fanned.body["verdicts"] == ["sender-banned", "sender-banned"]


async def test_ten_thousand_pairs_and_not_one_more(world: World) -> None:
    assert MAX_PAIRS == 10_000
    await world.v1("POST", "bans", {"users": ["u7"], "permanent": True})
    pairs = [[f"u{number % 100}", "x"] for number in range(MAX_PAIRS)]
    reply = await world.v1("POST", "check", {"pairs": pairs})
    assert [word == "allowed" for word in reply.body["verdicts"]] == [number % 100 != 7 for number in range(MAX_PAIRS)]
    for body, parameter in (({"pairs": [*pairs, ["a", "b"]]}, "pairs"), ({"from": "a", "to": ["b"] * 10_001}, "to")):
        reply = await world.v1("POST", "check", body)
        assert (reply.status, reply.body["parameter"]) == (400, parameter)
        assert "10001 were sent" in reply.body["message"]


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"\xff", "body"),
        (b"[]", "body"),
        (b"1", "body"),
        (b"{}", "body"),
        (b'{"from": "a"}', "body"),
        (b'{"to": ["a"]}', "body"),
        (b'{"pairs": {}}', "pairs"),
        (b'{"pairs": [], "from": "a", "to": []}', "pairs"),
        (b'{"pairs": ["ab"]}', "pairs[0]"),
        (b'{"pairs": [["a", "b"], ["a"]]}', "pairs[1]"),
        (b'{"pairs": [["a", "b", "c"]]}', "pairs[0]"),
        (b'{"pairs": [["a", "b"], ["a", ""]]}', "pairs[1][1]"),
        (b'{"pairs": [["a", 1]]}', "pairs[0][1]"),
        (b'{"pairs": [[null, "b"]]}', "pairs[0][0]"),
        (b'{"pairs": [{"from": "a"}]}', "pairs[0]"),
        (b'{"pairs": [[{"b64": "!"}, "b"]]}', "pairs[0][0]"),
        (b'{"pairs": [[{"b64": ""}, "b"]]}', "pairs[0][0]"),
        (b'{"pairs": [[{"b65": "YQ=="}, "b"]]}', "pairs[0][0]"),
        (b'{"from": "a", "to": "bcd"}', "to"),
        (b'{"from": "a", "to": ["b", ["c"]]}', "to[1]"),
        (b'{"from": ["a"], "to": ["b"]}', "from"),
        (b'{"from": "a", "to": ["%s"]}' % (b"x" * 65), "to[0]"),
        (b'{"pairs": [], "min": 1}', "min"),
        (b'{"pairs": [], "min": "x"}', "min"),
    ],
)
async def test_each_mistake_of_a_batch_is_named(world: World, body: bytes, parameter: str) -> None:
    reply = await world.v1("POST", "check", body)
    assert (reply.status, reply.body["error"], reply.body["parameter"]) == (400, "invalid", parameter)


async def test_an_explanation_names_every_rule(world: World) -> None:
    await world.v1("POST", "blacklist", {"owner": "b", "members": ["a"]})
    reply = await world.v1("GET", "explain?from=a&to=b")
    assert reply.status == 200
    assert (reply.body["verdict"], len(reply.body["rules"]), reply.body["stale_ms"]) == ("blacklisted", 8, 0)
    assert [rule["rule"] for rule in reply.body["rules"] if rule["denies"]] == ["blacklisted"]
    assert reply.body["revision"]


async def test_apps_are_apart(world: World) -> None:
    other = AppFacts(key="other", secrets=("s",))
    await world.node.acks.wait(await world.store.apps.create(other, now_ms()), 5_000)
    await world.v1("POST", "bans", {"users": ["a"], "seconds": 60})
    assert await world.word("a", "b") == "sender-banned"
    world.app = other
    assert await world.word("a", "b") == "allowed"


# --- freshness -------------------------------------------------------------------------------------------------------


async def test_a_demanded_revision_that_is_there(world: World) -> None:
    written = await world.v1("POST", "bans", {"users": ["a"], "seconds": 60})
    reply = await world.v1("GET", f"check?from=a&to=b&min={written.headers['X-Gate-Revision']}")
    assert (reply.status, reply.body["verdict"]) == (200, "sender-banned")
    reply = await world.v1("POST", "check", {"pairs": [["a", "b"]], "min": written.body["revision"]})
    assert (reply.status, reply.body["verdicts"]) == (200, ["sender-banned"])


async def test_a_demanded_revision_that_does_not_come_is_409(world: World) -> None:
    (head,) = parse_revisions((await world.v1("GET", "check?from=a&to=a")).body["revision"])
    ahead = head._replace(seq=head.seq + 1)
    for wanted in (ahead, Revision(0, "0" * 16, 1)):
        started = time.monotonic()
        reply = await world.v1("GET", f"check?from=a&to=b&min={wanted}")
        assert (reply.status, reply.body["error"]) == (409, "stale")
        assert MIN_WAIT_MS / 1000 - TIMER_EARLY_S <= time.monotonic() - started < 5
        reply = await world.v1("POST", "check", {"pairs": [["a", "b"]], "min": str(wanted)})
        assert (reply.status, reply.body["error"]) == (409, "stale")


async def test_a_demanded_revision_is_waited_for(world: World) -> None:
    await world.node.stop_following()
    written = await world.store.bans.impose(world.app.key, [b"a"], now_ms() + 60_000, now_ms())
    asking = asyncio.create_task(world.v1("GET", f"check?from=a&to=b&min={written.revisions[0]}"))
    await world.node.follow()
    reply = await asking
    assert (reply.status, reply.body["verdict"]) == (200, "sender-banned")


async def test_a_node_that_applies_nothing_answers_pending(world: World) -> None:
    await world.node.stop_following()
    reply = await world.user("block.json", [("userId", "a"), ("minute", "1")])
    assert (reply.status, reply.headers["X-Gate-Applied"]) == (200, "pending")
    assert reply.headers["X-Gate-Revision"]


def test_json_of_a_batch_is_compact() -> None:
    assert orjson.dumps({"verdicts": ["allowed"]}) == b'{"verdicts":["allowed"]}'


async def test_app_settings_bear_on_the_next_check(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, require_registered=True))
    assert await world.word("a", "b") == "sender-unknown"
