"""The Replica's layout on disk: one directory, one LMDB file of facts, one status page. Documented for other languages.

    DIR/current            the name of the facts file in use, replaced by an atomic rename
    DIR/facts-N.mdb        the facts, with a `-lock` file; N grows with every snapshot that is swapped in
    DIR/board              the replicator's current state, memory-mapped; see `status_page.py`

Keys in the facts file (its main database), numbers big-endian; ids come last or after their length, so no two keys can collide:

    M <name>                           layout, boot, clean, partitions, successor, next-app, next-list, packed, checksum
    Mapp:<app key>                     the App's number in this file, 4 bytes; "" once removed
    Mpurge:<app number:4>              facts of a removed App that are still to be deleted
    P <partition:2>                    Position: epoch, seq, write id, and when it was applied
    A <app key>                        the App's number here (4 bytes), then its settings as JSON
    C <app key>                        the part that a check needs, so that it parses no JSON: the CRC-32 of the `A` value (4
                                       bytes), the App's number (4), a flag byte (1 only registered Users, 2 list policy "both",
                                       4 Whitelists on, 8 off, 16 shadow mode: denials are answered `allowed`), and the exempt
                                       senders, each after its length in a byte. If the CRC-32 differs, a Gate without `C` keys
                                       changed the `A` value, and the `A` value counts
    U <app number:3> <id>              a User's facts, `pack_user_record`; absent when it has none. Exactly when one of its list
                                       sizes is not 0, the number of its lists (4 bytes) follows
    L <list number:4> B <member>       an entry of the Blacklist of the User whose lists have that number: "" for no end, or
                                       8 bytes, the end in ms
    L <list number:4> W <member>       the same for the Whitelist
    J <transaction id:8>               the Users whose `U` facts that commit touched, so that readers keep the rest of their
                                       caches; absent or "*" means: anything may have changed

App numbers and list numbers are local to this file (they keep keys short). Both lists of a User share one number, assigned with
the first entry and released with the last. No number is assigned twice in a file, and 0 belongs to no User.

`Mchecksum` is the sum, modulo 2^64, of the CRC-32 (as zlib's, of the key and then the value) of every other key, as 8 bytes.
The writer maintains it in the transaction that changes a key, so that damage is detected: see `file_check.scrub`.

A facts file that was replaced holds the name of the newer one under `successor`; a reader that sees it opens the newer file.
Nothing here is ever patched by hand: a file that can't be trusted (other layout, torn, machine lost power without a clean
close) is rebuilt from Redis.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from gate.core.codec import pack_members
from gate.core.decide import exempt_ids
from gate.core.ids import MAX_ID_BYTES
from gate.core.model import FOREVER_MS, NO_FACTS, AppFacts, ListKind, UserFacts
from gate.core.revision import Position
from gate.errors import ReplicaForeign, ReplicaMissing

LAYOUT_VERSION = b"gate-replica-3"

CURRENT_FILE = "current"
BOARD_FILE = "board"
# Address space, not disk or memory: without `writemap` a huge map is free and never has to be enlarged.
MAP_BYTES = 1 << 40
# Reader slots in the lock file: one per thread in every process that has this Replica open.
MAX_READERS = 1_024

META_LAYOUT = b"Mlayout"
META_BOOT = b"Mboot"
META_CLEAN = b"Mclean"
META_PARTITIONS = b"Mpartitions"
META_SUCCESSOR = b"Msuccessor"
META_NEXT_APP = b"Mnext-app"
META_NEXT_LIST = b"Mnext-list"
# Number of keys when the file's pages were last full. Later keys came in random order and left them half empty.
META_PACKED = b"Mpacked"
META_CHECKSUM = b"Mchecksum"
CHECKSUM_RANGE = 1 << 64
META_APP_PREFIX = b"Mapp:"
APP_PREFIX = b"A"
META_PURGE_PREFIX = b"Mpurge:"

# Number of `J` keys that the writer keeps. A reader further behind empties its cache.
JOURNAL_COMMITS = 256
JOURNAL_EVERYTHING = b"*"
JOURNAL_PREFIX = b"J"

# Twelve digits, the maximum in the name of a facts file.
MAX_GENERATION = 10**12 - 1
_FACTS_NAME = re.compile(r"facts-(\d{1,12})\.mdb")
LIST_TAG = {ListKind.BLACKLIST: b"B", ListKind.WHITELIST: b"W"}
NO_END = b""

# Instead of a list number: both lists are empty. No entry is ever found under it.
NO_LISTS = 0
FIRST_LIST = 1
# Range of the key of an entry. A file that used them up is rebuilt, which numbers only existing lists.
LIST_NUMBERS = 1 << 32

# Flags of a User's packed facts.
_REGISTERED, _DEACTIVATED, _WHITELIST_ON = 1, 2, 4
_BANNED, _MUTED, _TOKENS, _BLACKLIST, _WHITELIST = 8, 16, 32, 64, 128
_MOMENT = struct.Struct(">Q")
_SIZE = struct.Struct(">I")
_NUMBER_BYTES = 4
_WHITELISTS_FLAG = {"per-user": 0, "on": 4, "off": 8}


class PositionRecord(msgspec.Struct, frozen=True, array_like=True):
    """The value of a `P` key (msgpack array)."""

    epoch: str
    seq: int
    tip: str
    applied_at_ms: int

    @property
    def position(self) -> Position:
        """The Position without the moment."""
        return Position(self.epoch, self.seq, self.tip)


class AppRecord(msgspec.Struct, frozen=True):
    """The value of an `A` key, decoded: the App's number in this file, and its settings."""

    number: int
    facts: AppFacts


