"""Requests as RongCloud's SDKs really send them, byte for byte, where no SDK can be run here: .NET, Go, Java, PHP; and the
oddities of those that can. Each test names whose habit it is.
"""

from __future__ import annotations

import re
import secrets
import time

import pytest

from tests.conformance.gate import Answer, Gate, request_bytes
from tests.conformance.replays import (
    FORM,
    OPERATION,
    REQUEST_ID,
    any_user,
    dotnet,
    go,
    java,
    ok,
    php,
    refusal,
    seconds,
    signed,
)

# --- what every answer looks like --------------------------------------------------------------------------------------


def test_an_answer_is_what_typed_clients_parse(gate: Gate) -> None:
    """Go fails on a code that is a string, and on a status that is a number."""
    answer = go(gate, "/user/checkOnline.json", "userId=stranger")
    assert answer.raw == b'{"code":200,"status":"0"}'
    assert answer.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert answer.headers["X-Request-Id"] == REQUEST_ID


def test_a_request_without_an_id_gets_one(gate: Gate) -> None:
    """Node and Python send none."""
    headers = {"Host": "gate", **signed(gate, "1", seconds()), "Content-Length": "0"}
    answer = gate.replay(request_bytes("/user/block/query.json", headers))
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"])


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_a_half_closing_client_gets_its_answer(gate: Gate, version: str) -> None:
    """As `nc -N` and some client libraries do: the writing side ends behind the request."""
    user = any_user()
    headers = {"Host": "gate", **signed(gate, "1", seconds()), "Content-Type": FORM}
    body = f"userId={user}&minute=1".encode()
    request = request_bytes("/user/block.json", {**headers, "Content-Length": str(len(body))}, body)
    ok(gate.replay(request.replace(b"HTTP/1.1", version.encode(), 1), half_closing=True))
    assert gate.verdict(user, "x") == "sender-banned"


def test_an_error_is_in_the_order_that_was_recorded(gate: Gate) -> None:
    answer = go(gate, "/user/getToken.json", "")
    assert answer.status == 400
    assert answer.raw == (
        b'{"code":1002,"errorMessage":"The parameter userId is required.","url":"/user/getToken.json"}'
    )


# --- signatures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["rc-", "RC-", ""])
@pytest.mark.parametrize("timestamp", [seconds, lambda: seconds() + "000"])
def test_header_aliases_with_seconds_and_milliseconds(gate: Gate, prefix: str, timestamp: object) -> None:
    """The older Python SDKs and Ruby's send `rc-` names, in lower case, and milliseconds."""
    assert callable(timestamp)
    headers = {"Host": "gate", **signed(gate, "0.5867700846513856", timestamp(), prefix), "Content-Length": "0"}
    ok(gate.replay(request_bytes("/user/block/query.json", headers)))


def test_one_signature_for_the_life_of_a_process(gate: Gate) -> None:
    """Node signs when it is set up."""
    headers = {"Host": "gate", **signed(gate, "11259375", "1408706337"), "Content-Type": FORM, "Content-Length": "8"}
    for _ in range(3):
        ok(gate.replay(request_bytes("/user/unblock.json", headers, b"userId=a")))


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_dotnet_signs_in_capitals(gate: Gate, version: str) -> None:
    user = any_user()
    ok(dotnet(gate, "/user/getToken.json", f"userId={user}&name=n&portraitUri=p", version))
    ok(dotnet(gate, "/user/block.json", f"userId={user}&minute=5", version))
    assert gate.verdict(user, "x") == "sender-banned"


def test_capitals_of_another_secret_are_refused(gate: Gate) -> None:
    stranger = Gate(gate.url, gate.key, "not-" + gate.secret, gate.command)
    assert refusal(dotnet(stranger, "/user/block/query.json", ""))[:2] == (401, 1004)


def test_a_strict_app_refuses_a_signature_that_was_used(gate: Gate) -> None:
    gate.command("app", "set", gate.key, "--strict-signature")
    try:
        headers = {"Host": "gate", **signed(gate, secrets.token_hex(8), seconds()), "Content-Length": "0"}
        request = request_bytes("/user/block/query.json", headers)
        ok(gate.replay(request))
        assert refusal(gate.replay(request))[:2] == (401, 1004)
    finally:
        gate.command("app", "set", gate.key, "--no-strict-signature")


