"""The operations on an App's Users and their lists, in one table: what each is called, what it names, and how it is written.

`POST /v1/bulk` carries them out by `AppWrites`, in batches of one kind that have the same end, reason and actor. `gate import`
reads six of them from the lines of a file and states their facts by `BulkWriter`; the rows say what such a line may have.
A runner says which of its subjects were refused, and why; the others are done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

from gate.core.model import ListKind
from gate.errors import GateError, UserDeactivated
from gate.store.app_writes import AppWrites, PenaltyKind
from gate.store.writer import UNEXPLAINED, Attribution, WriteReceipt

WRITES_AT_ONCE = 16
"""Of one call. To begin one takes some 0.2 ms: these, and those of other calls under way, fit in one turn of the loop."""

Subject = tuple[bytes, ...]
Profile = tuple[str | None, str | None]
Members = dict[str, Any]
"""Of the result of an operation."""
WritesAs = Callable[[Attribution], AppWrites]
Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Ran(NamedTuple):
    """What became of a batch: its writes, who was refused, and what an answer says of who was not."""

    writes: Sequence[WriteReceipt]
    refused: dict[Subject, GateError] = {}  # noqa: RUF012  # never written to
    members: dict[Subject, Members] = {}  # noqa: RUF012  # never written to


Run = Callable[[WritesAs, Any, Sequence[Subject]], Awaitable[Ran]]


class Operation(NamedTuple):
    """A row. `subject` names the ids; `ends` says whether the fact may have an end, or must be given one.

    `line` is the kind of an imported line that states the same, "" if no line does; `line_fields` are those that it may have
    next to its subject and its end.
    """

    op: str
    run: Run
    subject: tuple[str, ...] = ("user",)
    ends: Literal["never", "may", "must"] = "never"
    list_kind: ListKind | None = None
    line: str = ""
    line_fields: tuple[str, ...] = ()


async def _impose(
    writes_as: WritesAs, shared: tuple[int, Attribution], subjects: Sequence[Subject], penalty: PenaltyKind
) -> Ran:
    until_ms, because = shared
    try:
        imposed = await writes_as(because).impose(penalty, [user for (user,) in subjects], until_ms)
    except UserDeactivated as fault:
        return Ran([], {(user,): UserDeactivated([user]) for user in fault.users})
    return Ran([imposed.written], {(user,): UserDeactivated([user]) for user in imposed.skipped})


async def _lift(
    writes_as: WritesAs, shared: tuple[Attribution], subjects: Sequence[Subject], penalty: PenaltyKind
) -> Ran:
    (because,) = shared
    return Ran([await writes_as(because).lift(penalty, [user for (user,) in subjects])])


async def _add(
    writes_as: WritesAs, shared: tuple[int, Attribution], subjects: Sequence[Subject], kind: ListKind
) -> Ran:
    until_ms, because = shared
    writes = writes_as(because)
    return await _by_owner(subjects, lambda owner, members: writes.add(kind, owner, members, until_ms))


async def _remove(writes_as: WritesAs, shared: tuple[Attribution], subjects: Sequence[Subject], kind: ListKind) -> Ran:
    (because,) = shared
    writes = writes_as(because)
    return await _by_owner(subjects, lambda owner, members: writes.remove(kind, owner, members))


async def _switch(writes_as: WritesAs, shared: tuple[bool, Attribution], subjects: Sequence[Subject]) -> Ran:
    on, because = shared
    return Ran([await writes_as(because).switch([user for (user,) in subjects], on)])


async def _revoke(writes_as: WritesAs, shared: tuple[int | None, Attribution], subjects: Sequence[Subject]) -> Ran:
    before_ms, because = shared
    return Ran([await writes_as(because).revoke_tokens([user for (user,) in subjects], before_ms)])


async def _delete(writes_as: WritesAs, shared: tuple[Attribution], subjects: Sequence[Subject]) -> Ran:
    (because,) = shared
    return await _all_but_deactivated(subjects, writes_as(because).erase)


async def _register(writes_as: WritesAs, shared: Profile, subjects: Sequence[Subject]) -> Ran:
    writes = writes_as(UNEXPLAINED)
    done, refused = await each([(subject, writes.register(subject[0], *shared)) for subject in subjects])
    created: dict[Subject, Members] = {subject: {"created": one is not None} for subject, one in done.items()}
    return Ran([one for one in done.values() if one is not None], refused, created)


async def _mint(writes_as: WritesAs, shared: Profile, subjects: Sequence[Subject]) -> Ran:
    writes = writes_as(UNEXPLAINED)
    done, refused = await each([(subject, writes.mint(subject[0], *shared)) for subject in subjects])
    receipts = [one.written for one in done.values() if one.written is not None]
    members: dict[Subject, Members] = {
        subject: {"created": one.written is not None, "token": one.token, "expires": one.expires_at_ms or None}
        for subject, one in done.items()
    }
    return Ran(receipts, refused, members)


async def _all_but_deactivated(
    subjects: Sequence[Subject], write: Callable[[list[bytes]], Awaitable[WriteReceipt]]
) -> Ran:
    """Write for all of them, which deactivated ones forbid: then again without those, which are refused."""
    users = [user for (user,) in subjects]
    refused: dict[Subject, GateError] = {}
    while users:
        try:
            return Ran([await write(users)], refused)
        except UserDeactivated as fault:
            gone = set(fault.users)
            refused |= {(user,): UserDeactivated([user]) for user in gone}
            users = [user for user in users if user not in gone]
    return Ran([], refused)


async def _by_owner(subjects: Sequence[Subject], write: Callable[[bytes, list[bytes]], Awaitable[WriteReceipt]]) -> Ran:
    """One write an owner; one that is refused is refused for all its members."""
    members: dict[bytes, list[bytes]] = {}
    for owner, member in subjects:
        members.setdefault(owner, []).append(member)
    done, refused = await each([((owner,), write(owner, some)) for owner, some in members.items()])
    return Ran(
        list(done.values()),
        {(owner, member): fault for (owner,), fault in refused.items() for member in members[owner]},
    )


async def each(
    works: Sequence[tuple[Key, Awaitable[Result]]],
) -> tuple[dict[Key, Result], dict[Key, GateError]]:
    """All of these, many at once: what came of them, and what was refused. A bug in one is a bug in all."""
    room = asyncio.Semaphore(WRITES_AT_ONCE)

    async def admitted(work: Awaitable[Result]) -> Result:
        async with room:
            return await work

    outcomes = await asyncio.gather(*(admitted(work) for _, work in works), return_exceptions=True)
    done: dict[Key, Result] = {}
    refused: dict[Key, GateError] = {}
    for (key, _), outcome in zip(works, outcomes, strict=True):
        if isinstance(outcome, GateError):
            refused[key] = outcome
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            done[key] = outcome
    return done, refused


def _on_list(kind: ListKind, add: str, remove: str, line: str) -> tuple[Operation, Operation]:
    subject = ("owner", "member")
    return (
        Operation(add, partial(_add, kind=kind), subject, "may", kind, line),
        Operation(remove, partial(_remove, kind=kind), subject, list_kind=kind),
    )


_AUDITED = ("reason", "actor")
OPERATIONS: tuple[Operation, ...] = (
    Operation("ban", partial(_impose, penalty="ban"), ends="must", line="ban", line_fields=_AUDITED),
    Operation("unban", partial(_lift, penalty="ban")),
    Operation("mute", partial(_impose, penalty="mute"), ends="must", line="mute", line_fields=_AUDITED),
    Operation("unmute", partial(_lift, penalty="mute")),
    *_on_list(ListKind.BLACKLIST, "block", "unblock", "blacklist"),
    *_on_list(ListKind.WHITELIST, "admit", "unadmit", "whitelist"),
    Operation("whitelist-switch", _switch, line="whitelist-switch", line_fields=("on",)),
    Operation("register", _register, line="user", line_fields=("name", "portrait", "registered")),
    Operation("mint", _mint),
    Operation("revoke", _revoke),
    Operation("delete", _delete),
)
BY_NAME = {row.op: row for row in OPERATIONS}
IMPORTED = {row.line: row for row in OPERATIONS if row.line}
"""By the kind of a line."""