class UserRecord(NamedTuple):
    """The value of a `U` key, decoded: the User's facts, and the number of its lists (`NO_LISTS` while both are empty)."""

    facts: UserFacts
    lists: int


NO_RECORD = UserRecord(NO_FACTS, NO_LISTS)


def facts_name(generation: int) -> str:
    """Return the file name of one generation of facts."""
    return f"facts-{generation}.mdb"


def generation_of(name: str) -> int:
    """Return the generation in a facts file's name. Raises `ReplicaForeign` for any other name."""
    match = _FACTS_NAME.fullmatch(name)
    if match is None:
        raise ReplicaForeign(f"{name[:80]!r} is not the name of a facts file")
    return int(match[1])


def replica_dir(path: Path) -> Path:
    """Return the Replica's directory, given it or the data directory that contains it."""
    return path / "replica" if (path / "replica").is_dir() else path


def current_facts(directory: Path) -> Path:
    """Return the facts file in use. Raises `ReplicaMissing` if it does not exist."""
    try:
        name = (directory / CURRENT_FILE).read_text(errors="replace").strip()
    except FileNotFoundError:
        raise ReplicaMissing(f"no Replica in {directory}: start the replicator there (gate serve) first") from None
    except OSError as fault:
        raise ReplicaForeign(f"{directory / CURRENT_FILE} can't be read: {fault.strerror}") from None
    generation_of(name)
    path = directory / name
    if not path.exists():
        raise ReplicaMissing(f"{directory / CURRENT_FILE} names {name}, which does not exist")
    return path


@lru_cache(maxsize=1_024)
def position_key(partition: int) -> bytes:
    """Key of a Partition's Position."""
    return b"P" + partition.to_bytes(2, "big")


def app_record_key(app_key: str) -> bytes:
    """Key of an App's record."""
    return APP_PREFIX + app_key.encode()


def check_settings_key(app_key: str) -> bytes:
    """Key of the part of an App's record that a check needs."""
    return b"C" + app_key.encode()


def app_number_key(app_key: str) -> bytes:
    """Key of an App's number: Changes of an App's Users may come before the App's own record."""
    return META_APP_PREFIX + app_key.encode()


@lru_cache(maxsize=4_096)
def user_prefix(app_number: int) -> bytes:
    """Prefix of the keys of one App's Users; the id follows."""
    return b"U" + app_number.to_bytes(3, "big")


lists_prefix = partial(struct.Struct(">cI").pack, b"L")
"""Prefix of the keys of all entries of one owner, by the number of its lists; the list's tag follows."""


def list_prefix(list_number: int, kind: ListKind) -> bytes:
    """Prefix of the keys of one list's entries; the member follows."""
    return lists_prefix(list_number) + LIST_TAG[kind]


def pack_user_record(facts: UserFacts, list_number: int) -> bytes:
    """Value of a `U` key. The number is stored only if a list has entries.

    A flag byte, then the moments (8 bytes) and sizes (4 bytes) that are not zero, in the flags' order: most Users have
    one fact or none.
    """
    # bool * int: a flag or 0, without a branch.
    flags = _REGISTERED * facts.registered | _DEACTIVATED * facts.deactivated | _WHITELIST_ON * facts.whitelist_on
    tail = b""
    for flag, moment in (
        (_BANNED, facts.banned_until_ms),
        (_MUTED, facts.muted_until_ms),
        (_TOKENS, facts.tokens_valid_from_ms),
    ):
        if moment:
            flags |= flag
            tail += _MOMENT.pack(moment)
    for flag, size in ((_BLACKLIST, facts.blacklist_size), (_WHITELIST, facts.whitelist_size)):
        if size:
            flags |= flag
            tail += _SIZE.pack(size)
    if flags & (_BLACKLIST | _WHITELIST):
        tail += list_number.to_bytes(_NUMBER_BYTES, "big")
    return bytes((flags,)) + tail


def pack_next_list(number: int) -> bytes:
    """Value of `META_NEXT_LIST`: one byte more than a list number, for a file that has assigned all of them."""
    return number.to_bytes(_NUMBER_BYTES + 1, "big")


