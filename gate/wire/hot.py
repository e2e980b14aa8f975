"""The fast ways to answer checks: those in bytes that came, by the compiled core; one alone, and a pipeline of checks that are
alike, in Python. Most of a worker's time passes here.

All give None (or no bytes) for whatever they do not answer themselves, which the general way (`commands.answer`) then does: it
alone words errors. In Python they take `GATE.CHECK` and `GATE.VERDICT`, plain or with `FRESH`; the core takes those two and
`GATE.MCHECK`, plain. All hold the age limit of the App or the deployment.

Called by `gate.wire.connection`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gate.clock import monotonic_us
from gate.core.verdict import Word
from gate.errors import GateError
from gate.replica.app_reading import AppReading
from gate.wire.checks import HOT_REPLIES, fresh_within_ms
from gate.wire.client import Client, Worker
from gate.wire.resp import BULK_HEADERS, LONE_BYTES, Command, whole_command
from gate.wire.turns import SLICE_US

# Parts of a command: name, from, to; and FRESH, ms.
_PLAIN, _WITH_FRESH = 3, 5
_NOTHING = 0, b""
# What the core may answer begins like this. Asked before `answered`, which would begin a bracket for nothing.
begins_with_check = re.compile(rb"\*[0-9]{1,3}\r\n\$1[0-2]\r\nGATE\.(?:M?CHECK|VERDICT)\r\n").match


def answered_now(client: Client, size: int) -> tuple[int, bytes]:
    """Of the first `size` bytes in the worker's buffer, how many were answered, and the replies; in a bracket of its own.

    The core answers none where anything moved since the App was last looked at (a commit, the file in use, its settings), and
    nothing but a lone check is answered while others wait for their turn. Without the core, a lone check takes a third of the
    time of the general way (1.2 us of 3.3), which a round trip shows.
    """
    app, worker = client.hot_app, client.worker
    if app is None:
        return _NOTHING
    is_lone = size <= LONE_BYTES
    is_limited = worker.max_staleness_ms or app.has_own_age_limit  # here, since a call for nothing costs 50 ns
    if (
        app.checks is not None
        and not worker.turns.is_busy
        and app.app is client.facts
        and (not is_limited or _is_young(worker, app))
    ):
        from_us = 0 if is_lone else monotonic_us()
        answered = app.checks.answer_now(worker.buffer, size, from_us and from_us + SLICE_US)
        if not is_lone:
            client.usage.add(from_us, monotonic_us())
        if answered is not None and answered[0]:
            return answered
    parts = lone_command(worker.received[:size].tobytes()) if is_lone else None
    if parts is None or (written := HOT_REPLIES.get(parts[0])) is None:
        return _NOTHING
    try:
        # The age is read before the facts: a process that is paused in between must not call old facts fresh.
        if (len(parts) != _PLAIN or is_limited) and not _is_young_enough(worker, app, parts):
            return _NOTHING
        word = app.word_now(parts[1], parts[2], client.facts)
    except GateError:
        return _NOTHING  # the general way says what is wrong
    if word is None:
        return _NOTHING
    worker.given[word] += 1
    return size, written[word]


def lone_command(chunk: bytes) -> Sequence[bytes] | None:
    """The parts of a chunk of at most `LONE_BYTES` that is exactly one command of three or five parts; None for anything else.

    A third of what `CommandReader.take` costs. Between commands only.
    """
    if chunk[:3] == b"*5\r":
        return whole_command(chunk)
    try:
        # A part with a line break of its own makes more pieces, and is left to the general way.
        count, name_length, name, first_length, first, second_length, second, end = chunk.split(b"\r\n")
    except ValueError:
        return None
    if (
        count == b"*3"
        and not end
        and name_length == BULK_HEADERS[len(name)]
        and first_length == BULK_HEADERS[len(first)]
        and second_length == BULK_HEADERS[len(second)]
    ):
        return name, first, second
    return None


def _is_young(worker: Worker, app: AppReading) -> bool:
    """Whether the facts are as young as the App's policy or the deployment demands, if one does."""
    limit_ms = worker.age_limit_ms(app)
    if not limit_ms:
        return True
    try:
        return worker.stale_ms() <= limit_ms
    except GateError:
        return False  # the general way says what is wrong


def answered(client: Client, chunk: bytes, until_us: int) -> tuple[int, bytes]:
    """Of a chunk that begins with a check: how many bytes the core answered, and the replies; its bracket takes up moves."""
    app, worker = client.hot_app, client.worker
    if app is None or app.checks is None:
        return _NOTHING
    try:
        worker.begin()
        if worker.age_limit_ms(app):
            worker.refuse_stale_ms(app, worker.age_ms())
        is_as_bound = app.sync() and app.app is client.facts and app.checks.is_set
        return app.checks.answer(chunk, until_us) if is_as_bound else _NOTHING
    except GateError:
        return _NOTHING  # the general way says what is wrong
    finally:
        worker.reading.release()


def _is_young_enough(worker: Worker, app: AppReading, parts: Sequence[bytes]) -> bool:
    if len(parts) == _PLAIN:
        return _is_young(worker, app)
    within_ms = fresh_within_ms(parts[3], parts[4])
    return within_ms is not None and worker.stale_ms() <= min(within_ms, worker.age_limit_ms(app) or within_ms)


def batch_reply(client: Client, commands: list[Command], written: Mapping[Word, bytes]) -> bytes | None:
    """All replies at once, from those `written` in advance, if every command is the same kind of check. Inside a bracket."""
    app, worker = client.hot_app, client.worker
    if app is None:
        return None
    try:
        # Columns, made in C: of unequal commands, `strict` raises.
        names, senders, recipients, *clause = zip(*commands, strict=True)
        if names.count(names[0]) != len(names) or not _are_fresh(worker, app, clause):
            return None
        if not app.sync() or app.app is not client.facts:
            return None
        words = app.words(senders, recipients)
    except (ValueError, GateError):
        return None  # not all alike, or refused: answered one by one, each its own reply
    # One pass in C, without a frame for each reply.
    worker.count(words)
    return b"".join(map(written.__getitem__, words))


def _are_fresh(worker: Worker, app: AppReading, clause: Sequence[Sequence[bytes]]) -> bool:
    """Whether the facts are as young as the App or deployment and all commands demand, by the same clause or without one."""
    limit_ms = worker.age_limit_ms(app)
    if limit_ms and worker.age_ms() > limit_ms:
        return False
    if not clause:
        return True
    if len(clause) != _WITH_FRESH - _PLAIN or any(column.count(column[0]) != len(column) for column in clause):
        return False
    within_ms = fresh_within_ms(clause[0][0], clause[1][0])
    return within_ms is not None and worker.age_ms() <= within_ms
