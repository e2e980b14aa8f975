"""Lines of an import: what NDJSON and CSV spell, and what is said of lines that spell nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.cli.import_reader import MAX_FIELD_CHARS, MAX_LINE_BYTES, csv_lines, ndjson_lines
from gate.errors import InvalidInput


def ndjson(content: bytes) -> list[object]:
    return list(ndjson_lines(io.BytesIO(content)))


def rows(content: bytes, headless_kind: str | None = None) -> list[Any]:
    return list(csv_lines(io.BytesIO(content), headless_kind))


def test_ndjson_lines_are_numbered_and_blank_ones_skipped() -> None:
    assert ndjson(b'{"a":1}\n\n  \r\n{"b":2}') == [(1, {"a": 1}), (4, {"b": 2})]


@pytest.mark.parametrize("line", [b"{", b"[1]", b"null", b"7", b'{"a":"\xff"}', b"\x00", b"owner,member"])
def test_a_line_that_is_no_object_is_a_problem_and_reading_goes_on(line: bytes) -> None:
    first, second = ndjson(line + b'\n{"a":1}\n')
    assert isinstance(first, tuple) and first[0] == 1 and isinstance(first[1], str)
    assert second == (2, {"a": 1})


def test_a_line_without_end_is_not_read_into_memory() -> None:
    class Endless(io.RawIOBase):
        left = 5 * MAX_LINE_BYTES

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            view = memoryview(buffer)  # type: ignore[arg-type]
            count = min(len(view), self.left)
            self.left -= count
            view[:count] = b"x" * count
            return count

    (line,) = ndjson_lines(io.BufferedReader(Endless()))
    assert line == (1, f"is longer than {MAX_LINE_BYTES:,} bytes")


def test_csv_cells_are_named_by_the_header_and_empty_ones_absent() -> None:
    content = b"\xef\xbb\xbfowner, member,until\r\nann,bob,\r\n\r\nann,eve,5\r\n"
    assert rows(content) == [
        (2, {"owner": "ann", "member": "bob"}),
        (4, {"owner": "ann", "member": "eve", "until": "5"}),
    ]


def test_two_columns_come_as_pairs_in_either_order() -> None:
    assert rows(b"owner,member\na,b\n") == [(2, ("a", "b"))]
    assert rows(b"member,owner\nb,a\n") == [(2, ("a", "b"))]


def test_quotes_hold_commas_line_ends_and_quotes_and_lines_stay_numbered() -> None:
    content = b'owner,member\n"a,\n""x""",b\nc,d\n'
    assert rows(content) == [(2, ('a,\n"x"', "b")), (4, ("c", "d"))]


def test_bytes_that_are_no_utf8_pass_through() -> None:
    ((_, pair),) = rows(b"owner,member\n\xff\x00,b\n")
    assert pair[0].encode("utf-8", "surrogateescape") == b"\xff\x00"


@pytest.mark.parametrize("header", [b"", b"ann,bob\n", b"owner,owner\n", b"owner,untill\n", b'"owner\n'])
def test_a_header_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(InvalidInput, match="line 1: must be a header"):
        rows(header)


@pytest.mark.parametrize("columns", [b"owner,member", b"owner,member,until"])
def test_wrong_rows_are_problems_and_reading_goes_on(columns: bytes) -> None:
    content = columns + b'\na\na,b,c,d\n"x"y,b\nc,d' + (b"," if b"until" in columns else b"") + b"\n"
    found = dict(rows(content))
    assert [type(found[number]) for number in (2, 3, 4)] == [str, str, str]
    assert not isinstance(found[5], str)


def test_a_forgotten_quote_swallows_a_bounded_part() -> None:
    good = b"".join(b"%06d,b\n" % number for number in range(5_000))
    found = rows(b'owner,member\n"a,b\n' + good)
    assert isinstance(found[0], tuple) and "not CSV" in str(found[0][1])
    assert len(found) > 5_000 - MAX_FIELD_CHARS // len(b"000000,b\n") - 10


def test_a_file_without_a_header_has_the_columns_of_its_kind() -> None:
    assert rows(b"ann,2030-01-31T18:00:00Z\nbob\n", "ban") == [
        (1, {"user": "ann", "until": "2030-01-31T18:00:00Z"}),
        (2, {"user": "bob"}),
    ]


def ids() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16)


@given(st.lists(st.tuples(ids(), ids())))
def test_what_a_csv_writer_wrote_is_what_is_read(pairs: list[tuple[str, str]]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("owner", "member"), *pairs])
    assert [fields for _, fields in csv_lines(io.BytesIO(out.getvalue().encode()))] == pairs


@given(st.binary(max_size=200))
def test_no_bytes_raise(content: bytes) -> None:
    def drained(lines: Iterator[object]) -> int:
        return sum(1 for _ in lines)

    drained(ndjson_lines(io.BytesIO(content)))
    drained(csv_lines(io.BytesIO(b"owner,member,until\n" + content)))
    drained(csv_lines(io.BytesIO(b"owner,member\n" + content)))
