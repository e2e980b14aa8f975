"""The commands that ask for a decision: CHECK, MCHECK, VERDICT, EXPLAIN; and what a check may demand of the facts.

CHECK and VERDICT differ only in how a word is written, and the word costs nothing extra, so both share `HOT_REPLIES`: what the
connection uses to answer a whole batch at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, get_args

from gate.clock import monotonic_us, wall_ms
from gate.core.ids import shown, user_id
from gate.core.revision import Revision, parse_revisions
from gate.core.shown import shown_text
from gate.core.verdict import Word
from gate.errors import AppUnknown, GateError, InvalidInput, Stale
from gate.replica.app_reading import AppReading
from gate.replica.explain import Explained, explain
from gate.replica.positions import reaches
from gate.replica.reading import Reading
from gate.wire import replies
from gate.wire.client import Client, NoAuth
from gate.wire.long_reads import PIECE as LONG_PIECE
from gate.wire.long_reads import View
from gate.wire.table import PendingReply
from gate.wire.turns import SLICE_US

# In one MCHECK: 1 ms of a worker's time where all are cached and plain, 30 ms where none is.
MAX_RECIPIENTS = 10_000
# Recipients between two looks at the clock: more than those of nearly every group.
PIECE = 128
# How long one MCHECK may take before it goes on in turns: enough for the most there are, if all are cached and plain.
AT_ONCE_US = 2 * SLICE_US
# Of the age in a `FRESH`: past what is answered where nothing is known, and read at once.
_MAX_MS_DIGITS = 15

_WORDS: tuple[Word, ...] = get_args(Word)
_CHECKS = {word: replies.ONE if word == "allowed" else replies.ZERO for word in _WORDS}
_VERDICTS = {word: replies.bulk(word.encode()) for word in _WORDS}

# Commands of exactly two arguments whose replies are made at import.
HOT_REPLIES: dict[bytes, dict[Word, bytes]] = {b"GATE.CHECK": _CHECKS, b"GATE.VERDICT": _VERDICTS}


class RevisionDemand(NamedTuple):
    """A check that has to wait: these Revisions are not applied here yet."""

    revisions: tuple[Revision, ...]
    late: Callable[[], bytes | PendingReply] | None = None
    """What to answer if they do not come in time; `STALE` unless given."""

    @property
    def text(self) -> str:
        """As the caller wrote them."""
        return ",".join(map(str, self.revisions))


def check(client: Client, arguments: Sequence[bytes]) -> bytes | RevisionDemand:
    """`GATE.CHECK from to [MIN revision] [FRESH ms]` → 1 or 0."""
    if len(arguments) > 2 and (demand := _unmet(client, arguments[2:])) is not None:
        return demand
    return _CHECKS[_word(client, arguments)]


def verdict(client: Client, arguments: Sequence[bytes]) -> bytes | RevisionDemand:
    """`GATE.VERDICT from to [MIN revision] [FRESH ms]` → the reason word."""
    if len(arguments) > 2 and (demand := _unmet(client, arguments[2:])) is not None:
        return demand
    return _VERDICTS[_word(client, arguments)]


def fresh_within_ms(keyword: bytes, value: bytes) -> int | None:
    """The age that `FRESH ms` allows; None if it is not that clause."""
    if keyword.upper() != b"FRESH" or not value.isdigit() or len(value) > _MAX_MS_DIGITS:
        return None
    return int(value)


def check_many(client: Client, arguments: Sequence[bytes]) -> bytes | PendingReply:
    """`GATE.MCHECK from to [to …]` → an array of 1 or 0, in order. What does not fit in a slice goes on in later turns."""
    app, worker = client.app_if_young(), client.worker
    sender, recipients = _fan_out(arguments)
    until_us = monotonic_us() + AT_ONCE_US
    # The first piece without a look at the clock: nearly every group ends with it.
    words = app.decided_to(sender, recipients[:PIECE])
    while len(words) < len(recipients):
        if monotonic_us() >= until_us:
            # From the beginning: all answers are of one commit, and this bracket ends with the turn.
            return check_many_later(client, app.app.key, sender, recipients)
        words += app.decided_to(sender, recipients[len(words) : len(words) + PIECE])
    # Once all are decided: what shadow mode counts must not count twice where a part is decided again.
    words = app.answered_to(sender, recipients, words)
    worker.count(words)
    return _one_or_zero(words)


def check_many_in_pieces(client: Client, arguments: Sequence[bytes]) -> Generator[None, None, bytes]:
    """The same from the facts at hand, however long it takes: yields after each piece."""
    app, worker = client.app_if_young(), client.worker
    words = yield from _words_in_pieces(app, *_fan_out(arguments))
    worker.count(words)
    return _one_or_zero(words)


def _fan_out(arguments: Sequence[bytes]) -> tuple[bytes, Sequence[bytes]]:
    sender, recipients = arguments[0], arguments[1:]
    if len(recipients) > MAX_RECIPIENTS:
        raise InvalidInput("recipients", f"at most {MAX_RECIPIENTS} in one GATE.MCHECK, {len(recipients)} were sent")
    return sender, recipients


def _words_in_pieces(app: AppReading, sender: bytes, recipients: Sequence[bytes]) -> Generator[None, None, list[Word]]:
    words = list[Word]()
    while True:
        words += app.decided_to(sender, recipients[len(words) : len(words) + LONG_PIECE])
        if len(words) == len(recipients):
            return app.answered_to(sender, recipients, words)
        yield


def check_many_later(client: Client, app_key: str, sender: bytes, recipients: Sequence[bytes]) -> PendingReply:
    worker = client.worker

    def begin(view: View) -> Generator[None, None, list[Word]]:
        # Asked for the view's own facts: they may be of another age than those of the turn that brought the command.
        worker.refuse_stale_ms(view.app, view.stale_ms)
        return _words_in_pieces(view.app, sender, recipients)

    arrival = worker.long_reads.submit(app_key, begin)

    def word() -> bytes:
        try:
            words: list[Word] = arrival.result()
        except AppUnknown as gone:
            raise NoAuth(f"{gone}. Send AUTH app-key app-secret of another") from gone
        worker.count(words)
        return _one_or_zero(words)

    return PendingReply(arrival, word, holds_back=True, cancel=arrival.cancel)


def _one_or_zero(words: Sequence[Word]) -> bytes:
    return replies.array_header(len(words)) + b"".join([_CHECKS[word] for word in words])


def explain_check(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`GATE.EXPLAIN from to` → a map: verdict, until, every rule with its facts, revisions, staleness. With SHORT, lines."""
    if len(arguments) > 2 and arguments[2].upper() != b"SHORT":
        raise InvalidInput("syntax", f"expected SHORT or nothing after the two ids, got {shown(arguments[2][:40])!r}")
    age_ms = client.worker.age_ms()  # before the facts, which may become fresh in between
    app = client.app()
    sender, recipient = arguments[:2]
    for one in (sender, recipient):
        user_id(one)  # refuses an id of a wrong length, as a check does
    explained = explain(app, sender, recipient, wall_ms())
    reading = client.worker.reading
    # Of the same bracket as the verdict.
    positions = ((partition, reading.position(partition)) for partition in range(reading.partitions))
    explained["revisions"] = [f"{partition}:{at.epoch}:{at.seq}" for partition, at in positions if at and at.epoch]
    explained["stale_ms"] = age_ms
    if len(arguments) > 2:
        return replies.encode(_in_lines(explained), client.resp3)
    return replies.encode(explained, client.resp3)