def test_a_signature_with_another_secret(gate: Gate) -> None:
    wrong = {**signed(gate, "1", seconds()), "Signature": "45beb7cc7307889a8e711219a47b7cf6a5b000e8"}
    headers = {"Host": "gate", **wrong, "Content-Length": "0"}
    assert refusal(gate.replay(request_bytes("/user/block/query.json", headers)))[:2] == (401, 1004)


# --- bodies ------------------------------------------------------------------------------------------------------------


def python_3(gate: Gate, path: str, body: str) -> Answer:
    """3.2.0 escapes nothing: the body is its text in UTF-8."""
    raw = body.encode()
    headers = {
        "Accept-Encoding": "identity",
        "Content-Type": FORM,
        "Content-Length": str(len(raw)),
        "Host": "gate",
        **signed(gate, "123456789", seconds()),
        "User-Agent": "rc-python-sdk/3.2.0",
        "Connection": "close",
    }
    return gate.replay(request_bytes(path, headers, raw))


def test_an_unescaped_body_is_read_as_it_is_meant(gate: Gate) -> None:
    user = any_user()
    portrait = "https://host.example/img/logo1.png?where=super:hot"
    ok(python_3(gate, "/user/getToken.json", f"userId={user}&name=忘情水 100% %zz&portraitUri={portrait}"))
    profile = gate.user("info", userId=user)
    assert (profile["userName"], profile["userPortrait"]) == ("忘情水 100% %zz", portrait)


def test_an_unescaped_plus_is_a_space(gate: Gate) -> None:
    """So an id with `+` can't be registered through that SDK, on RongCloud as here; the answer says what arrived."""
    status, code, message = refusal(python_3(gate, "/user/getToken.json", "userId=a+b&name=n"))
    assert (status, code) == (400, 1002)
    assert "'a b'" in message


def test_values_are_not_trimmed(gate: Gate) -> None:
    """PHP's own example has a portrait that starts with blanks."""
    user = any_user()
    ok(php(gate, "/user/getToken.json", f"userId={user}&name=+N+&portraitUri=++http%3A%2F%2Fimage.example%2F"))
    profile = gate.user("info", userId=user)
    assert (profile["userName"], profile["userPortrait"]) == (" N ", "  http://image.example/")


def test_a_client_that_expects_100_continue(gate: Gate) -> None:
    """Curl, hence PHP, with larger bodies."""
    body = "state=1&type=PERSON" + "".join(f"&userId=many-{number}" for number in range(200))
    ok(php(gate, "/user/chat/fb/set.json", body, Expect="100-continue"))
    assert gate.verdict("many-199", "x") == "sender-muted"


@pytest.mark.parametrize("more", [{"Content-Length": "0"}, {"Content-Length": "0", "Content-Type": FORM}, {}])
def test_an_empty_body_is_no_error(gate: Gate, more: dict[str, str]) -> None:
    """All SDKs, when they list Bans."""
    headers = {"Host": "gate", **signed(gate, "1", seconds()), **more}
    assert isinstance(ok(gate.replay(request_bytes("/user/block/query.json", headers)))["users"], list)


def test_fields_that_the_endpoint_does_not_have(gate: Gate) -> None:
    """Node sends every property of the object that it is given."""
    fields = "tags=IM&blacklist=%5Bobject%20Object%5D&minute=10&largeMinute=543200&emptyId=&userId=u1&largePortraitUri="
    answer = php(gate, "/user/checkOnline.json", fields + "http%3A%2F%2Fx.example%2Fy" * 300)
    assert ok(answer)["status"] == "0"


def test_fields_in_any_order(gate: Gate) -> None:
    user = any_user()
    ok(php(gate, "/user/block.json", f"minute=1&userId={user}&userId={user}-2"))
    assert [gate.verdict(one, "x") for one in (user, f"{user}-2")] == ["sender-banned"] * 2
    body = ok(java(gate, "/user/block/query.json", "size=1&page=1"))
    assert isinstance(body["users"], list)
    assert len(body["users"]) == 1


def test_a_list_without_members(gate: Gate) -> None:
    """Java leaves the field out."""
    expected = (400, 1002, "The parameter whiteUserId is required.")
    assert refusal(java(gate, "/user/whitelist/add.json", "userId=u1")) == expected
    assert refusal(java(gate, "/user/whitelist/remove.json", "userId=u1")) == expected


def test_a_user_that_was_never_registered(gate: Gate) -> None:
    user = any_user()
    assert refusal(java(gate, "/user/info.json", f"userId={user}")) == (400, 1002, f"userId<{user}> is not exist.")


