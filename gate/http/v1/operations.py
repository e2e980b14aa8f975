"""The operations that a bulk call may hold: their shapes, and how a batch of one kind is carried out.

An operation is made into a `Task`: how it is done (`run`), what it is done to (`subject`), and what it has in common with
others (`shared`: an end, a reason). Tasks alike in `run` and `shared` are one call of the store. A runner says which of its
subjects were refused, and why; the others are done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from gate.core.model import FOREVER_MS, ListKind
from gate.core.registration import registrable
from gate.errors import GateError, InvalidInput, UserDeactivated
from gate.http.context import AppRequest
from gate.http.fields import IdJson, check_reason, end_ms, id_bytes
from gate.http.v1.endpoint import Done, refuse_if_any
from gate.http.v1.users import enrol, enrol_and_mint, profile_problems, refuse_in_production, revoked_before_ms
from gate.store.writer import Attribution, WriteReceipt

WRITES_AT_ONCE = 16
"""Of one call. To begin one takes some 0.2 ms: these, and those of other calls under way, fit in one turn of the loop."""

Subject = tuple[bytes, ...]
Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Ran(NamedTuple):
    """What became of a batch: its writes, who was refused, and what an answer says of who was not."""

    writes: Sequence[WriteReceipt]
    refused: dict[Subject, GateError] = {}  # noqa: RUF012  # never written to
    fields: dict[Subject, dict[str, object]] = {}  # noqa: RUF012  # never written to


Run = Callable[[AppRequest, Any, Sequence[Subject]], Awaitable[Ran]]


class Task(NamedTuple):
    """One operation, ready to be carried out."""

    run: Run
    shared: tuple[object, ...]
    subject: Subject


class _Operation(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, tag_field="op"):
    reason: str = ""
    actor: str = ""


class _OnUser(_Operation, kw_only=True):
    user: IdJson


class _Imposing(_OnUser, kw_only=True):
    until: int | None = None
    seconds: int | None = None
    permanent: bool = False


class Ban(_Imposing, tag="ban"):
    """As POST /v1/bans."""


class Mute(_Imposing, tag="mute"):
    """As POST /v1/mutes."""


class Unban(_OnUser, tag="unban"):
    """As DELETE /v1/bans."""


class Unmute(_OnUser, tag="unmute"):
    """As DELETE /v1/mutes."""


class _OnEntry(_Operation, kw_only=True):
    owner: IdJson
    member: IdJson


class _Adding(_OnEntry, kw_only=True):
    until: int | None = None
    seconds: int | None = None


class Block(_Adding, tag="block"):
    """As POST /v1/blacklist."""


class Admit(_Adding, tag="admit"):
    """As POST /v1/whitelist."""


class Unblock(_OnEntry, tag="unblock"):
    """As DELETE /v1/blacklist."""


class Unadmit(_OnEntry, tag="unadmit"):
    """As DELETE /v1/whitelist."""


class SwitchWhitelist(_OnUser, tag="whitelist-switch", kw_only=True):
    """As PUT /v1/whitelist-switch."""

    on: bool


class _Profiled(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, tag_field="op"):
    user: IdJson
    name: str | None = None
    portrait: str | None = None


class Register(_Profiled, tag="register"):
    """As POST /v1/users."""


class Mint(_Profiled, tag="mint"):
    """As POST /v1/tokens."""


class Revoke(_OnUser, tag="revoke", kw_only=True):
    """As DELETE /v1/tokens."""

    before: int | None = None


class Delete(_OnUser, tag="delete"):
    """As DELETE /v1/users."""


Operation = (
    Ban
    | Mute
    | Unban
    | Unmute
    | Block
    | Admit
    | Unblock
    | Unadmit
    | SwitchWhitelist
    | Register
    | Mint
    | Revoke
    | Delete
)


def task_of(operation: Operation, now_ms: int) -> Task:
    """The operation as a Task; `InvalidInput` names everything that is wrong with it."""
    problems: list[InvalidInput] = []
    if isinstance(operation, _Profiled):
        problems += profile_problems(operation.name, operation.portrait)
    else:
        check_reason(operation.reason, operation.actor, problems)
    shared = _shared(operation, now_ms, problems)
    names = ("owner", "member") if isinstance(operation, _OnEntry) else ("user",)
    subject = tuple(_id(getattr(operation, name), name, isinstance(operation, _Profiled), problems) for name in names)
    refuse_if_any(problems)
    return Task(_RUNS[type(operation)], shared, subject)


def _id(value: IdJson, name: str, is_registered: bool, problems: list[InvalidInput]) -> bytes:
    try:
        raw = id_bytes(value, name)
        return registrable(raw, name) if is_registered else raw
    except InvalidInput as problem:
        problems.append(problem)
        return b""


def _shared(operation: Operation, now_ms: int, problems: list[InvalidInput]) -> tuple[object, ...]:
    if isinstance(operation, _Profiled):
        return operation.name, operation.portrait
    because = Attribution(operation.actor, operation.reason)
    if isinstance(operation, _Imposing):
        until_ms = end_ms(operation.until, operation.seconds, operation.permanent, now_ms, problems)
        if until_ms is None:
            problems.append(InvalidInput("until", "is required, or seconds, or permanent"))
        return until_ms, because
    if isinstance(operation, _Adding):
        return end_ms(operation.until, operation.seconds, False, now_ms, problems) or FOREVER_MS, because
    if isinstance(operation, SwitchWhitelist):
        return operation.on, because
    if isinstance(operation, Revoke):
        return revoked_before_ms(operation.before, now_ms, problems), because
    return (because,)


async def _impose(call: AppRequest, shared: tuple[int, Attribution], subjects: Sequence[Subject], family: str) -> Ran:
    until_ms, (by, why) = shared
    penalties = call.deps.store.bans if family == "bans" else call.deps.store.mutes
    return await _all_but_deactivated(
        subjects, lambda users: penalties.impose(call.app_key, users, until_ms, call.now_ms, why, by)
    )


async def _lift(call: AppRequest, shared: tuple[Attribution], subjects: Sequence[Subject], family: str) -> Ran:
    ((by, why),) = shared
    penalties = call.deps.store.bans if family == "bans" else call.deps.store.mutes
    return Ran([await penalties.lift(call.app_key, [user for (user,) in subjects], call.now_ms, why, by)])


async def _add(call: AppRequest, shared: tuple[int, Attribution], subjects: Sequence[Subject], kind: ListKind) -> Ran:
    until_ms, (by, why) = shared
    ceiling = call.facts.list_ceiling
    lists = call.deps.store.lists
    return await _by_owner(
        subjects,
        lambda owner, members: lists.add(call.app_key, kind, owner, members, until_ms, call.now_ms, ceiling, why, by),
    )


async def _remove(call: AppRequest, shared: tuple[Attribution], subjects: Sequence[Subject], kind: ListKind) -> Ran:
    ((by, why),) = shared
    lists = call.deps.store.lists
    return await _by_owner(
        subjects, lambda owner, members: lists.remove(call.app_key, kind, owner, members, call.now_ms, why, by)
    )


async def _switch(call: AppRequest, shared: tuple[bool, Attribution], subjects: Sequence[Subject]) -> Ran:
    on, (by, why) = shared
    users = [user for (user,) in subjects]
    return Ran([await call.deps.store.lists.switch(call.app_key, users, on, call.now_ms, why, by)])


async def _revoke(call: AppRequest, shared: tuple[int, Attribution], subjects: Sequence[Subject]) -> Ran:
    before_ms, because = shared
    users = [user for (user,) in subjects]
    return Ran([await call.deps.store.users.revoke_tokens(call.app_key, users, before_ms, call.now_ms, because)])


async def _delete(call: AppRequest, shared: tuple[Attribution], subjects: Sequence[Subject]) -> Ran:
    refuse_in_production(call.facts)
    (because,) = shared
    users = call.deps.store.users
    return await _all_but_deactivated(subjects, lambda some: users.erase(call.app_key, some, call.now_ms, because))


async def _enrol(
    call: AppRequest,
    shared: tuple[str | None, str | None],
    subjects: Sequence[Subject],
    enrolling: Callable[[AppRequest, bytes, str | None, str | None], Awaitable[Done]],
) -> Ran:
    done, refused = await each([(subject, enrolling(call, subject[0], *shared)) for subject in subjects])
    writes = [one.written for one in done.values() if one.written is not None]
    return Ran(writes, refused, {subject: one.fields for subject, one in done.items()})


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


_RUNS: dict[type[object], Run] = {
    Ban: partial(_impose, family="bans"),
    Mute: partial(_impose, family="mutes"),
    Unban: partial(_lift, family="bans"),
    Unmute: partial(_lift, family="mutes"),
    Block: partial(_add, kind=ListKind.BLACKLIST),
    Admit: partial(_add, kind=ListKind.WHITELIST),
    Unblock: partial(_remove, kind=ListKind.BLACKLIST),
    Unadmit: partial(_remove, kind=ListKind.WHITELIST),
    SwitchWhitelist: _switch,
    Register: partial(_enrol, enrolling=enrol),
    Mint: partial(_enrol, enrolling=enrol_and_mint),
    Revoke: _revoke,
    Delete: _delete,
}
