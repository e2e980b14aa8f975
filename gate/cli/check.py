"""`gate check` and `gate explain`: the question itself, answered from this node's Replica file.

They read the file directly, as a hot worker does, so they answer with Redis down and with the whole service stopped;
how old the facts are is said on stderr, and in the JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from gate.cli.command import Command, takes
from gate.cli.options import all_mistakes, given_id
from gate.cli.output import print_json, print_table, say, shown_id, warn
from gate.cli.time_format import shown_duration, shown_moment
from gate.clock import wall_ms
from gate.core.revision import Revision, parse_revisions
from gate.core.shown import shown_facts
from gate.errors import AppUnknown, ReplicaMissing, Stale
from gate.replica.app_reading import AppReading
from gate.replica.layout import current_facts, replica_dir
from gate.replica.positions import reaches, revision_of
from gate.replica.reader import explained as explained_by
from gate.replica.reading import Reading
from gate.replica.status_page import NEVER_FRESH_MS, StatusView

_Sender = Annotated[str, typer.Argument(metavar="A", help="The sender's id.")]
_Recipient = Annotated[str, typer.Argument(metavar="B", help="The recipient's id.")]

_NOTHING_DEMANDED: tuple[Revision, ...] = ()


@takes("app", afar=True)
def check(
    command: Command,
    sender: _Sender,
    recipient: _Recipient,
    min_revision: Annotated[
        str | None, typer.Option("--min", metavar="REVISION", help="Refuse to answer from before this Revision.")
    ] = None,
) -> None:
    """May A message B? Prints the verdict and exits 0 for yes, 1 for no."""
    with all_mistakes() as mistakes:
        a = mistakes.take(lambda: given_id(sender, "A"), b"")
        b = mistakes.take(lambda: given_id(recipient, "B"), b"")
        demanded = mistakes.take(lambda: _demanded(min_revision), _NOTHING_DEMANDED)
    if command.is_afar:
        # `from` is no name that Python allows as a keyword.
        query = {"from": a, "to": b, "min": min_revision}
        verdict_afar = command.afar(lambda remote: remote.get("/v1/check", **query))
        _print_verdict(command, verdict_afar)
        _warn_of_age(verdict_afar["stale_ms"])
        raise typer.Exit(0 if verdict_afar["allowed"] else 1)
    key = command.app_key()
    with opened_replica(command.data) as replica:
        status_page = replica.view()  # before the facts, which may become newer
        with replica as snapshot:
            # Refused, not waited for: a file can't say whether its replicator will catch up.
            if demanded and not reaches(snapshot, demanded):
                raise Stale(f"this Replica has not applied {min_revision} (or follows another history)")
            app = _app(snapshot, key)
            verdict = app.decide(a, b, wall_ms())
            revision = revision_of(snapshot, key, (a, b))
        # Printed inside of the block: the age below is of the same view.
        document = {"allowed": verdict.allowed, "verdict": verdict.word, "until": verdict.until_ms}
        _print_verdict(command, document | {"revision": revision, "stale_ms": status_page.stale_ms})
        # On stderr, next to an answer that a script reads: it is true, and not what the rules say.
        if app.app.shadow:
            warn(f"gate: App {key} is in shadow mode: every check answers allowed (gate explain shows the verdict)")
        warn_if_stale(status_page)
    raise typer.Exit(0 if verdict.allowed else 1)


@takes("app", afar=True)
def explain(
    command: Command,
    sender: _Sender,
    recipient: _Recipient,
) -> None:
    """Why may A message B, or why not: every rule with the facts it looked at."""
    with all_mistakes() as mistakes:
        a = mistakes.take(lambda: given_id(sender, "A"), b"")
        b = mistakes.take(lambda: given_id(recipient, "B"), b"")
    if command.is_afar:
        explained_afar = command.afar(lambda remote: remote.get("/v1/explain", **{"from": a, "to": b}))
        del explained_afar["revision"]  # `revisions` has it too
        _print_explanation(command, explained_afar, a, b)
        _warn_of_age(explained_afar["stale_ms"])
        raise typer.Exit(0 if explained_afar["allowed"] else 1)
    key = command.app_key()
    with opened_replica(command.data) as replica:
        status_page = replica.view()
        with replica as snapshot:
            # For its error: `explained` would call an unknown App's Users unknown.
            _app(snapshot, key)
            explained = explained_by(snapshot, key, a, b)
        explained["stale_ms"] = status_page.stale_ms
        _print_explanation(command, explained, a, b)
        warn_if_stale(status_page)
    raise typer.Exit(0 if explained["allowed"] else 1)


def require_replica(data: Path) -> None:
    """`ReplicaMissing` says what to start if there is no Replica; the file itself is not opened."""
    try:
        current_facts(replica_dir(data))
    except ReplicaMissing:
        # In the words of a person at a shell; the Replica's own speak of a replicator.
        raise ReplicaMissing(f"no Replica in {data}: start `gate serve` there first, or say --data DIR") from None


@contextmanager
def opened_replica(data: Path) -> Iterator[Reading]:
    """Open this node's Replica. Raises `ReplicaMissing`, which names the command to start, if it does not exist."""
    require_replica(data)
    replica = Reading(replica_dir(data))
    try:
        yield replica
    finally:
        replica.close()


def warn_if_stale(status_page: StatusView) -> None:
    """One line on stderr unless the facts are known to be complete."""
    # Fresh, as nearly always: no line that people learn to overlook.
    if not status_page.stale_ms:
        return
    state = status_page.state.name.lower().replace("_", " ")
    _warn_of_age(status_page.stale_ms, f" (the replicator is {state})")


def _warn_of_age(stale_ms: int, state: str = "") -> None:
    if stale_ms:
        age = "an unknown time" if stale_ms >= NEVER_FRESH_MS else shown_duration(stale_ms)
        warn(f"gate: these facts may be old: not known to be complete for {age}{state}")


def _demanded(min_revision: str | None) -> tuple[Revision, ...]:
    return parse_revisions(min_revision) if min_revision else _NOTHING_DEMANDED


def _app(snapshot: Reading, key: str) -> AppReading:
    found = snapshot.app(key)
    if found is None:
        raise AppUnknown(f"no App has the key {key!r} (gate app list shows them)")
    return found


def _print_verdict(command: Command, document: Mapping[str, Any]) -> None:
    until = f" until {shown_moment(document['until'])}" if document["until"] else ""
    command.print(document, f"{document['verdict']}{until}")


def _print_explanation(command: Command, explained: Mapping[str, Any], sender: bytes, recipient: bytes) -> None:
    if command.as_json:
        print_json(explained)
    else:
        _print_explained(explained, shown_id(sender), shown_id(recipient))


def _print_explained(explained: Mapping[str, Any], sender: str, recipient: str) -> None:
    until = f" until {shown_moment(explained['until'])}" if explained["until"] else ""
    exempt = " (an exempt sender)" if explained["exempt"] else ""
    say(f"{sender}{exempt} to {recipient}: {explained['verdict']}{until}")
    if explained["shadow"]:
        say(f"App {explained['app']} is in shadow mode: a check answers {explained['answered']}")
    rows = []
    for rule in explained["rules"]:
        answer = "denies" if rule["denies"] else "passes"
        first = " <- the reason" if rule["rule"] == explained["verdict"] else ""
        held_until = shown_moment(rule["until"]) if rule["until"] else ""
        rows.append((rule["rule"], answer + first, held_until, _in_one_line(rule["facts"])))
    print_table(("rule", "answer", "until", "facts"), rows)


def _in_one_line(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {fact}" for name, fact in shown_facts(facts))