# --- lists in pages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "field"), [("blacklist", "blackUserId"), ("whitelist", "whiteUserId")])
def test_java_reads_a_list_page_by_page(gate: Gate, word: str, field: str) -> None:
    owner = any_user()
    members = [f"m{number}" for number in range(12)]
    ok(java(gate, f"/user/{word}/add.json", f"userId={owner}" + "".join(f"&{field}={member}" for member in members)))
    found: list[object] = []
    token = ""
    while True:
        body = ok(java(gate, f"/user/{word}/query.json", f"userId={owner}&pageToken={token}&size=5"))
        assert isinstance(body["users"], list)
        found += body["users"]
        if "next" not in body:
            break
        token = str(body["next"]).replace("=", "%3D").replace("+", "%2B")
    assert sorted(map(str, found)) == sorted(members)


def test_the_english_page_calls_it_blocklist(gate: Gate) -> None:
    owner = any_user()
    ok(java(gate, "/user/blocklist/add.json", f"userId={owner}&blackUserId=x"))
    assert gate.verdict("x", owner) == "blacklisted"


@pytest.mark.parametrize("count", [1, 3])
def test_a_whitelist_switch_for_one_and_for_many(gate: Gate, count: int) -> None:
    """Ruby; no other SDK has it."""
    owners = [any_user() for _ in range(count)]
    fields = "&".join(f"userId={owner}" for owner in owners)
    ok(go(gate, "/user/whitesetting/set.json", f"{fields}&whiteSetting=1"))
    expected = [{"userId": owner, "whiteSetting": "1"} for owner in owners]
    assert ok(go(gate, "/user/whitesetting/query.json", fields))["users"] == expected
    assert {gate.verdict("x", owner) for owner in owners} == {"not-whitelisted"}


# --- Tokens, deactivation, deletion ------------------------------------------------------------------------------------


def test_tokens_are_expired_in_milliseconds(gate: Gate) -> None:
    user = any_user()
    token = str(ok(java(gate, "/user/getToken.json", f"userId={user}&name=n&portraitUri="))["token"])
    assert gate.greets(token)
    # A Token of the very millisecond stays valid.
    ok(java(gate, "/user/token/expire.json", f"userId={user}&time={int(time.time() * 1_000) + 1}"))
    assert not gate.greets(token)


def test_go_deactivates_with_commas_and_asks_with_a_double_slash(gate: Gate) -> None:
    first, second = any_user(), any_user()
    operation = ok(go(gate, "/user/deactivate.json", f"userId={first}%2C{second}"))["operateId"]
    assert OPERATION.fullmatch(str(operation))
    assert {gate.verdict(one, "x") for one in (first, second)} == {"sender-deactivated"}
    users = ok(go(gate, "//user/deactivate/query.json", "pageNo=1&pageSize=50"))["users"]
    assert isinstance(users, list)
    assert {first, second} <= set(users)


@pytest.mark.parametrize("sdk", ["java", "php"])
def test_older_sdks_call_it_abandon(gate: Gate, sdk: str) -> None:
    """Java 3.2.27 to 3.3.1 with one id a call, PHP 3.1.4 to 3.2.4."""
    say = java if sdk == "java" else php
    user = any_user()
    assert OPERATION.fullmatch(str(ok(say(gate, "/user/abandon.json", f"userId={user}"))["operateId"]))
    assert gate.verdict(user, "x") == "sender-deactivated"
    users = ok(say(gate, "/user/abandon/query.json", "pageNo=1&pageSize=50"))["users"]
    assert isinstance(users, list)
    assert user in users


def test_php_deactivates_with_a_field_each(gate: Gate) -> None:
    first, second = any_user(), any_user()
    ok(php(gate, "/user/deactivate.json", f"userId={first}&userId={second}"))
    assert {gate.verdict(one, "x") for one in (first, second)} == {"sender-deactivated"}


@pytest.mark.parametrize("path", ["/user/reactivate.json", "/user/activate.json"])
def test_java_reactivates_too_early(gate: Gate, path: str) -> None:
    user = any_user()
    ok(java(gate, "/user/deactivate.json", f"userId={user}"))
    assert OPERATION.fullmatch(str(ok(java(gate, path, f"userId={user}"))["operateId"]))
    assert gate.verdict(user, "x") == "sender-deactivated"


