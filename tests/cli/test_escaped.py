"""Text from outside never reaches a terminal raw: reasons, actors, names and ids are escaped, `--json` stays data."""

from __future__ import annotations

import pytest

from gate.core.shown import shown_text
from tests.cli.command import Command

NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.exe\u2066\u200f\r\nforged  line\x7f"
HARMLESS = "Grüße, 你好, 🙂 naïve"


def assert_printable(text: str) -> None:
    assert [c for c in text if not c.isprintable() and c != "\n"] == [], ascii(text)


def test_every_listing_escapes_what_others_wrote(gate: Command) -> None:
    gate("user", "token", "ann", "--name", NASTY)
    gate("ban", "ann", "--permanent", "--reason", NASTY, "--actor", NASTY)
    gate("mute", "ann", "--permanent", "--reason", NASTY + HARMLESS, "--actor", NASTY)
    gate("blacklist", "add", "ann", "b\x1b[1mob", "--reason", NASTY)
    shown = ""
    for command in (
        ["bans"],
        ["mutes"],
        ["audit"],
        ["user", "info", "ann"],
        ["user", "list"],
        ["blacklist", "list", "ann"],
    ):
        result = gate(*command)
        assert_printable(result.out + result.err)
        shown += result.out
    assert shown.count("owned") >= 6 and HARMLESS in shown
    assert "forged" not in [line.split()[0] for line in shown.splitlines() if line.split()]
    assert_printable(gate("explain", "ann", "bob", status=1).out)
    assert gate.json("bans")["bans"][0]["reason"] == NASTY
    assert NASTY in {entry["reason"] for entry in gate.json("audit")["entries"]}


@pytest.mark.parametrize(
    "arguments", [["ban", NASTY * 4], [NASTY], ["bans", NASTY], ["bans", f"--{NASTY}"], ["import", NASTY]]
)
def test_an_error_escapes_what_it_repeats(arguments: list[str], gate: Command) -> None:
    result = gate(*arguments, status=2)
    assert_printable(result.err)


def test_printable_text_is_left_alone() -> None:
    assert shown_text(HARMLESS) == HARMLESS
    assert shown_text(NASTY).isprintable()
    assert shown_text("\ud800").isprintable()


def test_json_on_a_terminal_holds_nothing_that_it_acts_on(gate: Command) -> None:
    gate("ban", "ann", "--permanent", "--reason", NASTY)
    for command in (["bans"], ["audit"]):
        result = gate(*command, "--json")
        assert_printable(result.out)
        assert NASTY in {entry["reason"] for entry in next(iter(result.json.values()))}
