"""The fast ways to answer checks: those in bytes that came, by the compiled core; one alone, and a pipeline of checks that are
alike, in Python. Most of a worker's time passes here.

All give None (or no bytes) for whatever they do not answer themselves, which the general way (`commands.answer`) then does: it
alone words errors. In Python they take `GATE.CHECK` and `GATE.VERDICT`, plain or with `FRESH`; the core takes those two and
`GATE.MCHECK`, plain. All hold the deployment's age limit.

Called by `gate.wire.connection`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gate.clock import monotonic_us
from gate.errors import GateError
from gate.wire.checks import HOT_REPLIES, fresh_within_ms
from gate.wire.client import Client, Worker
from gate.wire.resp import LONE_BYTES, Command, lone_command
from gate.wire.turns import SLICE_US, Usage

_PLAIN, _WITH_FRESH = 3, 5
"""Parts of a command: name, from, to; and FRESH, ms."""
_NOTHING = 0, b""
_A_CHECK = b"\r\nGATE."
_A_CHECK_BEGINS_BY = 24
"""A command that the core may know has its name by there: the count and the length before it are 15 bytes at the most."""


def answered_now(client: Client, size: int, usage: Usage) -> tuple[int, bytes]:
    """Of the first `size` bytes in the worker's buffer, how many were answered, and the replies; in a bracket of its own.

    The core answers none where anything moved since the App was last looked at (a commit, the file in use, its settings), and
    nothing but a lone check is answered while others wait for their turn.
    """
    app, worker = client.hot_app, client.worker
    if app is None:
        return _NOTHING
    is_lone = size <= LONE_BYTES
    if app.checks is not None and not worker.turns.is_busy and app.app is client.facts and _is_young(worker):
        from_us = 0 if is_lone else monotonic_us()
        answered = app.checks.answer_now(worker.buffer, size, from_us and from_us + SLICE_US)
        if not is_lone:
            usage.add(from_us, monotonic_us())
        if answered is not None and answered[0]:
            return answered
    reply = lone_reply(client, worker.received[:size].tobytes()) if is_lone else None
    return _NOTHING if reply is None else (size, reply)


def _is_young(worker: Worker) -> bool:
    """Whether the facts are as young as the deployment demands, if it does."""
    limit_ms = worker.max_staleness_ms
    if not limit_ms:
        return True
    try:
        return worker.stale_ms() <= limit_ms
    except GateError:
        return False  # the general way says what is wrong


def answered(client: Client, chunk: bytes, until_us: int) -> tuple[int, bytes]:
    """Of a chunk, how many bytes the core answered, and the replies; in a bracket that takes up whatever moved."""
    app, worker = client.hot_app, client.worker
    if app is None or app.checks is None or chunk.find(_A_CHECK, 0, _A_CHECK_BEGINS_BY) < 0:
        return _NOTHING
    try:
        worker.begin()
        worker.refuse_if_stale()
        is_as_bound = app.sync() and app.app is client.facts
        return app.checks.answer(chunk, until_us) if is_as_bound and app.checks.is_set else _NOTHING
    except GateError:
        return _NOTHING  # the general way says what is wrong
    finally:
        worker.reading.release()


def lone_reply(client: Client, chunk: bytes) -> bytes | None:
    """The reply to a chunk that is one check, as from a router that doesn't pipeline.

    Takes a third of the time of the general way (1.2 us of 3.3), which a round trip shows.
    """
    app = client.hot_app
    if app is None:
        return None
    parts = lone_command(chunk)
    if parts is None:
        return None
    written = HOT_REPLIES.get(parts[0])
    worker = client.worker
    if written is None:
        return None
    try:
        if not _is_young_enough(worker, parts):
            return None
        word = app.word_now(parts[1], parts[2])
    except GateError:
        return None  # the general way says what is wrong
    if app.app is not client.facts:
        return None  # and whether its secret is still accepted
    worker.count([word])
    return written[word]


def _is_young_enough(worker: Worker, parts: Sequence[bytes]) -> bool:
    """The age is read before the facts: a process that is paused in between must not call old facts fresh."""
    if len(parts) == _PLAIN:
        limit_ms = worker.max_staleness_ms
        return not limit_ms or worker.stale_ms() <= limit_ms
    within_ms = fresh_within_ms(parts[3], parts[4])
    return within_ms is not None and worker.stale_ms() <= min(within_ms, worker.max_staleness_ms or within_ms)


def batch_reply(client: Client, commands: list[Command]) -> bytes | None:
    """All replies at once, if every command is the same kind of check. Inside a bracket."""
    app, worker = client.hot_app, client.worker
    written = HOT_REPLIES.get(commands[0][0])
    if app is None or written is None:
        return None
    try:
        names, senders, recipients, *clause = zip(*commands, strict=True)
        if names.count(names[0]) != len(names) or not _are_fresh(worker, clause):
            return None
        if not app.sync() or app.app is not client.facts:
            return None
        words = app.words(senders, recipients)
    except (ValueError, GateError):
        return None  # not all alike, or refused: answered one by one, each its own reply
    worker.count(words)
    return b"".join(map(written.__getitem__, words))


def _are_fresh(worker: Worker, clause: Sequence[Sequence[bytes]]) -> bool:
    """Whether the facts are as young as the deployment and all commands demand, by the same clause or without one."""
    limit_ms = worker.max_staleness_ms
    if limit_ms and worker.age_ms() > limit_ms:
        return False
    if not clause:
        return True
    if len(clause) != _WITH_FRESH - _PLAIN or any(column.count(column[0]) != len(column) for column in clause):
        return False
    within_ms = fresh_within_ms(clause[0][0], clause[1][0])
    return within_ms is not None and worker.age_ms() <= within_ms
