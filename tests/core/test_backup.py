"""The backup file: what goes in comes out, and any damage is found and named."""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Callable
from struct import pack

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.core.backup import (
    BLOCK_BYTES,
    FORMAT_VERSION,
    MAX_BLOCK_BYTES,
    MAX_ROWS,
    BackupReader,
    BackupWriter,
    End,
    Entries,
    Header,
    Record,
    Rows,
    UserKey,
    chunks,
    count_of,
)
from gate.errors import BackupDamaged, BackupForeign
from harness.seeds import seed

SEED = seed(14)
HEADER = Header(gate="9.9.9", made_at_ms=1_000, partitions=4)
END = End(entries={"user": 1}, heads=[("00", 7, 1_000)])
BYTES = st.binary(max_size=20)
FLAT = st.lists(st.tuples(BYTES, BYTES), max_size=4).map(lambda pairs: [part for pair in pairs for part in pair])
RECORDS: st.SearchStrategy[list[Record]] = st.lists(
    st.one_of(
        st.builds(UserKey, st.sampled_from(["user", "black"]), st.text(max_size=5), BYTES, FLAT, st.booleans()),
        st.builds(Rows, st.just("jobs"), st.just(""), FLAT),
        st.builds(Entries, st.just("audit"), st.just("shop"), st.lists(st.tuples(BYTES, FLAT), max_size=3)),
    ),
    max_size=5,
)
SOME: list[Record] = [
    UserKey("user", "shop", b"ann", [b"b", b"5000"]),
    Rows("apps", "", [b"shop", b"{}"]),
    Entries("audit", "shop", [(b"1-0", [b"k", b"ban-imposed"])]),
]


def written(records: list[Record]) -> bytes:
    stream = io.BytesIO()
    writer = BackupWriter(stream, HEADER)
    for record in records:
        writer.add(record)
    checksum = writer.finish(END)
    assert stream.getvalue()[-32:].hex() == checksum
    assert writer.written_bytes == len(stream.getvalue())
    return stream.getvalue()


def read(content: bytes) -> list[Record]:
    reader = BackupReader(io.BytesIO(content))
    found = [record for records in reader.records() for record in records]
    assert reader.header == HEADER and reader.end == END and reader.checksum == content[-32:].hex()
    return found


@given(RECORDS)
def test_what_was_written_is_read(records: list[Record]) -> None:
    assert read(written(records)) == records


def test_what_a_record_counts_for() -> None:
    """A User's facts are one entry, each row and each entry of a stream is one."""
    assert [str(count_of(record)) for record in SOME] == ["1", "1", "1"]
    assert count_of(UserKey("user", "shop", b"ann", [b"a", b"1", b"b", b"2"])) == 1
    assert count_of(UserKey("user", "shop", b"ann", [])) == 0
    assert count_of(UserKey("black", "shop", b"ann", [b"a", b"1", b"b", b"2"])) == 2
    assert count_of(Entries("audit", "shop", [])) == 0


def test_nothing_is_known_of_the_end_before_it_is_read() -> None:
    reader = BackupReader(io.BytesIO(written(SOME)))
    assert (reader.end, reader.checksum) == (None, "")
    with pytest.raises(BackupDamaged, match=r"^it ends at byte 3, within its first bytes: it was cut off$"):
        BackupReader(io.BytesIO(written(SOME)[:3]))


def test_many_records_are_many_blocks() -> None:
    records: list[Record] = [UserKey("black", "shop", b"%d" % n, [b"m" * 64, b"1"] * 500) for n in range(40)]
    content = written(records)
    reader = BackupReader(io.BytesIO(content))
    assert len(list(reader.records())) > 40 * 500 * 64 // BLOCK_BYTES
    assert read(content) == records


def test_each_byte_that_is_flipped_is_found_and_named() -> None:
    content, draw = written(SOME), random.Random(SEED)
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << draw.randrange(8)
        with pytest.raises(BackupForeign, match=r"byte \d|format \d+"):
            read(bytes(damaged))


def test_a_file_that_was_cut_off_says_where() -> None:
    content = written(SOME)
    for length in range(len(content)):
        part = _part_at(content, length)
        with pytest.raises(BackupDamaged, match=rf"^it ends at byte {length}, within {part}: it was cut off$"):
            read(content[:length])


def _part_at(content: bytes, length: int) -> str:
    """What a file of this length breaks off in."""
    if length < 8:
        return "its first bytes"
    if length < 10:
        return "its version"
    at = 10
    while at < len(content) - 32:
        size = 9 + int.from_bytes(content[at : at + 4])
        if length < at + size:
            return f"the block at byte {at}"
        at += size
    return "its checksum"


def test_bytes_behind_the_end_are_refused() -> None:
    content = written(SOME)
    with pytest.raises(BackupDamaged, match=rf"damaged at byte {len(content)}: there is more behind its end"):
        read(content + b"\0")
    behind = io.BytesIO(content + bytes(100))
    with pytest.raises(BackupDamaged):
        list(BackupReader(behind).records())
    assert behind.tell() == len(content) + 1, "however much there is, one byte of it is read"
    with pytest.raises(BackupDamaged, match="there is more"):
        read(content + content)


