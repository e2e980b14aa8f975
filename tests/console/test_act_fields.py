"""What the forms of acts hold: each mistake names its field, and every fault has words for an operator."""

from __future__ import annotations

from typing import get_args

import pytest

from gate.console.act_fields import (
    MAX_IDS,
    Failed,
    end_of,
    id_value,
    problem_text,
    profile_of,
    require_registrable,
    sent_ids,
    typed_ids,
)
from gate.console.labels import AUDIT_KINDS
from gate.console.languages import LANGUAGES
from gate.console.request_context import ConsoleContext
from gate.core.changes import KINDS
from gate.core.model import FOREVER_MS
from gate.errors import (
    GateError,
    InvalidInput,
    ListFull,
    NotInProduction,
    ReactivationTooEarly,
    TokensHeld,
    UserDeactivated,
    UserLimitReached,
    UserUnknown,
)
from gate.http.forms import Form
from gate.store.audit import Noted

NOW_MS = 1_900_000_000_000
ENGLISH, CHINESE = LANGUAGES["en"], LANGUAGES["zh"]
CONTEXT = ConsoleContext(None, None, NOW_MS, None, None)  # type: ignore[arg-type]  # fields need the time alone


def form(text: str) -> Form:
    return Form(text.encode())


def test_every_kind_of_entry_in_the_audit_has_words() -> None:
    assert set(AUDIT_KINDS) == KINDS | set(get_args(Noted))


@pytest.mark.parametrize(
    ("sent", "until_ms"),
    [
        ("", NOW_MS + 86_400_000),
        ("ends=600", NOW_MS + 600_000),
        ("ends=never&until=2001-01-01T00:00", FOREVER_MS),
        ("ends=at&until=2030-03-17T17:46:41", NOW_MS + 1_000),
        ("ends=at&until=2030-03-17T17:46:41Z", NOW_MS + 1_000),
        ("ends=at&until=2030-03-17T19:46:41%2B02:00", NOW_MS + 1_000),
    ],
)
def test_an_end_is_a_choice_or_a_moment_in_utc(sent: str, until_ms: int) -> None:
    assert end_of(CONTEXT, form(sent)) == until_ms


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ("ends=7", "ends"),
        ("ends=at", "until"),
        ("ends=at&until=soon", "until"),
        ("ends=at&until=2030-03-17T17:46:40", "until"),
        ("ends=at&until=2300-01-01", "until"),
        ("ends=at&until=9999-12-31T23:59:59-23:59", "until"),
    ],
)
def test_a_wrong_end_names_its_field(sent: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        end_of(CONTEXT, form(sent))
    assert caught.value.parameter == field


def test_ids_are_typed_in_lines_or_sent_in_base64() -> None:
    assert typed_ids(CONTEXT, form("users=ann%0D%0A%0D%0A+bob+%0D%0Aann")) == [b"ann", b"bob"]
    assert typed_ids(CONTEXT, form("users=%2F%2F8%3D&users_as=base64")) == [b"\xff\xff"]
    assert sent_ids(CONTEXT, form(f"id={id_value(b'ann')}&id={id_value(b'ann')}")) == [b"ann"]
    for sent in (
        "",
        "users=+",
        "users=" + "x" * 65,
        "users=%25&users_as=base64",
        "users=" + "%0A".join(map(str, range(MAX_IDS + 1))),
    ):
        with pytest.raises(InvalidInput):
            typed_ids(CONTEXT, form(sent))
    for sent in ("", "id=%25", "id="):
        with pytest.raises(InvalidInput):
            sent_ids(CONTEXT, form(sent))


def test_a_profile_and_an_id_keep_to_the_rules_of_registration() -> None:
    assert profile_of(CONTEXT, form("name=Ann")) == ("Ann", "")
    for field, most in (("name", 129), ("portrait", 1_025)):
        with pytest.raises(InvalidInput) as caught:
            profile_of(CONTEXT, form(f"{field}={'x' * most}"))
        assert caught.value.parameter == field
    require_registrable(CONTEXT, b"ann")
    with pytest.raises(InvalidInput):
        require_registrable(CONTEXT, b"a b")


@pytest.mark.parametrize(
    "fault",
    [
        UserDeactivated([b"a"]), ListFull(3_000, 2_999, 2), UserLimitReached(100), NotInProduction("x"), UserUnknown(b"a"),
        ReactivationTooEarly(b"a", None, "x"), ReactivationTooEarly(b"a", NOW_MS, "x"), TokensHeld(b"a", NOW_MS, "x"),
        InvalidInput("reason", "must be at most 512 characters, 600 were given"),
    ],
)  # fmt: skip
def test_a_refusal_has_words_in_both_languages(fault: GateError) -> None:
    english, chinese = problem_text(fault, ENGLISH), problem_text(fault, CHINESE)
    assert english.isascii() and english != str(fault) and not chinese.isascii()


def test_a_form_that_failed_is_filled_in_again() -> None:
    failed = Failed.of("ban", form("reason=%3Cb%3E&ends=7&x=%FF"), InvalidInput("ends", "wrong"), ENGLISH)
    assert (failed.field, failed.problem) == ("ends", "wrong")
    assert [failed.value(field) for field in ("reason", "ends", "x", "none")] == ["<b>", "7", "\ufffd", ""]