def unpack_user_record(packed: bytes) -> UserRecord:
    """Unpack what `pack_user_record` wrote. Raises `ValueError`, `IndexError` or `struct.error` for bytes of another form."""
    flags, at = packed[0], 1
    moments = [0, 0, 0]
    for index, flag in enumerate((_BANNED, _MUTED, _TOKENS)):
        if flags & flag:
            moments[index] = _MOMENT.unpack_from(packed, at)[0]
            at += _MOMENT.size
    sizes, lists = [0, 0], NO_LISTS
    for index, flag in enumerate((_BLACKLIST, _WHITELIST)):
        if flags & flag:
            sizes[index] = _SIZE.unpack_from(packed, at)[0]
            at += _SIZE.size
    if flags & (_BLACKLIST | _WHITELIST):
        lists = int.from_bytes(packed[at : at + _NUMBER_BYTES], "big")
        at += _NUMBER_BYTES
    if at != len(packed):
        raise ValueError("a User's packed facts have another length")
    facts = UserFacts(
        registered=bool(flags & _REGISTERED),
        deactivated=bool(flags & _DEACTIVATED),
        whitelist_on=bool(flags & _WHITELIST_ON),
        banned_until_ms=moments[0],
        muted_until_ms=moments[1],
        tokens_valid_from_ms=moments[2],
        blacklist_size=sizes[0],
        whitelist_size=sizes[1],
    )
    return UserRecord(facts, lists)


def checksum_of(pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """Contribution of these pairs to the file's checksum. Many at once, since `map` then runs in C: 0.15 us each."""
    return sum(map(crc32, map(b"".join, pairs)))


def pack_checksum(checksum: int) -> bytes:
    """Value of `META_CHECKSUM`."""
    return (checksum % CHECKSUM_RANGE).to_bytes(8, "big")


journal_key = partial(struct.Struct(">cQ").pack, JOURNAL_PREFIX)
"""Key of one commit's journal, by the number of its transaction."""


def pack_journal(touched: Iterable[bytes]) -> bytes:
    """The Users that a commit touched, by their `U` keys; never equal to `JOURNAL_EVERYTHING`."""
    # In a key: its tag, the App number in three bytes, the id.
    return b"".join([key[1:4] + bytes((len(key) - 4,)) + key[4:] for key in touched])


def unpack_journal(value: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (App number, id) of the Users that `pack_journal` joined. Raises `ValueError`, `IndexError` if it is cut short."""
    at, end = 0, len(value)
    while at < end:
        # Three bytes of App number, one of length, then the id.
        stop = at + 4 + value[at + 3]
        yield int.from_bytes(value[at : at + 3], "big"), value[at + 4 : stop]
        at = stop
    if at > end:
        raise ValueError("the last id is cut short")


def pack_until(until_ms: int) -> bytes:
    """Value of a list entry."""
    return NO_END if until_ms >= FOREVER_MS else until_ms.to_bytes(8, "big")


def unpack_until(value: bytes) -> int:
    """Return the end of an entry; `FOREVER_MS` for one without end."""
    return int.from_bytes(value, "big") if value else FOREVER_MS


def pack_app_record(number: int, packed_app: bytes) -> bytes:
    """Value of an `A` key."""
    return number.to_bytes(4, "big") + packed_app


def pack_check_settings(number: int, app: AppFacts) -> bytes:
    """The part of an App that a check needs, in the form of the compiled core: a `C` value without the CRC-32."""
    flags = (
        app.require_registered | (app.list_policy == "both") << 1 | _WHITELISTS_FLAG[app.whitelists] | app.shadow << 4
    )
    exempt = sorted(each for each in exempt_ids(app) if 1 <= len(each) <= MAX_ID_BYTES)
    return number.to_bytes(4, "big") + bytes((flags,)) + pack_members(exempt)


def pack_check_record(app_record: bytes, app: AppFacts) -> bytes:
    """Value of a `C` key, given the value of the `A` key and its settings."""
    number = int.from_bytes(app_record[:_NUMBER_BYTES], "big")
    return crc32(app_record).to_bytes(4, "big") + pack_check_settings(number, app)


pack_position = msgspec.msgpack.Encoder().encode
"""Value of a `P` key, given the four values of a `PositionRecord` as a tuple."""
_position_decoder = msgspec.msgpack.Decoder(PositionRecord)


def unpack_position(value: bytes) -> PositionRecord:
    """Unpack what `pack_position` wrote. Raises `ReplicaForeign` for other bytes."""
    try:
        return _position_decoder.decode(value)
    except msgspec.DecodeError as fault:
        raise ReplicaForeign(f"a Position is unreadable: {fault}") from None


def boot_id() -> bytes:
    """Return the kernel's id of this boot. Facts written without fsync survive a process, but only in the same boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except (
        FileNotFoundError
    ):  # not Linux: boots can't be distinguished, so no file is trusted after a restart of the machine
        return b"unknown"
