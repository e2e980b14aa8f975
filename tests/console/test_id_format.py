"""Ids in text, links and fields; words for every Verdict."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from gate.console.id_format import asked, named
from gate.console.labels import RULES, VERDICTS
from gate.core import decide
from gate.core.verdict import Word
from gate.http.forms import Form

IDS = st.binary(min_size=1, max_size=64)


@given(IDS)
def test_any_id_comes_back_from_its_link_and_from_its_field(raw: bytes) -> None:
    spelled = named(raw)
    assert asked(Form(f"user={spelled.query}".encode()), "user").raw == raw
    # As a browser sends what a text field held: without line breaks, as UTF-8.
    typed = named(spelled.field.encode()).query
    assert "\n" not in spelled.field and "\r" not in spelled.field
    again = asked(Form(f"user={typed}&user_as={spelled.written_as}".encode()), "user")
    assert (again.raw, again.problem, again.field) == (raw, "", spelled.field)


@given(IDS)
def test_an_id_in_text_is_one_printable_line(raw: bytes) -> None:
    assert named(raw).text.isprintable() and named(raw).query.isascii()


@given(st.binary(max_size=100))
def test_a_field_with_anything_in_it_is_an_id_or_a_problem(typed: bytes) -> None:
    for written_as in ("text", "base64"):
        query = "".join(f"%{byte:02x}" for byte in typed)
        found = asked(Form(f"user={query}&user_as={written_as}".encode()), "user")
        assert (found.raw is None or 1 <= len(found.raw) <= 64) and not (found.raw and found.problem)


def test_every_verdict_and_every_rule_has_words() -> None:
    assert set(VERDICTS) == set(get_args(Word))
    assert list(RULES) == [word for word, _ in decide.RULES]
