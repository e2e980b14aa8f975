"""Bans and Mutes from the command line, and the checks that answer for them."""

from __future__ import annotations

import os

import pytest

from gate.cli.options import login_name
from gate.cli.time_format import parse_duration
from gate.clock import wall_ms
from gate.core.revision import parse_revisions
from gate.errors import InvalidInput
from tests.cli.command import Command


def test_a_ban_is_effective_when_the_command_returns(gate: Command) -> None:
    assert gate("check", "ann", "bob").out == "allowed\n"
    banned = gate.json("ban", "ann", "eve", "--minutes", "5", "--reason", "spam", "--actor", "joe")
    assert banned["users"] == ["ann", "eve"]
    assert abs(banned["until"] - wall_ms() - 300_000) < 30_000
    assert banned["applied"] == "all"
    assert parse_revisions(banned["revision"])
    denied = gate.json("check", "ann", "bob", "--min", banned["revision"], status=1)
    assert denied == denied | {"allowed": False, "verdict": "sender-banned", "until": banned["until"], "stale_ms": 0}
    gate("unban", "ann", "eve")
    assert gate.json("check", "ann", "bob")["allowed"]


def test_bans_are_listed_latest_end_first(gate: Command) -> None:
    assert "no User is banned" in gate("bans").out
    gate("ban", "soon", "--seconds", "60", "--reason", "a, b", "--actor", "joe")
    gate("ban", "late", "--permanent")
    rows = gate.json("bans")["bans"]
    assert [(row["user"], row["reason"], row["actor"]) for row in rows] == [
        ("late", "", login_name()),
        ("soon", "a, b", "joe"),
    ]
    assert rows[0]["until"] is None
    table = gate("bans").out
    assert "late" in table and "never" in table and "a, b" in table
    assert len(gate.json("bans", "--limit", "1")["bans"]) == 1


def test_a_mute_lets_read_but_not_send(gate: Command) -> None:
    gate("mute", "ann", "--until", "2099-01-01T00:00:00+08:00")
    assert gate("check", "ann", "bob", status=1).out == "sender-muted until 2098-12-31 16:00:00Z\n"
    assert gate.json("check", "bob", "ann")["allowed"]
    assert [row["user"] for row in gate.json("mutes")["mutes"]] == ["ann"]
    gate("unmute", "ann")
    assert gate.json("mutes")["mutes"] == []


@pytest.mark.parametrize("user", [b"\xff\xfe", b"a b:c\r\n%", "😀".encode(), b"x" * 64, b"-starts-with-a-dash"])
def test_any_id_that_a_command_line_can_hold(gate: Command, user: bytes) -> None:
    gate("ban", "--permanent", "--", user)
    (row,) = gate.json("bans")["bans"]
    shown = row["user"]
    assert shown == user.decode() if isinstance(shown, str) else shown == {"b64": "//4="}
    gate("check", "--", user, b"bob", status=1)
    assert "\r" not in gate("bans").out


def test_explain_names_every_rule(gate: Command) -> None:
    gate("ban", "ann", "--permanent")
    gate("blacklist", "add", "bob", "ann", "--seconds", "600")
    table = gate("explain", "ann", "bob", status=1).out
    assert table.startswith("ann to bob: sender-banned\n")
    assert "denies <- the reason" in table
    explained = gate.json("explain", "ann", "bob", status=1)
    assert {rule["rule"] for rule in explained["rules"] if rule["denies"]} == {"sender-banned", "blacklisted"}
    assert len(explained["rules"]) == 8
    assert explained["revisions"]
    assert explained["stale_ms"] == 0


def test_all_mistakes_of_a_call_are_named_at_once(gate: Command) -> None:
    long = "x" * 65
    result = gate("ban", "", long, "--minutes", "1", "--permanent", "--reason", "y" * 513, status=2)
    assert result.err.splitlines() == [
        "gate: USER: must be 1 to 64 bytes, 0 were sent",
        "gate: USER: must be 1 to 64 bytes, 65 were sent",
        "gate: end: say one of minutes and permanent, not both",
        "gate: --reason: must be at most 512 characters, 513 were given",
    ]
    assert gate.json("bans")["bans"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["ban"],
        ["ban", "ann"],
        ["ban", "ann", "--minutes", "0"],
        ["ban", "ann", "--minutes", "x"],
        ["ban", "ann", "--until", "2020-01-01T00:00:00Z"],
        ["check", "ann"],
        ["check", "ann", "bob", "--min", "7"],
        ["check", "ann", "bob", "--app", "no such key"],
        ["bans", "--limit", "0"],
        ["frobnicate"],
        ["ban", "--frobnicate", "ann"],
        ["import"],
    ],
)
def test_wrong_usage_is_status_2(anyone: Command, arguments: list[str]) -> None:
    assert anyone(*arguments, status=2).err


def test_an_unknown_app_is_not_found(anyone: Command) -> None:
    for arguments in (["check", "a", "b"], ["bans"], ["ban", "a", "--permanent"], ["app", "show", "unknown"]):
        named = arguments if arguments[0] == "app" else [*arguments, "--app", "unknown"]
        assert "no App" in anyone(*named, status=1).err


def test_help_names_every_noun(anyone: Command) -> None:
    shown = anyone("--help").out
    for noun in ("serve", "app", "ban", "blacklist", "check", "explain", "import", "export", "replica", "doctor"):
        assert noun in shown
    assert "--list-ceiling" in anyone("app", "set", "--help").out


def test_an_argument_is_taken_byte_for_byte() -> None:
    from gate.cli.options import given_id

    assert given_id(os.fsdecode(b"\xff\x01"), "A") == b"\xff\x01"


def test_a_list_that_is_cut_says_so(gate: Command) -> None:
    gate("ban", "--permanent", *(f"u{number}" for number in range(7)))
    whole = gate("bans", "--limit", "7")
    assert whole.err == ""
    assert "cut" not in gate.json("bans", "--limit", "100101")
    cut = gate("bans", "--limit", "6", "--json")
    assert cut.err == "gate: cut at 6 rows, more follow: --limit N lists more\n"
    assert (len(cut.json["bans"]), cut.json["cut"]) == (6, True)


@pytest.mark.parametrize(("typed", "seconds"), [("7d", 604_800), ("90m", 5_400), ("2h30m", 9_000), ("1w 1s", 604_801)])
def test_durations_as_people_type_them(typed: str, seconds: int) -> None:
    assert parse_duration(typed) == seconds


@pytest.mark.parametrize("typed", ["", "7", "d", "30m2h", "1.5h", "-1d", "7 days", "9999999999d"])
def test_what_is_no_duration_is_refused_with_the_forms(typed: str) -> None:
    with pytest.raises(InvalidInput, match="as 7d, 90m or 2h30m"):
        parse_duration(typed)


def test_a_ban_for_a_while_and_its_lifting_say_what_was_so(gate: Command) -> None:
    until_ms = gate.json("ban", "ann", "--for", "2h30m")["until"]
    assert abs(until_ms - wall_ms() - 9_000_000) < 30_000
    gate("blacklist", "add", "bob", "ann", "--for", "1d")
    assert "not both" in gate("ban", "ann", "--for", "1d", "--permanent", status=2).err
    lifted = gate("unban", "ann", "bob").out
    assert "1 User no longer banned" in lifted and "was not banned: bob" in lifted
    assert gate.json("unban", "ann")["not_banned"] == ["ann"]
    assert "was not muted: ann" in gate("unmute", "ann").out