def _word(client: Client, arguments: Sequence[bytes]) -> Word:
    app = client.app_if_young()
    word = app.word(arguments[0], arguments[1])
    client.worker.count([word])
    return word


def weight(arguments: Sequence[bytes]) -> int:
    """Of a queued CHECK or VERDICT: Revisions take time to read."""
    # By bytes: 64 Revisions count for some 300 checks.
    return 1 + sum(map(len, arguments[2:])) // 8 if len(arguments) > 2 else 1


def demanded(arguments: Sequence[bytes]) -> Sequence[Revision]:
    """The Revisions behind MIN of a CHECK or VERDICT; none where the command will be refused for them."""
    for keyword, value in zip(arguments[2::2], arguments[3::2], strict=False):
        if keyword.upper() == b"MIN":
            try:
                return parse_revisions(value.decode("latin-1"))
            except GateError:
                return ()
    return ()


def is_still_to_come(reading: Reading, revision: Revision) -> bool:
    """Whether it is worth waiting for."""
    try:
        return reaches(reading, [revision]) is False
    except GateError:
        return False


def _unmet(client: Client, clauses: Sequence[bytes]) -> RevisionDemand | None:
    """Hold the facts to `[MIN revision] [FRESH ms]`, in either order. Raises `Stale`; a demand may still be met."""
    revision: bytes | None = None
    within_ms: int | None = None
    if len(clauses) % 2:
        raise InvalidInput(*_SYNTAX)
    for keyword, value in zip(clauses[::2], clauses[1::2], strict=True):
        word = keyword.upper()
        if word == b"MIN" and revision is None:
            revision = value
        elif word == b"FRESH" and within_ms is None:
            within_ms = fresh_within_ms(keyword, value)
            if within_ms is None:
                raise InvalidInput("FRESH", f"must be an age in ms, a whole number from 0, got {shown(value[:40])!r}")
        else:
            raise InvalidInput(*_SYNTAX)
    worker = client.worker
    if within_ms is not None and (age_ms := worker.age_ms()) > within_ms:
        raise Stale(f"the Replica is {age_ms} ms old and FRESH allows {within_ms} ms: ask another node, or allow more")
    client.app()
    return None if revision is None else _unreached(worker.reading, revision)


_SYNTAX = "syntax", "expected MIN revision, FRESH ms or both after the two ids"


def _unreached(reading: Reading, text: bytes) -> RevisionDemand | None:
    revisions = parse_revisions(text.decode("latin-1"))
    reached = reaches(reading, revisions)
    if reached is None:
        raise Stale(
            "the Revision is of a history that this Replica does not follow (Redis was emptied or restored): ask without MIN"
        )
    return None if reached else RevisionDemand(revisions)


def _in_lines(explained: Explained) -> list[str]:
    """The verdict first; of each rule whether it denies, and the facts it looked at. Ids are escaped, for a terminal."""
    ending = "" if explained["until"] is None else f", until {explained['until']} ms"
    exempt = ", exempt sender" if explained["exempt"] else ""
    shadow = f", the App is in shadow mode: a check answers {explained['answered']}" if explained["shadow"] else ""
    verdict = (
        f"{explained['verdict']}: {explained['from']} {'may' if explained['allowed'] else 'may not'} "
        f"message {explained['to']}{ending}{exempt}, stale {explained['stale_ms']} ms{shadow}"
    )
    return [shown_text(line) for line in (verdict, *map(_rule_line, explained["rules"]))]


def _rule_line(rule: Explained) -> str:
    verb = "denies" if rule["denies"] else "passes"
    until = "" if rule["until"] is None else f" until {rule['until']} ms"
    facts = ", ".join(f"{name} {_shown(value)}" for name, value in rule["facts"].items())
    return f"{rule['rule']} {verb}{until}: {facts}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