def test_another_file_is_no_backup() -> None:
    text = "^it does not begin as a backup of Gate: it is no backup, or damaged at byte 0$"
    with pytest.raises(BackupForeign, match=text):
        read(b'{"kind":"ban","user":"ann","permanent":true}\n')


def test_a_newer_format_is_refused_by_its_name() -> None:
    content = bytearray(written(SOME))
    content[8:10] = (FORMAT_VERSION + 1).to_bytes(2)
    with pytest.raises(
        BackupForeign, match=rf"has format {FORMAT_VERSION + 1}, written by Gate 9.9.9; this Gate reads"
    ):
        read(bytes(content))


def test_a_header_with_unknown_fields_is_read() -> None:
    document = msgspec.to_builtins(HEADER) | {"later": 1}
    assert BackupReader(io.BytesIO(_file(b"H", msgspec.json.encode(document)))).header == HEADER


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (lambda: zlib.compress(bytes(MAX_BLOCK_BYTES + 1)), "more, or less, than one block may"),
        (lambda: zlib.compress(b"\xc1"), "its records can't be read"),
        (lambda: zlib.compress(msgspec.msgpack.encode([["strange", 1]])), "its records can't be read"),
        (lambda: b"no zlib", "its records can't be read"),
    ],
    ids=["too long", "no msgpack", "strange", "no zlib"],
)
def test_a_block_with_a_right_checksum_may_still_be_wrong(payload: Callable[[], bytes], problem: str) -> None:
    reader = BackupReader(io.BytesIO(_file(b"H", msgspec.json.encode(HEADER), b"D", payload())))
    with pytest.raises(BackupDamaged, match=problem):
        list(reader.records())


def test_a_block_that_claims_to_be_too_long_is_not_read() -> None:
    content = _file(b"H", msgspec.json.encode(HEADER)) + pack(">IIc", MAX_BLOCK_BYTES + 1, 0, b"D")
    with pytest.raises(BackupDamaged, match="more than any has"):
        list(BackupReader(io.BytesIO(content)).records())


@pytest.mark.parametrize(
    ("blocks", "problem"),
    [
        ((b"X", b"{}"), "the header is missing"),
        ((b"H", b"[]"), "the header can't be read: Expected `object`, got `array`"),
        ((b"H", msgspec.json.encode(HEADER), b"X", b"..."), "a block of the unknown kind b'X'"),
        ((b"H", msgspec.json.encode(HEADER), b"E", b"[]"), "its end can't be read: Expected `object`, got `array`"),
    ],
)
def test_a_wrong_block_is_named_with_its_place(blocks: tuple[bytes, ...], problem: str) -> None:
    _expect_damage(blocks, problem)


def test_a_block_that_holds_too_much_is_named_with_its_place() -> None:
    blocks = (b"H", msgspec.json.encode(HEADER), b"D", zlib.compress(bytes(MAX_BLOCK_BYTES + 1)))
    _expect_damage(blocks, "its records can't be read: it holds more, or less, than one block may")


def _expect_damage(blocks: tuple[bytes, ...], problem: str) -> None:
    """In the last of the blocks."""
    content = _file(*blocks)
    at = len(_file(*blocks[:-2]))
    with pytest.raises(BackupDamaged) as damage:
        list(BackupReader(io.BytesIO(content)).records())
    assert str(damage.value) == f"damaged between byte {at} and byte {len(content) - 1}: {problem}"


def test_a_block_whose_checksum_is_wrong_is_named_with_its_place() -> None:
    content = bytearray(_file(b"H", msgspec.json.encode(HEADER)))
    content[-1] ^= 1
    with pytest.raises(BackupDamaged) as damage:
        BackupReader(io.BytesIO(bytes(content)))
    assert str(damage.value) == f"damaged between byte 10 and byte {len(content) - 1}: its checksum is another one"


def test_a_block_of_the_greatest_length_is_read() -> None:
    content = _file(b"H", msgspec.json.encode(HEADER), b"D", bytes(MAX_BLOCK_BYTES))
    with pytest.raises(BackupDamaged, match="its records can't be read"):
        list(BackupReader(io.BytesIO(content)).records())


@pytest.mark.parametrize("count", [0, 1, MAX_ROWS, MAX_ROWS + 1, 3 * MAX_ROWS])
def test_chunks_are_bounded_and_lose_nothing(count: int) -> None:
    flat = [b"%d" % n for n in range(2 * count)]
    parts = list(chunks(flat))
    assert [one for part in parts for one in part] == flat
    assert all(len(part) <= 2 * MAX_ROWS for part in parts) and len(parts) == max(1, -(-count // MAX_ROWS))


def _file(*blocks: bytes) -> bytes:
    """A file without its end: kinds and payloads alternate."""
    content = b"gatebak\n" + FORMAT_VERSION.to_bytes(2)
    for kind, payload in zip(blocks[::2], blocks[1::2], strict=True):
        content += pack(">IIc", len(payload), zlib.crc32(payload, zlib.crc32(kind)), kind) + payload
    return content
