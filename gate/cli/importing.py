"""`gate import`: facts out of NDJSON and CSV files, written in bulk, safe to run twice.

Each fact is stated outright ("banned until X"), so importing a file again changes nothing, and a run that was cut
off is finished by running it again. A line that is wrong is reported with its number and left out; with `--strict`
the whole input is read first and one wrong line stops everything before anything is written.

Reading overlaps writing: while the server works on one Batch, the next lines are parsed. A list that would pass the App's
ceiling is refused when its script runs, long after its line was read; so the line of each list is remembered until a flush has
confirmed it. Flushing now and then bounds that memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli.command import Command, takes
from gate.cli.import_fields import Batch, Kind, ListKey
from gate.cli.import_reader import STDIN, Format, ImportFile, ImportReader
from gate.cli.options import all_mistakes
from gate.cli.output import counted, print_json, say, shown_id, warn
from gate.cli.progress import rate, shown_progress
from gate.cli.store_connection import Settled, StoreConnection
from gate.clock import monotonic_ms, wall_ms
from gate.core.model import AppFacts, ListKind
from gate.errors import InvalidInput

if TYPE_CHECKING:
    from gate.store.bulk import BulkWriter
    from gate.store.writer import WriteReceipt

# After the last write: a replicator may have much to catch up with.
ACK_TIMEOUT_MS = 30_000

# At most so many lines are remembered, some 100 MB if each is a list of its own.
FLUSH_ENTRIES = 500_000

# Called with file, line and problem.
Refuse = Callable[[str, int, str], None]

_WORDS = {ListKind.BLACKLIST: "Blacklist", ListKind.WHITELIST: "Whitelist"}

# Entries written, and how far they got.
Done = tuple[int, Settled]


@takes("app", "redis")
def import_facts(
    command: Command,
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="NDJSON or CSV, also .gz; - for stdin.")],
    file_format: Annotated[
        Format | None, typer.Option("--format", help="Of all files; default: by the suffix, NDJSON for stdin.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="What lines without a kind are.")] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="CSV begins with facts, in the kind's usual order of columns.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Write nothing unless every line is right.")] = False,
    max_errors: Annotated[
        int, typer.Option("--max-errors", metavar="N", min=0, help="Stop after so many wrong lines; 0: never.")
    ] = 0,
) -> None:
    """Load Bans, Mutes, Blacklists, Whitelists and registered Users from files. Safe to run twice."""
    with all_mistakes() as mistakes:
        if no_header and kind is None:
            mistakes.add(InvalidInput("--no-header", "say --kind too, which names the columns"))
        if files.count(STDIN) > 1:
            mistakes.add(InvalidInput("FILE", "- (stdin) can be read only once"))
        headless_kind = kind if no_header else None
        # All files before the first line: one that is missing stops the call, not the third of three.
        opened = [mistakes.take(lambda name=name: _opened(name, file_format, headless_kind), None) for name in files]  # type: ignore[misc]
    sources = [source for source in opened if source is not None]
    command.app_key()  # without an App there is no reason to read a file
    reader = ImportReader(sources, kind, max_errors)
    if strict:
        for source in sources:
            source.keep()
        _drain(reader)
    started_ms = monotonic_ms()
    # Read a second time: keeping millions of parsed lines would not fit in memory.
    done = None if strict and reader.errors else _import(command, reader)
    _report(reader, done, monotonic_ms() - started_ms, command)
    raise typer.Exit(1 if reader.errors else 0)


def _opened(name: str, file_format: Format | None, headless_kind: str | None) -> ImportFile | None:
    source = ImportFile(name, file_format, headless_kind)
    source.check_header()
    return source


def _drain(reader: ImportReader) -> None:
    """Read everything for what is wrong with it, and keep nothing."""
    for _ in reader.batches():
        pass
    reader.rewind()


def _import(command: Command, reader: ImportReader) -> Done:
    async def work(connection: StoreConnection, app: AppFacts) -> Done:
        # One moment for all: a duration in the last line counts from the start, as in the first.
        async with connection.store.bulk(app.key, wall_ms(), app.list_ceiling) as bulk:
            load = ImportWriter(bulk, app, reader.refuse)
            with shown_progress(reader.size_bytes, silent=command.as_json) as progress:
                for batch in reader.batches():
                    # A slice without a full Batch: only the loop's turn to send and to receive.
                    if batch is None:
                        await asyncio.sleep(0)
                    else:
                        await load.put(batch)
                        progress.at(reader.read_bytes, load.entries)
                written = await load.flush()
            return load.entries, await connection.settle(written, ACK_TIMEOUT_MS)

    return command.ask_app(work)


def _report(reader: ImportReader, done: Done | None, elapsed_ms: int, command: Command) -> None:
    entries, settled = done if done else (0, None)
    if command.as_json:
        print_json(
            {
                "lines": reader.lines,
                "entries": entries,
                "ended": reader.ended,
                "errors": reader.errors,
                "shown_errors": [wrong._asdict() for wrong in reader.shown],
                "stopped_early": reader.is_cut_short,
                "elapsed_ms": elapsed_ms,
                "entries_per_second": rate(entries, elapsed_ms),
                **(settled.fields if settled else {"revision": "", "applied": None}),
            }
        )
        return
    for wrong in reader.shown:
        warn(f"{wrong.file}:{wrong.line}: {wrong.problem}")
    if reader.errors > len(reader.shown):
        warn(f"... and {counted(reader.errors - len(reader.shown), 'wrong line')} more")
    if reader.is_cut_short:
        warn(f"gate: stopped after {counted(reader.errors, 'wrong line')}, as --max-errors said")
    if settled is None:
        say(f"nothing written: {counted(reader.errors, 'wrong line')} of {reader.lines:,}, and --strict was said")
        return
    left_out = f", {counted(reader.errors, 'wrong line')} left out" if reader.errors else ""
    ended = f", {reader.ended:,} already ended" if reader.ended else ""
    speed = f"in {elapsed_ms / 1_000:.1f} s ({rate(entries, elapsed_ms):,}/s)"
    say(f"{counted(entries, 'entry', 'entries')} out of {counted(reader.lines, 'line')} {speed}{left_out}{ended}")
    say(settled.shown)


class ImportWriter:
    """Feeds one BulkWriter. `entries` counts what was handed over and not refused."""

    def __init__(self, bulk: BulkWriter, app: AppFacts, refuse: Refuse) -> None:
        self._bulk = bulk
        self._app = app
        self._ceiling = app.list_ceiling
        self._refuse = refuse
        self._lines: dict[ListKey, tuple[str, int]] = {}
        self._since_flush = 0
        self._reported = 0
        self.entries = 0

    async def put(self, batch: Batch) -> None:
        """Hand over a Batch; waits while too much is under way. Raises `StoreUnavailable`."""
        bulk = self._bulk
        # Before anything of the Batch is written: a User past the limit must not be registered by its Ban.
        refused = await self._refused(batch)
        for user, (_, at_ms, name, portrait) in batch.registered.items():
            if user not in refused:
                await bulk.register(user, name, portrait, at_ms)
        for user, ban in batch.bans.items():
            await bulk.ban(user, *ban)
        for user, mute in batch.mutes.items():
            await bulk.mute(user, *mute)
        for key, members in batch.lists.items():
            # The first line that named the list, also of an earlier Batch.
            self._lines.setdefault(key, (batch.source, batch.lines[key]))
            await self._put_list(key, members)
        for user, on in batch.switches.items():
            await bulk.switch(user, on)
        self.entries += batch.entries - len(refused)
        self._since_flush += batch.entries
        if self._since_flush >= FLUSH_ENTRIES:
            await self.flush()

    async def flush(self) -> WriteReceipt:
        """Wait until everything is in, and report the lists that were refused. Raises `StoreUnavailable`."""
        result = await self._bulk.flush()
        # The writer's list grows over the whole import; the earlier ones were reported.
        for full in result.full[self._reported :]:
            file, line = self._lines.get((full.kind, full.owner), ("", 0))
            self._refuse(
                file,
                line,
                f"the {_WORDS[full.kind]} of {shown_id(full.owner)} holds {full.size:,} entries and {full.adding:,} more"
                f" would pass the App's ceiling of {self._ceiling:,}: these were left out (gate app set --list-ceiling)",
            )
            self.entries -= full.adding
        self._reported = len(result.full)
        self._lines.clear()
        self._since_flush = 0
        return result.written

    async def _refused(self, batch: Batch) -> frozenset[bytes]:
        """The Users past the App's limit; each is reported."""
        if self._app.most_users is None or not batch.registered:
            return frozenset()
        refused = await self._bulk.reserve(self._app, list(batch.registered))
        for user in refused:
            self._refuse(
                batch.source,
                batch.registered[user].line,
                f"the App may have {self._app.most_users:,} registered Users, and has them: {shown_id(user)} was left out"
                " (gate app set --user-limit, or --environment production)",
            )
        return frozenset(refused)

    async def _put_list(self, key: ListKey, members: dict[bytes, int]) -> None:
        # One command an end: nearly always there is one end, and one command.
        by_end: dict[int, list[bytes]] = {}
        for member, until_ms in members.items():
            by_end.setdefault(until_ms, []).append(member)
        for until_ms, some in by_end.items():
            await self._bulk.add(*key, some, until_ms)
