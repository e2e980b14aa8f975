"""Imports and exports, through the real command into a real service."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from gate.clock import wall_ms
from tests.cli.command import Command

EVERYTHING: list[dict[str, Any]] = [
    {"kind": "ban", "user": "spammer", "permanent": True, "reason": 'spam, and "more"', "actor": "joe"},
    {"kind": "ban", "user": {"b64": "/wA="}, "until": 4_000_000_000_000},
    {"kind": "mute", "user": "loud", "until": "2099-01-01T00:00:00Z"},
    {"kind": "blacklist", "owner": "bob", "members": ["ann", "a\r\n:b", "😀", {"b64": "gA=="}]},
    {"kind": "blacklist", "owner": "bob", "member": "timed", "until": 4_000_000_000_000},
    {"kind": "whitelist", "owner": "eve", "member": "ann"},
    {"kind": "whitelist-switch", "user": "eve", "on": True},
    {"kind": "user", "user": "registered"},
]


def ndjson(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def exported(gate: Command) -> list[str]:
    return sorted(gate("export").out.splitlines())


def test_every_kind_goes_in_and_comes_out(gate: Command, tmp_path: Path) -> None:
    file = tmp_path / "facts.ndjson"
    file.write_bytes(ndjson(EVERYTHING))
    done = gate.json("import", file)
    assert done == done | {"lines": 8, "entries": 11, "errors": 0, "ended": 0, "applied": "all"}
    assert gate("check", "spammer", "bob", status=1).out == "sender-banned\n"
    assert gate("check", "loud", "bob", status=1).out.startswith("sender-muted until")
    assert gate("check", "a\r\n:b", "bob", status=1).out == "blacklisted\n"
    assert gate("check", b"\x80", "bob", status=1).out == "blacklisted\n"
    assert gate("check", "bob", "eve", status=1).out == "not-whitelisted\n"
    assert gate.json("check", "ann", "eve")["allowed"]
    assert {"kind": "ban", "user": "spammer", "permanent": True, "reason": 'spam, and "more"', "actor": "joe"} in [
        json.loads(line) for line in exported(gate)
    ]


def test_twice_is_the_same_and_an_export_makes_the_same_facts(gate: Command, tmp_path: Path) -> None:
    file = tmp_path / "facts.ndjson"
    file.write_bytes(ndjson(EVERYTHING))
    gate("import", file)
    first = exported(gate)
    gate("import", file)
    assert exported(gate) == first
    packed = tmp_path / "out.ndjson.gz"
    gate("export", packed)
    assert packed.stat().st_mode & 0o077 == 0
    other = gate("app", "create", "Other", "--json").json["app_key"]
    copy = Command(gate.data, other)
    copy("import", packed)
    assert exported(copy) == first
    assert copy.json("blacklist", "list", "bob") == gate.json("blacklist", "list", "bob")


def test_wrong_lines_are_named_and_the_right_ones_go_in(gate: Command, tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    lines = [b'{"kind":"ban","user":"a","permanent":true}', b"{", b"", b'{"kind":"ban","user":"b"}', b'{"kind":"x"}']
    file.write_bytes(b"\n".join([*lines, b'{"kind":"ban","user":"c","permanent":true}']))
    result = gate("import", file, status=1)
    where = f"{file}:"
    problems = [line.removeprefix(where) for line in result.err.splitlines() if line.startswith(where)]
    assert [problem.split(":")[0] for problem in problems] == ["2", "4", "5"]
    assert "say when it ends" in problems[1]
    assert "2 entries out of 5 lines" in result.out and "3 wrong lines left out" in result.out
    assert {row["user"] for row in gate.json("bans")["bans"]} == {"a", "c"}
    shown = gate.json("import", file, status=1)
    assert shown["errors"] == 3
    assert shown["shown_errors"][0] == {"file": str(file), "line": 2, "problem": shown["shown_errors"][0]["problem"]}


def test_strict_writes_nothing_unless_all_is_right(gate: Command, tmp_path: Path) -> None:
    file = tmp_path / "facts.csv"
    file.write_text("kind,user,permanent\nban,a,true\nban,b,\n")
    assert "nothing written: 1 wrong line" in gate("import", "--strict", file, status=1).out
    assert gate.json("bans")["bans"] == []
    good = b'{"kind":"ban","user":"a","permanent":true}\n'
    assert gate.json("import", "--strict", "-", stdin=good)["entries"] == 1
    assert [row["user"] for row in gate.json("bans")["bans"]] == ["a"]


def test_many_wrong_lines_are_counted_and_the_first_shown(gate: Command, tmp_path: Path) -> None:
    file = tmp_path / "facts.ndjson"
    file.write_bytes(b"no\n" * 1_000)
    result = gate("import", file, status=1)
    assert result.err.count("is not JSON") == 20
    assert "and 980 wrong lines more" in result.err
    stopped = gate.json("import", file, "--max-errors", "7", status=1)
    assert stopped == stopped | {"errors": 7, "lines": 7, "stopped_early": True}


def test_csv_with_quotes_odd_ids_and_ends(gate: Command, tmp_path: Path) -> None:
    file = tmp_path / "blocks.CSV"
    until_ms = wall_ms() + 600_000
    file.write_bytes(
        b'owner,member,until\n"bob ""b"", jr","a\nb",\nbob,\xff,\n' + f"bob,timed,{until_ms}\nbob,ended,1000\n".encode()
    )
    done = gate.json("import", "--kind", "blacklist", file)
    assert done == done | {"entries": 3, "ended": 1, "errors": 0}
    gate("check", "a\nb", 'bob "b", jr', status=1)
    gate("check", b"\xff", "bob", status=1)
    assert gate.json("check", "timed", "bob", status=1)["until"] == until_ms
    gate("check", "ended", "bob")


def test_formats_and_kinds_are_guessed_or_said(gate: Command, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv.gz"
    pairs.write_bytes(gzip.compress(b"owner,member\nbob,ann\n"))
    gate("import", pairs, "--kind", "blacklist")
    gate("check", "ann", "bob", status=1)
    bare = tmp_path / "bare"
    bare.write_bytes(b"spammer,4000000000000,spam\nother\n")
    assert "say --format" in gate("import", bare, status=2).err
    result = gate.json("import", bare, "--format", "csv", "--kind", "ban", "--no-header", status=1)
    assert (result["entries"], result["errors"]) == (1, 1)
    gate.json("import", "-", "--format", "csv", "--kind", "whitelist", stdin=b"owner,member\no,m\n")
    assert gate.json("whitelist", "contains", "o", "m")


def test_a_list_past_the_ceiling_is_reported_by_its_line(gate: Command, tmp_path: Path) -> None:
    assert gate.app
    gate("app", "set", gate.app, "--list-ceiling", "3")
    file = tmp_path / "facts.ndjson"
    file.write_bytes(
        ndjson(
            [
                {"kind": "blacklist", "owner": "fits", "members": ["a", "b", "c"]},
                {"kind": "blacklist", "owner": "full", "members": ["a", "b", "c", "d"]},
            ]
        )
    )
    done = gate.json("import", file, status=1)
    assert (done["entries"], done["errors"]) == (3, 1)
    assert done["shown_errors"][0]["line"] == 2
    assert "ceiling of 3" in done["shown_errors"][0]["problem"]
    assert len(gate.json("blacklist", "list", "fits")["entries"]) == 3
    assert gate.json("blacklist", "list", "full")["entries"] == []


@pytest.mark.parametrize("cut", [10, 60])
def test_a_damaged_file_is_a_wrong_line(gate: Command, tmp_path: Path, cut: int) -> None:
    file = tmp_path / "facts.ndjson.gz"
    file.write_bytes(gzip.compress(ndjson(EVERYTHING))[:cut])
    assert "can't be read" in gate("import", file, status=1).err


def test_all_mistakes_are_named_before_anything_is_written(gate: Command, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.ndjson", tmp_path / "bad.csv"
    good.write_bytes(ndjson(EVERYTHING))
    bad.write_text("ower,member\na,b\n")
    result = gate("import", good, bad, tmp_path / "missing.csv", tmp_path, "--no-header", status=2)
    for line, said in zip(
        result.err.splitlines(), ("--kind too", f"{bad}, line 1", "No such file", "--format"), strict=True
    ):
        assert said in line
    assert exported(gate) == []


def test_many_entries_arrive_whole(gate: Command, tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    owners, members = 4_000, 10
    with file.open("w") as out:
        out.write("owner,member\n")
        out.writelines(f"o{owner},m{(owner * 7 + n) % 5_000}\n" for n in range(members) for owner in range(owners))
    done = gate.json("import", file, "--kind", "blacklist")
    assert done == done | {"lines": owners * members, "entries": owners * members, "errors": 0, "applied": "all"}
    # Rows of one owner are far apart, so its entries went in by several scripts.
    assert len(gate.json("blacklist", "list", "o17")["entries"]) == members
    assert gate.json("replica", "verify")["equal"]


def test_what_one_way_accepts_an_import_accepts(gate: Command, tmp_path: Path) -> None:
    gate("ban", "ann", "--permanent", "--reason", "r" * 512, "--actor", "a" * 128)
    copy = tmp_path / "copy.ndjson"
    gate("export", copy)
    gate("unban", "ann")
    gate("import", copy)
    (row,) = gate.json("bans")["bans"]
    assert (row["reason"], row["actor"]) == ("r" * 512, "a" * 128)
