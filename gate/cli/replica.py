"""`gate replica …`: the state of this node's Replica, whether it equals Redis, and a fresh one on demand.

`status` reads files only and works with everything down. `verify` needs Redis. `rebuild` leaves a request that the
replicator takes up, at once if it runs, else when it next starts; the old facts are served meanwhile.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from gate.cli.check import opened_replica, require_replica, warn_if_stale
from gate.cli.command import Command, takes
from gate.cli.local_node import replicator_lives
from gate.cli.output import counted, print_json, print_table, say
from gate.cli.time_format import given_seconds, shown_duration
from gate.clock import monotonic_ms
from gate.core.shown import shown_moment
from gate.errors import Unavailable
from gate.replica.layout import replica_dir
from gate.replica.reader import status_of
from gate.replica.status_page import NEVER_FRESH_MS

if TYPE_CHECKING:
    from gate.cli.store_connection import StoreConnection
    from gate.replica.reading import Reading
    from gate.replica.verify import Report
    from gate.store.indexes import IndexReport

LOOK_EVERY_S = 0.05
DEFAULT_WAIT_S = 60

replica = typer.Typer(help="This node's Replica.", no_args_is_help=True, add_completion=False)


@replica.command()
@takes()
def status(command: Command) -> None:
    """What the replicator last said, how old the facts are, and how far each Partition is."""
    with opened_replica(command.data) as opened:
        # The facts first: the page of the replicator may only be newer.
        known, status_page = status_of(opened), opened.view()
    path = replica_dir(command.data) / known.file
    # A rebuild may have replaced the file since.
    facts_bytes = path.stat().st_size if path.exists() else 0
    applied = [str(revision) for revision in known.applied]
    if command.as_json:
        print_json(
            {
                "state": known.state,
                "ready": known.ready,
                "stale_ms": known.stale_ms,
                "reloads": known.reloads,
                "lag": status_page.lag,
                "replicator_pid": status_page.pid,
                "replicator_alive": replicator_lives(status_page),
                "file": str(path),
                "bytes": facts_bytes,
                "applied": applied,
            }
        )
        return
    age = (
        "fresh"
        if not known.stale_ms
        else "of unknown age"
        if known.stale_ms >= NEVER_FRESH_MS
        else (f"{shown_duration(known.stale_ms)} old")
    )
    alive = f"pid {status_page.pid}" if replicator_lives(status_page) else "not running"
    say(f"{known.state}, {'ready' if known.ready else 'not ready'}, {age}; replicator {alive}")
    say(f"{path}: {facts_bytes:,} bytes, {counted(known.reloads, 'reload')} since the replicator began")
    print_table(("partition", "epoch", "seq"), ((str(r.partition), r.epoch, f"{r.seq:,}") for r in known.applied))
    warn_if_stale(status_page)


@replica.command()
@takes("redis")
def verify(command: Command) -> None:
    """Compare every fact of the Replica with Redis, and Redis's indexes with its facts. Exits 1 if they differ."""
    # Late: `status`, which monitors call often, needs none of it.
    from gate.replica.verify import verify as compare
    from gate.store.indexes import compare_indexes

    directory = replica_dir(command.data)
    # Before connecting: without a Replica there is nothing to compare, and Redis need not answer.
    require_replica(command.data)

    async def work(connection: StoreConnection) -> tuple[Report, IndexReport]:
        return await compare(directory, connection.store.changelog), await compare_indexes(connection.store.client)

    report, indexes = command.ask(work)
    # The indexes are Redis's own; a wrong one shows in lists and searches, never in a Verdict.
    equal = report.equal and not indexes.differences
    if command.as_json:
        first = [difference._asdict() for difference in report.first]
        print_json({**report._asdict(), "first": first, "indexes": _as_json(indexes), "equal": equal})
        raise typer.Exit(0 if equal else 1)
    if report.problem:
        say(report.problem)
    elif report.equal:
        say(f"{counted(report.facts, 'fact')}: the Replica equals Redis")
    else:
        say(f"{counted(report.differences, 'difference')} in {counted(report.facts, 'fact')}; the first ones:")
        print_table(("App", "fact", "in the Replica", "in Redis"), report.first)
        say("gate replica rebuild loads the Replica again")
    _say_indexes(indexes)
    raise typer.Exit(0 if equal else 1)


