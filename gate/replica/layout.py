"""How a Replica lies on disk: one directory, one LMDB file of facts, one page of live status. Documented for other languages.

    DIR/current            the name of the facts file in use, replaced by an atomic rename
    DIR/facts-N.mdb        the facts; N grows with every snapshot that is swapped in (and its `-lock` file beside it)
    DIR/board              what the replicator last said of itself, memory-mapped; see `status_page.py`

Keys in the facts file (its main database), numbers big-endian; ids come last or after their length, so no two facts can meet:

    M <name>                           layout, boot, clean, partitions, successor, next-app, next-list, packed, checksum
    Mapp:<app key>                     the number that stands for the App in this file, 4 bytes; "" once removed
    Mpurge:<app number:4>              facts of a removed App that are still to be deleted
    P <partition:2>                    Position: epoch, seq, write id, and when it was applied
    A <app key>                        the App's number here (4 bytes), then its settings as JSON
    C <app key>                        what a check needs of these, so that it parses no JSON: the CRC-32 of the `A` value (4
                                       bytes), the App's number (4), a flag byte (1 only registered Users, 2 list policy "both",
                                       4 Whitelists on, 8 off), and the exempt senders, each after its length in a byte. If the
                                       CRC-32 differs, a Gate that knows no `C` keys changed the `A` value, and only that counts
    U <app number:3> <id>              a User's facts, `codec.pack_user`; absent when it has none. Exactly when one of its list
                                       sizes is not 0, the number of its lists (4 bytes) follows
    L <list number:4> B <member>       an entry of the Blacklist of the User whose lists have that number: "" for no end, or
                                       8 bytes, the end in ms
    L <list number:4> W <member>       the same for the Whitelist
    J <transaction id:8>               the Users whose `U` facts that commit touched, so that readers keep the rest of their
                                       caches; absent or "*" means: anything may have changed

App numbers and list numbers are this file's own (they keep keys short); they mean nothing elsewhere. Both lists of a User have
one number, given with the first entry and let go with the last; no number is given twice in a file, and 0 is nobody's.

`Mchecksum` is the sum, modulo 2^64, of the CRC-32 (as zlib's, of the key and then the value) of every other key there is, as 8
bytes. The writer keeps it in the transaction that changes a key, so that damage shows: see `file_check.scrub`.

A facts file that a newer one has replaced carries its name under `successor`; a reader that sees it opens the newer file.
Nothing here is ever patched by hand: a file that can't be trusted (other layout, torn, machine lost power without a clean
close) is rebuilt from Redis.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from gate.core.codec import pack_members, pack_user, unpack_user
from gate.core.decide import exempt_ids
from gate.core.ids import MAX_ID_BYTES
from gate.core.model import FOREVER_MS, NO_FACTS, AppFacts, ListKind, UserFacts
from gate.core.revision import Position
from gate.errors import ReplicaForeign, ReplicaMissing

LAYOUT_VERSION = b"gate-replica-3"

CURRENT_FILE = "current"
BOARD_FILE = "board"
MAP_BYTES = 1 << 40
"""Address space, not disk or memory: without `writemap` a huge map costs nothing and never has to be grown."""
MAX_READERS = 1_024
"""Reader slots in the lock file: one a thread in every process that has this Replica open."""

META_LAYOUT = b"Mlayout"
META_BOOT = b"Mboot"
META_CLEAN = b"Mclean"
META_PARTITIONS = b"Mpartitions"
META_SUCCESSOR = b"Msuccessor"
META_NEXT_APP = b"Mnext-app"
META_NEXT_LIST = b"Mnext-list"
META_PACKED = b"Mpacked"
"""How many keys the file had when its pages were last full: those since then came in at random and left them half empty."""
META_CHECKSUM = b"Mchecksum"
CHECKSUM_RANGE = 1 << 64
META_APP_PREFIX = b"Mapp:"
APP_PREFIX = b"A"
META_PURGE_PREFIX = b"Mpurge:"

JOURNAL_COMMITS = 256
"""How many `J` keys the writer keeps: a reader further behind than this empties its cache."""
JOURNAL_EVERYTHING = b"*"
JOURNAL_PREFIX = b"J"

MAX_GENERATION = 10**12 - 1
"""Twelve digits, as many as the name of a facts file may have."""
_FACTS_NAME = re.compile(r"facts-(\d{1,12})\.mdb")
LIST_TAG = {ListKind.BLACKLIST: b"B", ListKind.WHITELIST: b"W"}
NO_END = b""

NO_LISTS = 0
"""In place of a list number: both lists are empty. Entries under it are never found."""
FIRST_LIST = 1
LIST_NUMBERS = 1 << 32
"""What the key of an entry can name. A file that used them up is built anew, which numbers only the lists there are."""

_LIST_SIZES = 64 | 128
"""The flags of a User's packed facts that say it has entries on a list."""
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
        """Without the moment."""
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
    """The file name of one generation of facts."""
    return f"facts-{generation}.mdb"


def generation_of(name: str) -> int:
    """The generation in a facts file's name; `ReplicaForeign` if it is none."""
    match = _FACTS_NAME.fullmatch(name)
    if match is None:
        raise ReplicaForeign(f"{name[:80]!r} is not the name of a facts file")
    return int(match[1])


def replica_dir(path: Path) -> Path:
    """The Replica's directory, given it or the data directory that holds it."""
    return path / "replica" if (path / "replica").is_dir() else path


def current_facts(directory: Path) -> Path:
    """The facts file in use; `ReplicaMissing` if there is none."""
    try:
        name = (directory / CURRENT_FILE).read_text(errors="replace").strip()
    except FileNotFoundError:
        raise ReplicaMissing(f"no Replica in {directory}: start the replicator there (gate serve) first") from None
    except OSError as fault:
        raise ReplicaForeign(f"{directory / CURRENT_FILE} can't be read: {fault.strerror}") from None
    generation_of(name)
    path = directory / name
    if not path.exists():
        raise ReplicaMissing(f"{directory / CURRENT_FILE} names {name}, which is not there")
    return path


