"""One word for each state: the table in docs/presence.md, and what each surface says, compared with it and with each other."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from gate.cli import online
from gate.core.closing import ENDINGS, REASON_OF_FAULT, REFUSALS
from gate.core.presence import KINDS, CloseReason, UserPresence
from gate.core.verdict import Word
from gate.errors import TokenFault, TokenRefused
from gate.http.errors import TOKEN_FAULTS
from gate.webhooks.presence_body import OFFLINE, ONLINE
from gate.wire.refusals import refused
from tests.docs.pages import REPOSITORY, page_text

PREFIX = re.compile(r"^(sender|recipient|user)-")
OF_OTHERS = {"1", "0", '"online": true', '"online": false', '"0"', '"1"', '"2"', "BADTOKEN", "GATE.ONLINE"}
"""Of a surface that has numbers or one word for several states: those of Redis's kind, and RongCloud's."""


def plain(word: str) -> str:
    """The state that a word names: without whom it is about, and without Redis's capitals."""
    return PREFIX.sub("", word.lower())


def rows() -> dict[str, list[str]]:
    table = page_text("docs/presence.md").split("## One word for each state")[1].split("\n## ")[0]
    found = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            found[cells[0].strip("`")] = re.findall(r"`([^`]+)`", " ".join(cells[2:]))
    return found


@pytest.mark.parametrize("state", rows())
def test_every_surface_has_the_same_word(state: str) -> None:
    words = [word for word in rows()[state] if word not in OF_OTHERS]
    assert words and {plain(word) for word in words} == {state}


def test_the_table_has_every_word_that_surfaces_use() -> None:
    states = rows().keys()
    verdicts = {plain(word) for word in get_args(Word) if PREFIX.match(word)} - {"unknown"}
    faults = {plain(word) for _, word in TOKEN_FAULTS.values()}
    assert verdicts | faults | ENDINGS.keys() | set(get_args(CloseReason)) <= states
    assert REFUSALS.keys() & {plain(word) for _, word in TOKEN_FAULTS.values()} == faults
    assert {"online", "offline"} <= set(KINDS) & states


@pytest.mark.parametrize("fault", get_args(TokenFault))
def test_refusals_of_a_token_have_one_word(fault: TokenFault) -> None:
    word = plain(TOKEN_FAULTS[fault][1])
    code = refused(TokenRefused(fault, "text")).split()[0].decode().lstrip("-")
    assert code == (word.upper() if fault.startswith("user-") else "BADTOKEN")
    assert REASON_OF_FAULT[fault] in ENDINGS
    if fault in ("user-banned", "user-deactivated", "expired", "revoked"):
        assert REASON_OF_FAULT[fault] == word


def test_command_line_webhook_and_package_have_the_words() -> None:
    assert online.state_of(UserPresence((), 0, 0)) == "offline"
    assert (ONLINE, OFFLINE) == ("0", "1")
    source = (REPOSITORY / "client/src/index.ts").read_text()
    assert set(re.findall(r'name: "([a-z]+)"', source.split("export type TokenWanted")[0])) == {
        "connecting",
        "online",
        "offline",
    }
