"""Small rules on text: file encodings, audit texts, RongCloud's signature, reconnects, and places of an erased id."""

from __future__ import annotations

import codecs
from hashlib import sha1
from typing import get_args

import pytest

from gate.core.closing import ENDINGS, REASON_OF_FAULT, reconnect_ms
from gate.core.file_text import read_text
from gate.core.occurrence import Occurrence, Tally
from gate.core.reasons import MAX_REASON_CHARS, audit_text
from gate.core.signature import signature_of
from gate.errors import TokenFault


@pytest.mark.parametrize(
    "raw",
    [
        "é\r\nb\n".encode(),
        codecs.BOM_UTF8 + "é\nb\r\n".encode(),
        codecs.BOM_UTF16_LE + "é\r\nb\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "é\r\nb\n".encode("utf-16-be"),
    ],
)
def test_a_file_is_read_in_any_usual_encoding(raw: bytes) -> None:
    assert read_text(raw) == "é\nb\n"


def test_bytes_that_are_no_text_are_refused() -> None:
    for raw in (b"\xff", codecs.BOM_UTF16_LE + b"a"):
        with pytest.raises(ValueError):
            read_text(raw)


def test_an_audit_text_may_be_as_long_as_its_bound() -> None:
    for text in ("", "x" * MAX_REASON_CHARS, "é" * MAX_REASON_CHARS):
        assert audit_text(text, "reason") == text
    assert audit_text("x" * 9, "actor", 9) == "x" * 9


def test_the_signature_is_the_hash_of_secret_nonce_and_timestamp() -> None:
    # The example of RongCloud's documents.
    assert signature_of("5vRKbdGc5r", "14314", "1408706337") == sha1(b"5vRKbdGc5r143141408706337").hexdigest()
    assert signature_of("é", "\udcff", "1") == sha1(b"\xc3\xa9\xff1").hexdigest()


def test_a_client_waits_longer_the_more_must_reconnect() -> None:
    assert (reconnect_ms(1, 0.0), reconnect_ms(1, 0.5), reconnect_ms(1, 1.0)) == (500, 1_000, 1_500)
    assert reconnect_ms(1_000, 1.0) == 1_500 and reconnect_ms(1_001, 1.0) == 1_501
    assert reconnect_ms(60_000, 0.5) == 30_500


def test_each_fault_of_a_token_closes_with_a_reason_of_the_table() -> None:
    assert REASON_OF_FAULT.keys() == set(get_args(TokenFault))
    assert set(REASON_OF_FAULT.values()) <= ENDINGS.keys()


def test_occurrences_are_counted_by_place() -> None:
    tally = Tally()
    tally.add("b", True)
    tally.add("a", True, 2)
    tally.add("z", False)
    tally.add("z", False, 2)
    tally.add("z", True)
    tally.add("none", False, 0)
    assert tally.all() == [
        Occurrence("z", 3, False),
        Occurrence("a", 2, True),
        Occurrence("b", 1, True),
        Occurrence("z", 1, True),
    ]
