"""The commands that ask for a decision: CHECK, MCHECK, VERDICT, EXPLAIN.

CHECK and VERDICT differ only in how a word is written, and the word costs nothing extra, so both share `HOT_REPLIES`: what the
connection uses to answer a whole batch at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

from gate.clock import wall_ms
from gate.core.revision import Revision, parse_revisions
from gate.core.verdict import Word
from gate.errors import InvalidInput, Stale
from gate.replica.explain import explain
from gate.replica.reader import reaches
from gate.wire import replies
from gate.wire.client import Client

MAX_RECIPIENTS = 10_000
"""In one MCHECK: about 5 ms of a worker's time."""

_WORDS: tuple[Word, ...] = get_args(Word)
_CHECKS = {word: replies.ONE if word == "allowed" else replies.ZERO for word in _WORDS}
_VERDICTS = {word: replies.bulk(word.encode()) for word in _WORDS}

HOT_REPLIES: dict[bytes, dict[Word, bytes]] = {b"GATE.CHECK": _CHECKS, b"GATE.VERDICT": _VERDICTS}
"""Commands of exactly two arguments whose replies are made at import."""


class Demand(NamedTuple):
    """A check that has to wait: these Revisions are not applied here yet."""

    revisions: tuple[Revision, ...]

    @property
    def text(self) -> str:
        """As the caller wrote them."""
        return ",".join(map(str, self.revisions))


def check(client: Client, arguments: Sequence[bytes]) -> bytes | Demand:
    """`GATE.CHECK from to [MIN revision]` → 1 or 0."""
    if len(arguments) > 2 and (demand := _unmet(client, arguments[2:])) is not None:
        return demand
    return _CHECKS[_word(client, arguments)]


def verdict(client: Client, arguments: Sequence[bytes]) -> bytes | Demand:
    """`GATE.VERDICT from to [MIN revision]` → the reason word."""
    if len(arguments) > 2 and (demand := _unmet(client, arguments[2:])) is not None:
        return demand
    return _VERDICTS[_word(client, arguments)]


def check_many(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`GATE.MCHECK from to [to …]` → an array of 1 or 0, in order."""
    app = client.app()
    client.worker.refuse_if_stale()
    recipients = arguments[1:]
    if len(recipients) > MAX_RECIPIENTS:
        raise InvalidInput("recipients", f"at most {MAX_RECIPIENTS} in one GATE.MCHECK, {len(recipients)} were sent")
    words = app.words_to(arguments[0], recipients)
    client.worker.count(words)
    return replies.array_header(len(words)) + b"".join([_CHECKS[word] for word in words])


def explain_check(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`GATE.EXPLAIN from to` → a map: verdict, until, every rule with its facts, revisions, staleness."""
    app = client.app()
    sender, recipient = arguments
    app.word(sender, recipient)  # refuses an id of a wrong length, as a check does
    explained = explain(app, sender, recipient, wall_ms())
    reading = client.worker.reading
    positions = ((partition, reading.position(partition)) for partition in range(reading.partitions))
    explained["revisions"] = [f"{partition}:{at.epoch}:{at.seq}" for partition, at in positions if at and at.epoch]
    explained["stale_ms"] = client.worker.stale_ms()
    return replies.encode(explained, client.resp3)


def _word(client: Client, arguments: Sequence[bytes]) -> Word:
    app = client.app()
    client.worker.refuse_if_stale()
    word = app.word(arguments[0], arguments[1])
    client.worker.count([word])
    return word


def _unmet(client: Client, clause: Sequence[bytes]) -> Demand | None:
    if len(clause) != 2 or clause[0].upper() != b"MIN":
        raise InvalidInput("syntax", "expected MIN revision after the two ids")
    client.app()
    revisions = parse_revisions(clause[1].decode("latin-1"))
    reached = reaches(client.worker.reading, revisions)
    if reached is None:
        raise Stale("the Revision is of a history that this Replica does not follow (Redis was emptied or restored)")
    return None if reached else Demand(revisions)