def test_one_deactivated_user_stops_no_ban_or_mute(gate: Gate) -> None:
    gone, *others = users = [any_user() for _ in range(20)]
    ok(java(gate, "/user/deactivate.json", f"userId={gone}"))
    fields = "".join(f"&userId={user}" for user in users)
    ok(java(gate, "/user/block.json", f"minute=1{fields}"))
    assert {gate.verdict(user, "x") for user in others} == {"sender-banned"}
    ok(java(gate, "/user/unblock.json", fields[1:]))
    ok(java(gate, "/user/chat/fb/set.json", f"state=1&type=PERSON{fields}"))
    assert {gate.verdict(user, "x") for user in others} == {"sender-muted"}
    assert gate.verdict(gone, "x") == "sender-deactivated"


@pytest.mark.parametrize("path", ["getToken", "refresh", "block"])
def test_a_deactivated_user_says_so(gate: Gate, path: str) -> None:
    user = any_user()
    ok(java(gate, "/user/deactivate.json", f"userId={user}"))
    status, code, message = refusal(java(gate, f"/user/{path}.json", f"userId={user}&name=n&minute=1"))
    assert (status, code) == (400, 1002)
    assert "deactivated" in message


def test_only_development_apps_delete(gate: Gate, development: Gate) -> None:
    """Java joins the ids with commas, Go repeats the field."""
    users = [any_user() for _ in range(4)]
    for user in users:
        ok(java(development, "/user/getToken.json", f"userId={user}&name=n&portraitUri=p"))
    ok(java(development, "/user/delusers.json", f"userId={users[0]},{users[1]}"))
    ok(go(development, "/user/delusers.json", f"userId={users[2]}&userId={users[3]}"))
    listed = ok(go(development, "/user/query.json", "page=1&pageSize=100&order=1"))
    assert (listed["total"], listed["users"]) == (0, [])
    assert refusal(java(gate, "/user/delusers.json", "userId=x"))[:2] == (401, 1007)


def test_users_are_listed_as_java_reads_them(development: Gate) -> None:
    user = any_user()
    ok(java(development, "/user/getToken.json", f"userId={user}&name=n&portraitUri=p"))
    listed = ok(java(development, "/user/query.json", "page=1&pageSize=20&order=0"))
    assert type(listed["total"]) is int
    assert isinstance(listed["users"], list)
    assert set(listed["users"][0]) == {"userId", "userName", "userPortrait", "regTime"}


def test_a_single_chat_mute_as_java_sets_it(gate: Gate) -> None:
    user = any_user()
    ok(java(gate, "/user/chat/fb/set.json", f"userId={user}&state=1&type=PERSON"))
    assert gate.verdict(user, "x") == "sender-muted"
    muted = ok(java(gate, "/user/chat/fb/querylist.json", "num=200&offset=0&type=PERSON"))["users"]
    assert isinstance(muted, list)
    assert user in muted
    ok(java(gate, "/user/chat/fb/set.json", f"userId={user}&state=0&type=PERSON"))
    assert gate.verdict(user, "x") == "allowed"


# --- what is not Gate's ------------------------------------------------------------------------------------------------


NOT_GATES = """
    tag/set tag/batch/set tags/get remarks/set remarks/del remarks/get profile/set profile/clean profile/query
    profile/batch/query blockPushPeriod/set blockPushPeriod/get blockPushPeriod/delete group/query subscribe/set subscribe/query
    message/block/add message/block/remove message/block/query
"""


@pytest.mark.parametrize("path", NOT_GATES.split())
def test_a_feature_that_is_not_gates_is_refused_by_name(gate: Gate, path: str) -> None:
    headers = {"Host": "gate", **signed(gate, "1", seconds()), "Content-Type": "application/json"}
    body = b'{"userId":"u1","tags":["a"]}'
    answer = gate.replay(request_bytes(f"/user/{path}.json", {**headers, "Content-Length": str(len(body))}, body))
    assert refusal(answer)[:2] == (430, 1009)


@pytest.mark.parametrize(
    "path", ["/group/create.json", "/message/private/publish.json", "/push.json", "/friend/add.json"]
)
def test_a_family_that_is_not_gates_keeps_java_on_this_host(gate: Gate, path: str) -> None:
    """Java counts an answer that it can't read, or of HTTP 501 to 599, against the host, and leaves it after some."""
    assert refusal(java(gate, path, "id=1"))[:2] == (430, 1009)


@pytest.mark.parametrize("path", ["/user/getToken.xml", "/user/nothing.json", "/user/getToken", "/nothing/at/all.json"])
def test_what_is_nowhere_is_404_in_the_same_shape(gate: Gate, path: str) -> None:
    status, code, _ = refusal(php(gate, path, "userId=u1"))
    assert (status, code) == (404, 404)
