"""`gate import`: facts out of NDJSON and CSV files, written in bulk, safe to run twice.

Each fact is stated outright ("banned until X"), so importing a file again changes nothing, and a run that was cut
off is finished by running it again. A line that is wrong is reported with its number and left out; with `--strict`
the whole input is read first and one wrong line stops everything before anything is written.

Reading overlaps writing: while the server works on one Batch, the next lines are parsed.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from gate.cli.bulk_writing import BulkLoad
from gate.cli.fact_fields import Kind
from gate.cli.fact_files import STDIN, FactFile
from gate.cli.fact_lines import Format
from gate.cli.intake import Intake
from gate.cli.options import DEFAULT_DATA, AppOption, DataOption, JsonOption, RedisOption, Target, all_mistakes
from gate.cli.output import counted, print_json, say, warn
from gate.cli.progress import rate, shown_progress
from gate.cli.reach import Reach, Settled, run_with
from gate.clock import monotonic_ms, wall_ms
from gate.errors import InvalidInput

ACK_TIMEOUT_MS = 30_000
"""After the last write: a replicator may have much to catch up with."""

Done = tuple[int, Settled]
"""Entries written, and how far they got."""


def import_facts(
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
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load Bans, Mutes, Blacklists, Whitelists and registered Users from files. Safe to run twice."""
    with all_mistakes() as mistakes:
        if no_header and kind is None:
            mistakes.add(InvalidInput("--no-header", "say --kind too, which names the columns"))
        if files.count(STDIN) > 1:
            mistakes.add(InvalidInput("FILE", "- (stdin) can be read only once"))
        headless_kind = kind if no_header else None
        opened = [mistakes.take(lambda name=name: _opened(name, file_format, headless_kind), None) for name in files]  # type: ignore[misc]
    sources = [source for source in opened if source is not None]
    target = Target(data, app, redis)
    key = target.app_key()
    intake = Intake(sources, kind, max_errors)
    if strict:
        for source in sources:
            source.keep()
        _drain(intake)
    started_ms = monotonic_ms()
    done = None if strict and intake.errors else _import(target, key, intake, as_json)
    _report(intake, done, monotonic_ms() - started_ms, as_json)
    raise typer.Exit(1 if intake.errors else 0)


def _opened(name: str, file_format: Format | None, headless_kind: str | None) -> FactFile | None:
    source = FactFile(name, file_format, headless_kind)
    source.check_header()
    return source


def _drain(intake: Intake) -> None:
    """Read everything for what is wrong with it, and keep nothing."""
    for _ in intake.batches():
        pass
    intake.rewind()


def _import(target: Target, key: str, intake: Intake, silent: bool) -> Done:
    async def work(reach: Reach) -> Done:
        app = await reach.app(key)
        async with reach.store.bulk(key, wall_ms(), app.list_ceiling) as bulk:
            load = BulkLoad(bulk, app, intake.refuse)
            with shown_progress(intake.size_bytes, silent=silent) as progress:
                for batch in intake.batches():
                    if batch is None:
                        await asyncio.sleep(0)
                    else:
                        await load.put(batch)
                        progress.at(intake.read_bytes, load.entries)
                written = await load.flush()
            return load.entries, await reach.settle(written, ACK_TIMEOUT_MS)

    return run_with(target, work)


def _report(intake: Intake, done: Done | None, elapsed_ms: int, as_json: bool) -> None:
    entries, settled = done if done else (0, None)
    if as_json:
        print_json(
            {
                "lines": intake.lines,
                "entries": entries,
                "ended": intake.ended,
                "errors": intake.errors,
                "shown_errors": [wrong._asdict() for wrong in intake.shown],
                "stopped_early": intake.is_cut_short,
                "elapsed_ms": elapsed_ms,
                "entries_per_second": rate(entries, elapsed_ms),
                **(settled.fields if settled else {"revision": "", "applied": None}),
            }
        )
        return
    for wrong in intake.shown:
        warn(f"{wrong.file}:{wrong.line}: {wrong.problem}")
    if intake.errors > len(intake.shown):
        warn(f"... and {counted(intake.errors - len(intake.shown), 'wrong line')} more")
    if intake.is_cut_short:
        warn(f"gate: stopped after {counted(intake.errors, 'wrong line')}, as --max-errors said")
    if settled is None:
        say(f"nothing written: {counted(intake.errors, 'wrong line')} of {intake.lines:,}, and --strict was said")
        return
    left_out = f", {counted(intake.errors, 'wrong line')} left out" if intake.errors else ""
    ended = f", {intake.ended:,} already ended" if intake.ended else ""
    speed = f"in {elapsed_ms / 1_000:.1f} s ({rate(entries, elapsed_ms):,}/s)"
    say(f"{counted(entries, 'entry', 'entries')} out of {counted(intake.lines, 'line')} {speed}{left_out}{ended}")
    say(settled.shown)
