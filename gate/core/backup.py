"""The backup file: its layout, its records, and the checks that find any damage before a byte of it is used.

    8 bytes   MAGIC
    2 bytes   version of the format, big-endian
    blocks    4 bytes length of the payload, 4 bytes CRC-32 of kind and payload, 1 byte kind, payload
              first H (JSON, `Header`), then D (records: msgpack, deflated by zlib), last E (JSON, `End`)
    32 bytes  SHA-256 of everything before

All numbers are big-endian. Magic, version and the block H look the same in every version, so that an older Gate can name the
newer one. A record states what one key of Redis holds, in the order in which a restore writes it: of a User's key, a later
record with `replaces` takes the place of all earlier ones. Written by `gate backup`, read by `gate restore`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import IO, NamedTuple

import msgspec

from gate.errors import BackupDamaged, BackupForeign

MAGIC = b"gatebak\n"
# The format that this version writes. It reads this one and all before it.
FORMAT_VERSION = 1
OLDEST_FORMAT = 1
# Before compression: about what a restore writes in one pipeline.
BLOCK_BYTES = 256 * 1024
# Of a payload, also after it was inflated: a list without a ceiling is cut into records of `MAX_ROWS`.
MAX_BLOCK_BYTES = 64 * 1024 * 1024
MAX_ROWS = 1_000
DIGEST_BYTES = 32
# The lists of ids compress to a third at any level; a higher one takes five times as long.
COMPRESSION = 1

_VERSION = Struct(">H")
_BLOCK = Struct(">IIc")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What made the file. `partitions` is the number of the deployment that was read."""

    gate: str
    made_at_ms: int
    partitions: int
    has_audit: bool = True


