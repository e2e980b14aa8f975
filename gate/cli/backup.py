"""`gate backup` and `gate restore`: everything that a deployment keeps in Redis, as one file, and back into an empty Redis.

The file's format is in `gate.core.backup`; Redis is read by `gate.store.backup` and written by `gate.store.restore`. A restore
reads the file twice: all checksums are verified before the first write, and again as the records are written.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gate import __version__
from gate.cli.command import Command, takes
from gate.cli.outfile import STDOUT, opened_for_writing
from gate.cli.output import counted, print_json, say, warn
from gate.cli.progress import rate, shown_progress
from gate.cli.store_connection import run
from gate.cli.time_format import shown_moment
from gate.clock import monotonic_ms, wall_ms
from gate.core.backup import BackupReader, BackupWriter, End, Header, Rows
from gate.core.revision import MAX_PARTITIONS, Revision
from gate.errors import BackupForeign, InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from gate.store.restore import Restore

# Of one pipeline, with long lists in it, to a server that also writes to its disk.
DEADLINE_MS = 30_000
# Nouns of keys, in the words of other commands; the rest is plain.
_WORDS = {
    "user": "users",
    "black": "blacklist",
    "black-ends": "blacklist-ends",
    "white": "whitelist",
    "white-ends": "whitelist-ends",
}
_INCOMPLETE = "The restore is incomplete, and no node loads it: repeat it with the same file, or empty this Redis"
COPY_BYTES = 1024 * 1024
# The order in which people read them.
_SHOWN = {
    "apps": ("App", "Apps"),
    "operators": ("operator", "operators"),
    "user": ("User with facts", "Users with facts"),
    "black": ("blacklist entry", "blacklist entries"),
    "white": ("whitelist entry", "whitelist entries"),
    "audit": ("audit entry", "audit entries"),
    "hooks-dead": ("dead letter", "dead letters"),
}


@takes("redis")
def backup(
    command: Command,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - for stdout.")],
    without_audit: Annotated[bool, typer.Option("--without-audit", help="Leave out who did what, and why.")] = False,
) -> None:
    """Write everything that the deployment keeps in Redis to a file, while it works. Presence is left out."""
    if file == STDOUT and command.as_json:
        raise InvalidInput("--json", "stdout is the backup: name a FILE")
    # Control characters of a binary file can leave a terminal unusable.
    if file == STDOUT and sys.stdout.isatty():
        raise InvalidInput("FILE", "a backup is binary: name a file, or send stdout to one")
    started_ms = monotonic_ms()
    # Before anything connects, as an export does.
    with opened_for_writing(file, packs=False) as stream:
        end, checksum, size = run(_written(command, stream, not without_audit))
    summary = _Summary(file, end, checksum, size, monotonic_ms() - started_ms)
    if command.as_json:
        print_json(summary.document | {"revision": _text_of(_revisions(end))})
    else:
        # Stdout may be the backup.
        for line in summary.lines("written to"):
            warn(line)


@takes("redis")
def restore(
    command: Command,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file of `gate backup`; - for stdin.")],
    partitions: Annotated[
        int | None,
        typer.Option("--partitions", metavar="N", min=1, max=MAX_PARTITIONS, help="Default: as in the backup."),
    ] = None,
) -> None:
    """Write a backup into an empty Redis. Every checksum is verified first. Safe to repeat after an interruption."""
    started_ms = monotonic_ms()
    with _opened(file) as stream:
        # The whole file before the first write: half a restore is worse than none.
        verified = _verified(stream, file)
        revisions, target = run(_restored(command, stream, verified, partitions))
    summary = _Summary(file, verified.end, verified.checksum, verified.size, monotonic_ms() - started_ms)
    if command.as_json:
        document = {"partitions": target.partitions, "repeated": target.is_repeated}
        print_json(summary.document | document | {"revision": _text_of(revisions)})
        return
    for line in summary.lines("restored from"):
        say(line)
    say(f"made {shown_moment(verified.header.made_at_ms)} by Gate {verified.header.gate}; nodes load it now")


class _Summary(NamedTuple):
    file: str
    end: End
    checksum: str
    size: int
    elapsed_ms: int

    @property
    def _total(self) -> int:
        return sum(self.end.entries.values())

    @property
    def document(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "bytes": self.size,
            "sha256": self.checksum,
            "entries": self._total,
            "by_kind": {_WORDS.get(noun, noun): count for noun, count in self.end.entries.items()},
            "elapsed_ms": self.elapsed_ms,
            "entries_per_second": rate(self._total, self.elapsed_ms),
        }

    def lines(self, verb: str) -> Iterator[str]:
        speed = f"in {self.elapsed_ms / 1_000:.1f} s ({rate(self._total, self.elapsed_ms):,}/s)"
        yield f"{counted(self._total, 'entry', 'entries')} {verb} {self.file} {speed}, {self.size:,} bytes"
        kinds = [counted(count, *words) for noun, words in _SHOWN.items() if (count := self.end.entries.get(noun))]
        if kinds:
            yield ", ".join(kinds)


class _Verified(NamedTuple):
    """What the first reading of a file found."""

    header: Header
    end: End
    checksum: str
    size: int
    apps: frozenset[str]


async def _written(command: Command, stream: IO[bytes], with_audit: bool) -> tuple[End, str, int]:
    from gate.store.backup import BackupSource  # late, as in `open_store`
    from gate.store.store import Store

    # A pipeline of long lists takes longer than a node waits for any answer.
    store = await Store.connect(command.redis_url(), deadline_ms=DEADLINE_MS)
    try:
        header = Header(gate=__version__, made_at_ms=wall_ms(), partitions=store.partitions, has_audit=with_audit)
        writer, source = BackupWriter(stream, header), BackupSource(store)
        with shown_progress(0, silent=command.as_json) as progress:
            async for batch in source.records(with_audit=with_audit):
                for record in batch:
                    writer.add(record)
                progress.at(writer.written_bytes, source.count)
        end = source.end()
        return end, writer.finish(end), writer.written_bytes
    finally:
        await store.aclose()


def _revisions(end: End) -> list[Revision]:
    return [Revision(partition, epoch, seq) for partition, (epoch, seq, _) in enumerate(end.heads)]


def _text_of(revisions: Iterable[Revision]) -> str:
    return ",".join(map(str, revisions))


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    """A stream that can be read twice: stdin is copied to a temporary file."""
    if file != STDOUT:
        with open(file, "rb") as stream:
            if stream.seekable():
                yield stream
                return
            with _copied(stream) as spool:
                yield spool
        return
    with _copied(sys.stdin.buffer) as spool:
        yield spool


@contextmanager
def _copied(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    # Readable by this user only, and without a name.
    with tempfile.TemporaryFile() as spool:
        while part := stream.read(COPY_BYTES):
            spool.write(part)
        spool.seek(0)
        yield spool


def _verified(stream: IO[bytes], file: str) -> _Verified:
    """Read the whole file. Raises `BackupForeign`, also for damage, before anything is written."""
    try:
        reader = BackupReader(stream)
        apps: set[str] = set()
        for records in reader.records():
            for record in records:
                if isinstance(record, Rows) and record.noun == "apps":
                    apps.update(key.decode() for key in record.flat[::2])
    except BackupForeign as fault:
        raise type(fault)(f"{file}: {fault}; nothing was written") from None
    assert reader.end is not None
    stream.seek(0)
    return _Verified(reader.header, reader.end, reader.checksum, reader.read_bytes, frozenset(apps))


async def _restored(
    command: Command, stream: IO[bytes], verified: _Verified, partitions: int | None
) -> tuple[list[Revision], Restore]:
    from gate.store.address import parse_address  # late, as above
    from gate.store.bootstrap import refuse_old_server
    from gate.store.cluster import client_of
    from gate.store.restore import Restore

    client = client_of(parse_address(command.redis_url()), DEADLINE_MS, None)
    try:
        await refuse_old_server(client)
        # Positions must not be used again: a node that followed this Redis would take new Changes for known ones.
        last_seq = max((seq for _, seq, _ in verified.end.heads), default=0)
        target = Restore(client, verified.header, verified.checksum, verified.apps, last_seq)
        await target.begin(partitions)
        try:
            return await _put(target, stream, verified, silent=command.as_json), target
        except StoreUnavailable as fault:
            raise StoreUnavailable(f"{fault}. {_INCOMPLETE}") from None
        except asyncio.CancelledError:  # Ctrl-C
            warn(f"gate: {_INCOMPLETE}")
            raise
    finally:
        await client.aclose()


async def _put(target: Restore, stream: IO[bytes], verified: _Verified, *, silent: bool) -> list[Revision]:
    reader = BackupReader(stream)
    with shown_progress(verified.size, silent=silent) as progress:
        for records in reader.records():
            await target.put(records)
            progress.at(reader.read_bytes, target.count)
    # Too late to refuse, so it says what to do; without the end mark no node loads it.
    if reader.checksum != verified.checksum:
        raise BackupForeign("the file was replaced while it was read: empty this Redis, and repeat the restore")
    return await target.finish()