def position_key(partition: int) -> bytes:
    """Where a Partition's Position is kept."""
    return b"P" + partition.to_bytes(2, "big")


def app_record_key(app_key: str) -> bytes:
    """Where an App's record is kept."""
    return APP_PREFIX + app_key.encode()


def check_settings_key(app_key: str) -> bytes:
    """Where what a check needs of an App's record is kept."""
    return b"C" + app_key.encode()


def app_number_key(app_key: str) -> bytes:
    """Where the writer keeps an App's number: Changes of an App's Users may come before the App's own record."""
    return META_APP_PREFIX + app_key.encode()


def user_prefix(app_number: int) -> bytes:
    """What the keys of one App's Users begin with; the id follows."""
    return b"U" + app_number.to_bytes(3, "big")


def lists_prefix(list_number: int) -> bytes:
    """What the keys of all entries of one owner begin with; the list's tag follows."""
    return b"L" + list_number.to_bytes(_NUMBER_BYTES, "big")


def list_prefix(list_number: int, kind: ListKind) -> bytes:
    """What the keys of one list's entries begin with; the member follows."""
    return lists_prefix(list_number) + LIST_TAG[kind]


def pack_user_record(facts: UserFacts, list_number: int) -> bytes:
    """The value of a `U` key; the number is kept only with a list to number."""
    packed = pack_user(facts)
    return packed + list_number.to_bytes(_NUMBER_BYTES, "big") if packed[0] & _LIST_SIZES else packed


def pack_next_list(number: int) -> bytes:
    """The value of `META_NEXT_LIST`; one more byte than a list number, for a file that has given them all."""
    return number.to_bytes(_NUMBER_BYTES + 1, "big")


def unpack_user_record(packed: bytes) -> UserRecord:
    """What `pack_user_record` wrote; `ValueError`, `IndexError` or `struct.error` if the bytes are not of that form."""
    if packed[0] & _LIST_SIZES:
        return UserRecord(unpack_user(packed[:-_NUMBER_BYTES]), int.from_bytes(packed[-_NUMBER_BYTES:], "big"))
    return UserRecord(unpack_user(packed), NO_LISTS)


def checksum_of(pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """What these keys with their values add to the file's checksum. Of many at once since it runs in C then: 0.15 us each."""
    return sum(map(crc32, map(b"".join, pairs)))


def pack_checksum(checksum: int) -> bytes:
    """The value of `META_CHECKSUM`."""
    return (checksum % CHECKSUM_RANGE).to_bytes(8, "big")


def journal_key(transaction_id: int) -> bytes:
    """Where one commit's journal is kept."""
    return b"J" + transaction_id.to_bytes(8, "big")


def pack_journal(touched: Iterable[tuple[int, bytes]]) -> bytes:
    """(app number, User id) pairs that a commit touched; never equal to `JOURNAL_EVERYTHING`."""
    return b"".join(number.to_bytes(3, "big") + bytes((len(user),)) + user for number, user in touched)


def unpack_journal(value: bytes) -> Iterator[tuple[int, bytes]]:
    """The pairs that `pack_journal` joined."""
    at, end = 0, len(value)
    while at < end:
        stop = at + 4 + value[at + 3]
        yield int.from_bytes(value[at : at + 3], "big"), value[at + 4 : stop]
        at = stop


def pack_until(until_ms: int) -> bytes:
    """An entry's value."""
    return NO_END if until_ms >= FOREVER_MS else until_ms.to_bytes(8, "big")


def unpack_until(value: bytes) -> int:
    """When an entry ends; `FOREVER_MS` for one without end."""
    return int.from_bytes(value, "big") if value else FOREVER_MS


def pack_app_record(number: int, packed_app: bytes) -> bytes:
    """The value of an `A` key."""
    return number.to_bytes(4, "big") + packed_app


def pack_check_settings(number: int, app: AppFacts) -> bytes:
    """What a check needs of an App, as the compiled core takes it: a `C` value without the CRC-32."""
    flags = app.require_registered | (app.list_policy == "both") << 1 | _WHITELISTS_FLAG[app.whitelists]
    exempt = sorted(one for one in exempt_ids(app) if 1 <= len(one) <= MAX_ID_BYTES)
    return number.to_bytes(4, "big") + bytes((flags,)) + pack_members(exempt)


def pack_check_record(app_record: bytes, app: AppFacts) -> bytes:
    """The value of a `C` key, given that of the `A` key and what it says."""
    number = int.from_bytes(app_record[:_NUMBER_BYTES], "big")
    return crc32(app_record).to_bytes(4, "big") + pack_check_settings(number, app)


_position_encoder = msgspec.msgpack.Encoder()
_position_decoder = msgspec.msgpack.Decoder(PositionRecord)


def pack_position(position: Position, applied_at_ms: int) -> bytes:
    """The value of a `P` key."""
    return _position_encoder.encode(PositionRecord(*position, applied_at_ms))


def unpack_position(value: bytes) -> PositionRecord:
    """The Position that `pack_position` wrote; `ReplicaForeign` if it did not."""
    try:
        return _position_decoder.decode(value)
    except msgspec.DecodeError as fault:
        raise ReplicaForeign(f"a Position is unreadable: {fault}") from None


def boot_id() -> bytes:
    """The kernel's id of this boot: facts written without fsync outlive a process, but only a boot of the same id."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except FileNotFoundError:  # not Linux: trust no file across a restart of the machine, tell boots apart by nothing
        return b"unknown"