class End(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds: entries by noun, and each Partition's epoch, number of its last Change, and moment."""

    entries: dict[str, int]
    heads: list[tuple[str, int, int]]


class UserKey(msgspec.Struct, frozen=True, array_like=True, tag="user"):
    """Fields of a User's facts, or rows of one of the lists: `noun` is that of the key; `flat` alternates name and value."""

    noun: str
    app: str
    user: bytes
    flat: list[bytes]
    replaces: bool = False


class Rows(msgspec.Struct, frozen=True, array_like=True, tag="rows"):
    """Rows of a hash or a sorted set that belongs to no User: `apps`, `operators`, `quota` (of `app`), `jobs`."""

    noun: str
    app: str
    flat: list[bytes]


class Entries(msgspec.Struct, frozen=True, array_like=True, tag="entries"):
    """Entries of a stream, oldest first: `audit` (of `app`), `deployment-audit`, `hooks`, `hooks-dead`."""

    noun: str
    app: str
    entries: list[tuple[bytes, list[bytes]]]


Record = UserKey | Rows | Entries


def count_of(record: Record) -> int:
    """The number of entries in a record, for people: a User's facts are one, whatever the number of their fields."""
    if isinstance(record, Entries):
        return len(record.entries)
    rows = len(record.flat) // 2
    return min(rows, 1) if record.noun == "user" else rows


_encoder = msgspec.msgpack.Encoder()
_records = msgspec.msgpack.Decoder(list[Record])
_header = msgspec.json.Decoder(Header)
_end = msgspec.json.Decoder(End)


class BackupWriter:
    """Writes a backup file to a stream, block by block."""

    def __init__(self, stream: IO[bytes], header: Header) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.written_bytes = 0
        self._write(MAGIC + _VERSION.pack(FORMAT_VERSION))
        self._block(b"H", msgspec.json.encode(header))

    def add(self, record: Record) -> None:
        """Add a record. It is in the stream at the latest with `finish`."""
        packed = _encoder.encode(record)
        self._waiting.append(packed)
        self._waiting_bytes += len(packed)
        if self._waiting_bytes >= BLOCK_BYTES:
            self._flush()

    def finish(self, end: End) -> str:
        """Write the last block and the checksum. Returns the checksum in hex."""
        self._flush()
        self._block(b"E", msgspec.json.encode(end))
        digest = self._digest.copy()
        self._write(digest.digest())
        return digest.hexdigest()

    def _flush(self) -> None:
        if self._waiting:
            # An array of records that are packed already: its prefix, then they.
            packed = b"\xdd" + len(self._waiting).to_bytes(4) + b"".join(self._waiting)
            self._block(b"D", zlib.compress(packed, COMPRESSION))
            self._waiting, self._waiting_bytes = [], 0

    def _block(self, kind: bytes, payload: bytes) -> None:
        self._write(_BLOCK.pack(len(payload), zlib.crc32(payload, zlib.crc32(kind)), kind) + payload)

    def _write(self, part: bytes) -> None:
        self._stream.write(part)
        self._digest.update(part)
        self.written_bytes += len(part)


class _Block(NamedTuple):
    at: int
    kind: bytes
    payload: bytes


class BackupReader:
    """Reads a backup file once, from its beginning. `records` raises `BackupDamaged` at the first byte that is wrong."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Read up to the header. Raises `BackupForeign` for another kind of file or a newer format, `BackupDamaged`."""
        self._stream = stream
        self._digest = hashlib.sha256()
        self.read_bytes = 0
        self.end: End | None = None
        """The last block; None until all records were read."""
        self.checksum = ""
        if self._take(len(MAGIC), "its first bytes") != MAGIC:
            raise BackupForeign("it does not begin as a backup of Gate: it is no backup, or damaged at byte 0")
        (version,) = _VERSION.unpack(self._take(_VERSION.size, "its version"))
        self.header = self._header(version)

    def records(self) -> Iterator[list[Record]]:
        """Yield the records of each block, then check the end. Raises `BackupDamaged`, which names the place."""
        while (block := self._next()).kind == b"D":
            try:
                yield _records.decode(_inflated(block.payload))
            except (msgspec.DecodeError, zlib.error, ValueError) as fault:
                raise _damaged(block, f"its records can't be read: {fault}") from None
        if block.kind != b"E":
            raise _damaged(block, f"a block of the unknown kind {block.kind!r}")
        try:
            self.end = _end.decode(block.payload)
        except msgspec.DecodeError as fault:
            raise _damaged(block, f"its end can't be read: {fault}") from None
        self._check_sum()

    def _header(self, version: int) -> Header:
        block = self._next()
        try:
            if block.kind != b"H":
                raise _damaged(block, "the header is missing")
            # A newer version may have more fields: they are skipped.
            header = _header.decode(block.payload)
        except msgspec.DecodeError as fault:
            raise _damaged(block, f"the header can't be read: {fault}") from None
        if not OLDEST_FORMAT <= version <= FORMAT_VERSION:
            raise BackupForeign(
                f"it has format {version}, written by Gate {header.gate}; this Gate reads formats {OLDEST_FORMAT} to "
                f"{FORMAT_VERSION}: restore with a Gate that is as new"
            )
        return header

    def _next(self) -> _Block:
        at = self.read_bytes
        length, checksum, kind = _BLOCK.unpack(self._take(_BLOCK.size, f"the block at byte {at}"))
        if length > MAX_BLOCK_BYTES:
            raise BackupDamaged(f"damaged at byte {at}: a block of {length:,} bytes, more than any has")
        payload = self._take(length, f"the block at byte {at}")
        block = _Block(at, kind, payload)
        if zlib.crc32(payload, zlib.crc32(kind)) != checksum:
            raise _damaged(block, "its checksum is another one")
        return block

    def _check_sum(self) -> None:
        expected = self._digest.digest()
        at = self.read_bytes
        if self._take(DIGEST_BYTES, "its checksum") != expected:
            raise BackupDamaged(f"damaged: the checksum of the whole file, at byte {at}, is another one")
        self.checksum = expected.hex()
        if self._stream.read(1):
            raise BackupDamaged(f"damaged at byte {self.read_bytes}: there is more behind its end")

    def _take(self, count: int, what: str) -> bytes:
        taken = self._stream.read(count)
        if len(taken) < count:
            raise BackupDamaged(f"it ends at byte {self.read_bytes + len(taken)}, within {what}: it was cut off")
        self._digest.update(taken)
        self.read_bytes += count
        return taken


def chunks(flat: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield a flat list of pairs in parts of at most `MAX_ROWS` pairs; an empty one once."""
    for first in range(0, max(1, len(flat)), 2 * MAX_ROWS):
        yield list(flat[first : first + 2 * MAX_ROWS])


def _inflated(payload: bytes) -> bytes:
    inflating = zlib.decompressobj()
    packed = inflating.decompress(payload, MAX_BLOCK_BYTES)
    # Bounded: a few bytes can stand for gigabytes.
    if not inflating.eof or inflating.unused_data:
        raise ValueError("it holds more, or less, than one block may")
    return packed


def _damaged(block: _Block, problem: str) -> BackupDamaged:
    last = block.at + _BLOCK.size + len(block.payload) - 1
    return BackupDamaged(f"damaged between byte {block.at} and byte {last}: {problem}")
