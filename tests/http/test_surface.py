"""What every request meets before its endpoint: path, method, credentials, content type, size, ids of requests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import msgspec
import pytest

from gate.http import bodies
from gate.http.bodies import MAX_BATCH_BYTES, MAX_FORM_BYTES, MAX_JSON_BYTES
from tests.http.world import World, basic, form, now_ms, signed

BLOCK = form([("userId", "u1"), ("minute", "1")])
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def test_an_error_has_exactly_three_members_and_is_json(world: World) -> None:
    reply = await world.user("block.json")
    assert (reply.status, reply.headers["Server"]) == (400, "gate")
    assert reply.body == {"code": 1002, "errorMessage": "The parameter userId is required.", "url": "/user/block.json"}
    assert reply.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert type(reply.body["code"]) is int


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
async def test_user_endpoints_take_post_only(world: World, method: str) -> None:
    reply = await world.send(method, "/user/block.json", headers=signed(world.app))
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    if method != "HEAD":
        assert (reply.body["code"], reply.body["url"]) == (405, "/user/block.json")


@pytest.mark.parametrize(
    "path", ["/user/nothing.json", "/user/block", "/user/", "/user/block.json/", "/user/Block.json"]
)
async def test_an_unknown_user_path_is_404_in_rongclouds_shape(world: World, path: str) -> None:
    reply = await world.send("POST", path, BLOCK, {**FORM, **signed(world.app)})
    assert (reply.status, reply.body["code"], reply.body["url"]) == (404, 404, path)
    assert set(reply.body) == {"code", "errorMessage", "url"}


async def test_the_bare_address_leads_to_the_console(world: World) -> None:
    async with world.session.get(f"http://{world.server.host}:{world.server.port}/", allow_redirects=False) as reply:
        assert (reply.status, reply.headers["Location"]) == (302, "/console/")


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/nothing", "/v1/check/", "/v1/a%0Ab"])
async def test_any_other_unknown_path_is_404_in_our_shape(world: World, path: str) -> None:
    reply = await world.send("GET", path)
    assert (reply.status, reply.body["error"]) == (404, "not-found")


@pytest.mark.parametrize("path", ["//user/block.json", "/user//block.json", "///user///block.json"])
async def test_doubled_slashes_count_as_one(world: World, path: str) -> None:
    reply = await world.send("POST", path, BLOCK, {**FORM, **signed(world.app)})
    assert (reply.status, reply.body) == (200, {"code": 200})


async def test_unknown_fields_are_ignored(world: World) -> None:
    reply = await world.user("block.json", b"x=1&" + BLOCK + b"&name=" + b"n" * 7_954)
    assert reply.status == 200


# --- credentials -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timestamp", "nonce"),
    [
        (lambda: str(now_ms()), "14314"),
        (lambda: str(now_ms() // 1000), "5577006791947779410"),
        (lambda: "1408706337", "173552.91186931543"),
        (lambda: "soon", "0.5867700846513856"),
    ],
)
async def test_seconds_milliseconds_and_old_signatures_pass(
    world: World, timestamp: Callable[[], str], nonce: str
) -> None:
    headers = {**FORM, **signed(world.app, nonce=nonce, timestamp=timestamp())}
    for _ in range(2):
        assert (await world.send("POST", "/user/block.json", BLOCK, headers)).status == 200


async def test_the_rc_headers_in_lower_case_pass(world: World) -> None:
    headers = {f"rc-{name.lower()}": value for name, value in signed(world.app).items()}
    assert (await world.send("POST", "/user/block.json", BLOCK, {**FORM, **headers})).status == 200


@pytest.mark.parametrize("key", ["stranger", "x" * 2_000, "a:b", "../app", "\N{GREEK SMALL LETTER ALPHA}", "APP"])
async def test_an_unknown_app_key(world: World, key: str) -> None:
    headers = {**FORM, **signed(world.app), "App-Key": key}
    reply = await world.send("POST", "/user/block.json", BLOCK, headers)
    assert reply.status == 400
    assert reply.body == {"code": 1002, "errorMessage": "invalid App-Key.", "url": "/user/block.json"}


@pytest.mark.parametrize("change", ["secret", "Nonce", "Timestamp", "Signature", "non-ascii"])
async def test_a_wrong_signature_is_401(world: World, change: str) -> None:
    headers = signed(world.app, secret="secret-2" if change == "secret" else None)
    if change == "non-ascii":
        headers["Signature"] = "é" * 40
    elif change != "secret":
        headers[change] += "1"
    reply = await world.send("POST", "/user/block.json", BLOCK, {**FORM, **headers})
    assert (reply.status, reply.body["code"], set(reply.body)) == (401, 1004, {"code", "errorMessage", "url"})
    assert await world.word("u1", "x") == "allowed"


async def test_both_secrets_sign_during_a_rotation(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, secrets=("secret-2", "secret-1")))
    for secret, status in (("secret-1", 200), ("secret-2", 200), ("secret-3", 401)):
        headers = {**FORM, **signed(world.app, secret=secret)}
        assert (await world.send("POST", "/user/block.json", BLOCK, headers)).status == status
        assert (await world.send("GET", "/v1/check?from=a&to=b", headers=basic(world.app, secret))).status == status
    await world.set_app(msgspec.structs.replace(world.app, secrets=("secret-2",)))
    headers = {**FORM, **signed(world.app, secret="secret-1")}
    assert (await world.send("POST", "/user/block.json", BLOCK, headers)).status == 401


async def test_a_strict_app_wants_fresh_signatures_once(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, strict_signature=True, signature_window_s=60))

    async def status(nonce: str, timestamp: str) -> tuple[int, int]:
        headers = {**FORM, **signed(world.app, nonce=nonce, timestamp=timestamp)}
        reply = await world.send("POST", "/user/block.json", BLOCK, headers)
        return reply.status, reply.body["code"]

    now_s = now_ms() // 1000
    assert await status("n1", str(now_s)) == (200, 200)
    assert await status("n1", str(now_s)) == (401, 1004)
    assert await status("n1", str(now_s - 1)) == (401, 1004)
    assert await status("n2", str(now_s * 1000 - 50_000)) == (200, 200)
    assert await status("n3", str(now_s - 62)) == (401, 1004)
    assert await status("n3", str(now_s + 62)) == (401, 1004)
    assert await status("n3", str(now_s + 50)) == (200, 200)
    assert await status("n4", "soon") == (400, 1002)
    assert await status("n" * 129, str(now_s)) == (400, 1005)


async def test_a_signature_opens_v1_for_strict_apps_only(world: World) -> None:
    target = "/v1/check?from=a&to=b"
    for path in (target, "/v1/bans"):
        refused = await world.send("GET", path, headers=signed(world.app))
        assert (refused.status, refused.body["error"]) == (401, "unauthorized")
        assert "HTTP Basic" in refused.body["message"] and "strict_signature" in refused.body["message"]
    wrong = await world.send("GET", target, headers=signed(world.app, secret="secret-2"))
    assert (wrong.status, "strict_signature" in wrong.body["message"]) == (401, False), "nothing is said of the App"
    await world.set_app(msgspec.structs.replace(world.app, strict_signature=True))
    fresh = signed(world.app, nonce="once")
    assert [(await world.send("GET", target, headers=fresh)).status for _ in range(2)] == [200, 401]


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic",
        "Basic !!!",
        "Basic YQ==",
        "Basic /w==",
        "Bearer abc",
        "Basic YXBwOndyb25n",
        "Basic bm9ib2R5OnNlY3JldC0x",
    ],
)
async def test_wrong_credentials_are_401_and_ask_for_basic(world: World, authorization: str) -> None:
    reply = await world.send("GET", "/v1/check?from=a&to=b", headers={"Authorization": authorization})
    assert (reply.status, reply.body["error"]) == (401, "unauthorized")
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")


async def test_no_credentials_are_401(world: World) -> None:
    reply = await world.send("GET", "/v1/check?from=a&to=b")
    assert (reply.status, reply.body["error"]) == (401, "unauthorized")


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data; boundary=x"])
async def test_a_wrong_content_type_is_named(world: World, content_type: str) -> None:
    reply = await world.user("block.json", BLOCK, **{"Content-Type": content_type})
    assert (reply.status, reply.body["code"]) == (400, 1002)
    assert reply.body["errorMessage"].startswith(
        "The parameter Content-Type must be application/x-www-form-urlencoded, "
    )
    reply = await world.send("POST", "/v1/check", b'{"pairs": []}', {**basic(world.app), **FORM})
    assert (reply.status, reply.body["parameter"]) == (400, "Content-Type")


async def test_a_charset_after_the_type_is_fine(world: World) -> None:
    reply = await world.user(
        "block.json", BLOCK, **{"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
    )
    assert reply.status == 200


async def test_an_empty_body_lacks_its_parameters_and_not_its_data(world: World) -> None:
    for content_type in (FORM["Content-Type"], "application/json"):
        reply = await world.user("block.json", b"", **{"Content-Type": content_type})
        assert reply.body["errorMessage"] == "The parameter userId is required."


async def test_a_body_past_its_limit(world: World) -> None:
    reply = await world.user("block.json", b"x" * (MAX_FORM_BYTES + 1))
    assert (reply.status, reply.body["code"]) == (413, 1005)
    assert reply.body["errorMessage"].startswith("The request body must be at most 262144 bytes, 262145 were announced")
    for path, most in (("check", MAX_BATCH_BYTES), ("bans", MAX_JSON_BYTES)):
        reply = await world.v1("POST", path, b" " * (most + 1))
        assert (reply.status, reply.body["error"], reply.body["parameter"]) == (413, "too-long", "body")


async def raw(world: World, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(world.server.host, world.server.port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


def head(world: World, length: str) -> bytes:
    lines = [f"{name}: {value}" for name, value in {**FORM, **signed(world.app)}.items()]
    return "\r\n".join(["POST /user/block.json HTTP/1.1", "Host: x", *lines, length, "", ""]).encode()


async def test_a_chunked_body_past_its_limit(world: World) -> None:
    reader, writer = await raw(world, head(world, "Transfer-Encoding: chunked"))
    chunk = b"%x\r\n%b\r\n" % (65_536, b"x" * 65_536)
    for _ in range(5):
        writer.write(chunk)
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 10)
    assert b" 413 " in answer.split(b"\r\n", 1)[0]
    assert b'"code":1005' in answer
    writer.close()


async def test_a_body_that_never_comes_is_answered_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_DEADLINE_S", 0.1)
    reader, writer = await raw(world, head(world, "Content-Length: 20") + b"userId=")
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 10)
    assert b'"code":1002' in answer
    assert b"must arrive within 0.1 s" in answer
    writer.close()


async def test_a_body_cut_off_writes_nothing(world: World) -> None:
    _, writer = await raw(world, head(world, f"Content-Length: {len(BLOCK) + 1}") + BLOCK)
    writer.transport.abort()
    assert await world.word("u1", "x") == "allowed"
    assert (await world.user("block/query.json")).body["users"] == []


@pytest.mark.parametrize(
    "garbage", [b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 20_000 + b"\r\n"]
)
async def test_what_is_not_http_costs_its_own_connection_only(world: World, garbage: bytes) -> None:
    reader, writer = await raw(world, garbage)
    assert (await asyncio.wait_for(reader.read(12), 10)).startswith(b"HTTP/1.")
    writer.close()
    assert await world.word("a", "b") == "allowed"


async def test_many_at_once_each_get_their_own_answer(world: World) -> None:
    calls_made = [world.user("block.json", [("userId", f"u{number}"), ("minute", "1")]) for number in range(100)]
    checks = [world.word(f"u{number}", "x") for number in range(100)]
    assert {reply.status for reply in await asyncio.gather(*calls_made)} == {200}
    assert set(await asyncio.gather(*checks)) == {"sender-banned"}


# --- ids of requests -------------------------------------------------------------------------------------------------


async def test_the_requests_id_is_echoed_or_minted_on_every_answer(world: World) -> None:
    reply = await world.user("block.json", BLOCK, **{"X-Request-ID": "abc-123"})
    assert reply.headers["X-Request-Id"] == "abc-123"
    for answer in (
        await world.user("block.json", BLOCK),
        await world.user("nothing.json"),
        await world.send("GET", "/healthz"),
        await world.user("block.json", b"", **{"X-Request-Id": "no good"}),
    ):
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])