def _say_indexes(indexes: IndexReport) -> None:
    from gate.core.ids import shown

    if not indexes.differences:
        say(f"{counted(indexes.entries, 'index entry', 'index entries')}: Redis's indexes equal its facts")
        return
    say(
        f"{counted(indexes.differences, 'index entry differs', 'index entries differ')} from the facts; the first ones:"
    )
    rows = (
        (one.app, f"{one.noun}: {shown(one.user)}", _text(one.in_facts), _text(one.in_index)) for one in indexes.first
    )
    print_table(("App", "entry", "in the facts", "in the index"), rows)
    say("gate export FILE, then gate import FILE writes them again; see that maxmemory-policy is noeviction")


def _text(moment_ms: int | None) -> str:
    return "" if moment_ms is None else str(moment_ms)


def _as_json(indexes: IndexReport) -> dict[str, object]:
    from gate.core.ids import shown

    first = [{**difference._asdict(), "user": shown(difference.user)} for difference in indexes.first]
    return {**indexes._asdict(), "first": first}


@replica.command()
@takes()
def lost(command: Command) -> None:
    """What Redis lost in failovers and restores, as this node's Replica still had it. Reads files only."""
    from gate.replica.lost import FOLDER, losses

    directory = replica_dir(command.data)
    found = losses(directory)
    if command.as_json:
        print_json({"folder": str(directory / FOLDER), "losses": [msgspec.to_builtins(loss) for loss in found]})
        return
    if not found:
        say("nothing is known to be lost")
    for loss in found:
        kinds = ", ".join(f"{many:,} {kind}" for kind, many in sorted(loss.kinds.items()))
        # A bound keeps a node that lost everything from filling its disk with the list of it.
        whole = "" if loss.is_complete else "; past a bound nothing more was compared or written"
        say(
            f"{shown_moment(loss.at_ms)} ({loss.reason}): {counted(loss.lost, 'fact')} lost{kinds and ': '}{kinds}{whole}"
        )
        for app, name in sorted(loss.files.items()):
            say(f"  gate import {directory / FOLDER / name} --app {app}")
        for what in loss.by_hand:
            say(f"  by hand: {what}")
        if loss.by_hand_count > len(loss.by_hand):
            say(f"  by hand: {loss.by_hand_count - len(loss.by_hand):,} more")
        if loss.returned:
            say(f"  {counted(loss.returned, 'fact')} that this node had not: new ones, or lifted ones that came back")


@replica.command()
@takes()
def rebuild(
    command: Command,
    wait: Annotated[
        str,
        typer.Option(
            "--wait", metavar="TIME", help="For the new facts to be in use: 90s, 5m, or seconds; 0: do not wait."
        ),
    ] = f"{DEFAULT_WAIT_S}s",
) -> None:
    """Load the Replica again from Redis; checks go on meanwhile."""
    from gate.replica.files import request_rebuild

    # Read before the request is left: a mistyped wait must not have rebuilt.
    wait_s = given_seconds(wait, "--wait")
    with opened_replica(command.data) as opened:
        before = status_of(opened).file
        # A file: it outlives this command, and a replicator that is down finds it at its start.
        request_rebuild(replica_dir(command.data))
        # After the request: one that starts in between has seen it.
        running = replicator_lives(opened.view())
        after = _file_after(opened, before, wait_s) if running and wait_s else None
    if command.as_json:
        print_json({"requested": True, "replicator_alive": running, "file": after})
    elif after:
        say(f"rebuilt: {after} replaced {before}")
    elif running:
        say("asked for; the replicator is at work (gate replica status shows it)")
    else:
        say("asked for; no replicator runs here, the next one to start will rebuild first")
    # Printed first: the JSON document is complete also for a wait that was too short.
    if running and wait_s and after is None:
        raise Unavailable(f"the new facts were not in use after {wait_s} s; the old ones are still served")


def _file_after(opened: Reading, before: str, wait_s: int) -> str | None:
    deadline_ms = monotonic_ms() + wait_s * 1_000
    while monotonic_ms() < deadline_ms:
        # A rebuild is in use once the replicator has swapped the name; the old file stays open here.
        file: str = status_of(opened).file
        if file != before:
            return file
        time.sleep(LOOK_EVERY_S)
    return None
