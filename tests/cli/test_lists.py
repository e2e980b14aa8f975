"""Blacklists and Whitelists from the command line."""

from __future__ import annotations

from tests.cli.command import Command


def test_blacklist(gate: Command) -> None:
    added = gate.json("blacklist", "add", "bob", "ann", "eve")
    assert added == added | {"owner": "bob", "members": ["ann", "eve"], "until": None, "applied": "all"}
    assert gate("check", "ann", "bob", status=1).out == "blacklisted\n"
    timed = gate.json("blacklist", "add", "bob", "joe", "--minutes", "5")
    rows = gate.json("blacklist", "list", "bob")["entries"]
    assert rows == [
        {"member": "joe", "until": timed["until"]},
        {"member": "eve", "until": None},
        {"member": "ann", "until": None},
    ]
    assert gate("blacklist", "contains", "bob", "ann", "eve").out.count(": on the Blacklist") == 2
    found = gate.json("blacklist", "contains", "bob", "ann", "zoe", status=1)
    assert [row["on"] for row in found["members"]] == [True, False]
    gate("blacklist", "remove", "bob", "ann", "zoe")
    assert gate.json("check", "ann", "bob")["allowed"]
    assert "eve" in gate("blacklist", "list", "bob").out
    assert "is empty" in gate("blacklist", "list", "unknown").out


def test_whitelist_and_its_switch(gate: Command) -> None:
    gate("whitelist", "add", "bob", "ann")
    assert gate.json("check", "eve", "bob")["allowed"]
    switched = gate.json("whitelist", "on", "bob", "joe")
    assert switched == switched | {"users": ["bob", "joe"], "on": True}
    assert gate("check", "eve", "bob", status=1).out == "not-whitelisted\n"
    assert gate.json("check", "ann", "bob")["allowed"]
    status = gate.json("whitelist", "status", "bob", "eve")
    assert status == {
        "app_whitelists": "per-user",
        "users": [{"user": "bob", "on": True}, {"user": "eve", "on": False}],
    }
    gate("whitelist", "off", "bob")
    assert gate.json("check", "eve", "bob")["allowed"]


def test_an_addition_past_the_ceiling_adds_nothing(gate: Command) -> None:
    assert gate.app
    gate("app", "set", gate.app, "--list-ceiling", "3")
    gate("blacklist", "add", "bob", "a", "b")
    assert "ceiling of 3" in gate("blacklist", "add", "bob", "c", "d", status=1).err
    assert len(gate.json("blacklist", "list", "bob")["entries"]) == 2
    gate("blacklist", "add", "bob", "b", "c")


def test_mistakes(gate: Command) -> None:
    result = gate("blacklist", "add", "", "x" * 65, "--seconds", "0", status=2)
    assert [line.split(":")[1].strip() for line in result.err.splitlines()] == ["OWNER", "MEMBER", "seconds"]
    gate("blacklist", "add", "bob", status=2)
    gate("blacklist", "list", status=2)


def test_taking_off_says_who_was_not_on_it(gate: Command) -> None:
    gate("blacklist", "add", "owner", "ann", "bob")
    taken = gate("blacklist", "remove", "owner", "ann", "eve").out.splitlines()
    assert taken[0].startswith("1 member taken off the Blacklist of owner: ")
    assert taken[1:] == ["was not on it: eve"]
    assert gate("blacklist", "remove", "owner", "eve", "ann").out == "were not on it: eve, ann\n"
    document = gate.json("blacklist", "remove", "owner", "bob", "eve")
    assert (document["members"], document["not_listed"]) == (["bob", "eve"], ["eve"])
