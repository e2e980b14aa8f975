"""Users from the command line: registered, shown, listed, deleted; their Tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.clock import wall_ms
from gate.core.token import verify
from gate.errors import TokenRefused
from gate.replica.reading import Reading
from tests.cli.command import Command


def fault(gate: Command, token: str) -> str | None:
    """Why this node refuses a Token."""
    reading = Reading(gate.data / "replica")
    reading.refresh()
    try:
        verify(token, reading.app, wall_ms())
    except TokenRefused as refused:
        return refused.fault
    finally:
        reading.release()
        reading.close()
    return None


def test_a_user_from_its_registration_to_its_deletion(gate: Command) -> None:
    added = gate.json("user", "add", "ann", "--name", "Ann", "--portrait", "http://p")
    assert added == added | {"users": ["ann"], "applied": "all"}
    before = gate.json("user", "info", "ann")
    assert before == before | {"name": "Ann", "portrait": "http://p", "banned_until": 0, "deactivated": False}
    gate("user", "refresh", "ann", "--name", "")
    gate("ban", "ann", "--permanent")
    after = gate.json("user", "info", "ann")
    assert after == before | {"name": "", "banned_until": None}
    assert "without end" in gate("user", "info", "ann").out
    gate("user", "delete", "ann", "--yes")
    assert "no User is registered" in gate("user", "info", "ann", status=1).err
    assert gate("check", "ann", "bob").out == "allowed\n"


def test_tokens_are_minted_and_revoked(gate: Command) -> None:
    printed = gate("user", "token", "ann").out
    token = printed.strip()
    assert printed == token + "\n" and fault(gate, token) is None
    other = gate.json("user", "token", "ann")
    assert other == {"user": "ann", "token": other["token"], "expires_at": None}
    assert gate.json("user", "expire", "ann", "--reason", "stolen", "--actor", "joe")["applied"] == "all"
    assert {fault(gate, one) for one in (token, other["token"])} == {"revoked"}
    assert fault(gate, gate("user", "token", "ann").out.strip()) is None


def test_the_list_goes_both_ways(gate: Command) -> None:
    assert "no User is registered" in gate("user", "list").out
    for user in ("ann", "bob", "eve"):
        gate("user", "add", user)
    oldest = gate.json("user", "list")
    assert (oldest["total"], [row["user"] for row in oldest["users"]]) == (3, ["ann", "bob", "eve"])
    newest = gate.json("user", "list", "--newest", "--limit", "2")
    assert (newest["total"], [row["user"] for row in newest["users"]]) == (3, ["eve", "bob"])
    assert "of 3 Users" in gate("user", "list", "--limit", "2").out


def test_a_call_past_the_limit_registers_no_user(gate: Command) -> None:
    gate("user", "add", *(f"u{number}" for number in range(99)))
    assert "100 registered Users" in gate("user", "add", "u99", "u100", status=1).err
    assert gate.json("user", "list")["total"] == 99
    gate("user", "add", "u98", "u99")
    assert "100 registered Users" in gate("user", "token", "u100", status=1).err


def test_an_import_brings_profiles_and_moments(gate: Command, tmp_path: Path) -> None:
    facts = tmp_path / "users.ndjson"
    facts.write_text(
        '{"kind": "user", "user": "ann", "name": "Ann 安", "portrait": "http://p", "registered": "2020-02-03T04:05:06Z"}\n'
        '{"kind": "user", "user": {"b64": "/w=="}, "registered": 1600000000000}\n'
        '{"kind": "user", "user": "late", "registered": "soon"}\n'
        '{"kind": "user", "user": "long", "name": "' + "n" * 129 + '"}\n'
    )
    result = gate("import", str(facts), status=1)
    assert "users.ndjson:3: registered" in result.err and "users.ndjson:4: name" in result.err
    ann = gate.json("user", "info", "ann")
    assert (ann["name"], ann["portrait"], ann["registered_at"]) == ("Ann 安", "http://p", 1_580_702_706_000)
    rows = gate.json("user", "list")["users"]
    in_order = [row["user"] for row in rows] == ["ann", {"b64": "/w=="}]
    assert in_order or rows[0]["registered_at"] > rows[1]["registered_at"]
    exported = tmp_path / "out.ndjson"
    gate("export", exported)
    again = Command(gate.data, gate.json("app", "create", "Copy")["app_key"])
    again("import", exported)
    assert again.json("user", "info", "ann") == ann
    assert again.json("user", "list")["users"] == gate.json("user", "list")["users"]


def test_an_import_keeps_to_the_limit(gate: Command, tmp_path: Path) -> None:
    facts = tmp_path / "users.csv"
    facts.write_text("user\n" + "".join(f"u{number}\n" for number in range(103)))
    result = gate("import", "--kind", "user", str(facts), status=1)
    assert result.err.count("100 registered Users") == 3
    assert "users.csv:104" in result.err
    assert gate.json("user", "list")["total"] == 100
    gate("app", "set", gate.app or "", "--environment", "production")
    gate("import", "--kind", "user", str(facts))
    assert gate.json("user", "list")["total"] == 103
    assert "development environment only" in gate("user", "delete", "u1", "--yes", status=1).err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("add", "a b"), "USER: must be letters, digits"),
        (("add", ""), "USER"),
        (("add", "x" * 65), "USER: must be 1 to 64 bytes"),
        (("add", "ann", "--name", "n" * 129), "--name: must be at most 64 characters, 129 were sent"),
        (("token", "ann", "--portrait", "p" * 1_025), "--portrait: must be at most 1024 bytes, 1025 were sent"),
        (("refresh", "ann"), "say --name or --portrait"),
        (("expire", "ann", "--before", "noon"), "--before"),
    ],
)
def test_bad_arguments_are_named(anyone: Command, arguments: tuple[str, ...], problem: str) -> None:
    assert problem in anyone("user", *arguments, status=2).err
