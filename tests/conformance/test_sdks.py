"""What a caller of each SDK relies on, with the SDK as it is published and only the host changed: one contract, five SDKs.

What an SDK did is judged by Gate's own checks. Names hold what a form must escape, which one of the SDKs doesn't.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest

from harness.ports import LOOPBACK, free_port
from tests.conformance.dialects import DIALECTS, NODE_1, NODE_3, RC_SERVER_SDK, Dialect
from tests.conformance.gate import Gate
from tests.conformance.sdks import Sdk

NAME = "忘情水 ★ Ümit"
PORTRAIT = "https://images.example/a/ü.png?where=super;here:there"
ODD_ID = "im not here: 在吗?"
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def only(*dialects: Dialect) -> pytest.MarkDecorator:
    """For what not every SDK offers."""
    return pytest.mark.parametrize("dialect", dialects, indirect=True, ids=lambda dialect: dialect.sdk)


@pytest.fixture(scope="module", params=DIALECTS, ids=lambda dialect: dialect.sdk)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    chosen: Dialect = request.param
    return chosen


@pytest.fixture(scope="module")
def sdk(dialect: Dialect, gate: Gate) -> Iterator[Sdk]:
    with Sdk(dialect.sdk, gate.url, gate.key, gate.secret) as process:
        yield process


@pytest.fixture
def user() -> str:
    return f"u={secrets.token_hex(4)}-A_|"


@pytest.fixture
def other() -> str:
    return f"o-{secrets.token_hex(4)}"


def members(body: dict[str, object], field: str) -> list[object]:
    """The ids in a list, which one SDK wraps in objects."""
    users = body["users"]
    assert isinstance(users, list)
    return [one[field] if isinstance(one, dict) else one for one in users]


def test_every_call_about_users_is_in_the_contract(dialect: Dialect, sdk: Sdk) -> None:
    in_tables = {call for call, _ in [*dialect.table.values(), *dialect.tags.values()]}
    assert in_tables == set(sdk("?"))


def test_a_user_is_registered_and_each_token_is_new(dialect: Dialect, sdk: Sdk, gate: Gate, user: str) -> None:
    first, second = (dialect.does(sdk, "mint", user, NAME, PORTRAIT) for _ in range(2))
    assert (first["userId"], second["userId"]) == (user, user)
    assert first["token"] != second["token"]
    assert len(first["token"]) <= 256
    assert gate.greets(first["token"])
    assert gate.greets(second["token"])
    profile = gate.user("info", userId=user)
    assert (profile["userName"], profile["userPortrait"]) == (NAME, PORTRAIT)
    assert MOMENT.fullmatch(profile["createTime"])


def test_a_profile_is_refreshed(dialect: Dialect, sdk: Sdk, gate: Gate, user: str) -> None:
    dialect.does(sdk, "mint", user, "Before", "https://before.example/")
    dialect.does(sdk, "refresh", user, NAME, PORTRAIT)
    profile = gate.user("info", userId=user)
    assert (profile["userName"], profile["userPortrait"]) == (NAME, PORTRAIT)
    if "look up" in dialect.table:
        shown = dialect.does(sdk, "look up", user)
        assert (shown["userName"], shown["userPortrait"], shown["createTime"]) == (
            NAME,
            PORTRAIT,
            profile["createTime"],
        )


def test_an_unknown_user_is_not_refreshed(dialect: Dialect, sdk: Sdk, user: str) -> None:
    outcome = dialect.say(sdk, "refresh", user, NAME, PORTRAIT)
    assert outcome.code == 1002
    # One SDK gives the text another name.
    assert f"userId<{user}> is not exist." in (outcome.body.get("errorMessage"), outcome.body.get("msg"))


def test_who_is_nowhere_is_offline_as_a_string(dialect: Dialect, sdk: Sdk) -> None:
    assert dialect.does(sdk, "see online", ODD_ID)["status"] == "0"


def test_a_ban_is_in_force_until_it_is_lifted(dialect: Dialect, sdk: Sdk, gate: Gate, user: str, other: str) -> None:
    dialect.does(sdk, "ban", user, 10)
    assert gate.verdict(user, other) == "sender-banned"
    bans = dialect.does(sdk, "bans")
    assert user in members(bans, "userId")
    assert all(MOMENT.fullmatch(one["blockEndTime"]) for one in bans["users"])
    dialect.does(sdk, "lift", user)
    assert gate.verdict(user, other) == "allowed"
    assert user not in members(dialect.does(sdk, "bans"), "userId")


def test_a_blacklist_refuses_until_it_does_not(dialect: Dialect, sdk: Sdk, gate: Gate, user: str, other: str) -> None:
    assert dialect.does(sdk, "blacklist", user)["users"] == []
    dialect.does(sdk, "block", user, other)
    assert (gate.verdict(other, user), gate.verdict(user, other)) == ("blacklisted", "allowed")
    assert members(dialect.does(sdk, "blacklist", user), "id") == [other]
    dialect.does(sdk, "unblock", user, other)
    assert gate.verdict(other, user) == "allowed"
    assert dialect.does(sdk, "blacklist", user)["users"] == []


@only(RC_SERVER_SDK)
def test_a_whitelist_admits_until_it_does_not(dialect: Dialect, sdk: Sdk, gate: Gate, user: str, other: str) -> None:
    # No SDK of these switches a whitelist on.
    gate.user("whitesetting/set", userId=user, whiteSetting="1")
    assert gate.verdict(other, user) == "not-whitelisted"
    dialect.does(sdk, "admit", user, other)
    assert gate.verdict(other, user) == "allowed"
    assert members(dialect.does(sdk, "whitelist", user), "id") == [other]
    dialect.does(sdk, "unadmit", user, other)
    assert gate.verdict(other, user) == "not-whitelisted"


@only(*(dialect for dialect in DIALECTS if dialect is not NODE_1))
def test_many_users_in_one_call(dialect: Dialect, sdk: Sdk, gate: Gate, user: str, other: str) -> None:
    crowd = [f"{user}{number}" for number in range(20)]
    dialect.does(sdk, "ban", crowd, 1)
    assert {gate.verdict(one, other) for one in crowd} == {"sender-banned"}
    dialect.does(sdk, "lift", crowd)
    assert {gate.verdict(one, other) for one in crowd} == {"allowed"}


def test_a_ban_without_users_is_refused(dialect: Dialect, sdk: Sdk) -> None:
    assert dialect.say(sdk, "ban", [], 1).code != 200


def test_an_id_that_is_too_long_is_refused(dialect: Dialect, sdk: Sdk) -> None:
    # One SDK refuses it by itself, with the other code.
    assert dialect.say(sdk, "ban", "x" * 65, 1).code in (1005, 1002)


def test_a_wrong_secret_has_its_own_code(dialect: Dialect, gate: Gate, user: str, other: str) -> None:
    with Sdk(dialect.sdk, gate.url, gate.key, "not-" + gate.secret) as stranger:
        assert dialect.say(stranger, "ban", user, 10).code == dialect.wrong_secret
    assert gate.verdict(user, other) == "allowed"


def test_an_unknown_app_has_its_own_code(dialect: Dialect, gate: Gate) -> None:
    with Sdk(dialect.sdk, gate.url, "unknown-key", gate.secret) as stranger:
        assert dialect.say(stranger, "bans").code == 1002


@only(RC_SERVER_SDK, NODE_3)
def test_push_tags_are_refused_by_name(dialect: Dialect, sdk: Sdk, user: str) -> None:
    for verb in dialect.tags:
        outcome = dialect.say(sdk, verb, user)
        assert (verb, outcome.code) == (verb, 1009)
        assert "tag" in str(outcome.body.get("errorMessage", outcome.body.get("msg")))


@only(RC_SERVER_SDK, NODE_3)
def test_a_second_host_answers_when_the_first_does_not(dialect: Dialect, gate: Gate) -> None:
    """Both SDKs take several hosts, and go to the next after a call that failed."""
    dead = f"http://{LOOPBACK}:{free_port()}"
    with Sdk(dialect.sdk, f"{dead};{gate.url}", gate.key, gate.secret) as sdk:
        call, _ = dialect.table["bans"]
        assert sdk(call)["code"] != 200
        assert sdk(call)["code"] == 200
