"""The operations that a bulk call may hold: their shapes, and how a batch of one kind is carried out.

An operation is made into a `Task`: how it is done (`run`), what it is done to (`subject`), and what it has in common with
others (`shared`: an end, a reason). Tasks alike in `run` and `shared` are one call of the store. A runner says which of its
subjects were refused, and why; the others are done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from functools import cache, partial
from typing import Any, ClassVar, NamedTuple, TypeVar, Union, get_args

import msgspec

from gate.core.model import ListKind
from gate.errors import GateError, InvalidInput, UserDeactivated
from gate.http.context import AppRequest
from gate.http.fields import (
    AT_MOST_ONE_EXPIRY,
    EXACTLY_ONE_EXPIRY,
    Actor,
    Portrait,
    ProfileName,
    Reason,
    RegistrableId,
    Seconds,
    UntilMs,
    expiry_mistakes,
    expiry_ms,
)
from gate.http.requests import Body, Schema, Shape, decoded, shape_of
from gate.http.v1.users import (
    BeforeMs,
    before_mistakes,
)
from gate.store.app_writes import PenaltyKind
from gate.store.writer import Attribution, WriteReceipt

WRITES_AT_ONCE = 16
"""Of one call. To begin one takes some 0.2 ms: these, and those of other calls under way, fit in one turn of the loop."""

Subject = tuple[bytes, ...]
Profile = tuple[str | None, str | None]
Members = dict[str, Any]
"""Of the result of an operation."""
Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Ran(NamedTuple):
    """What became of a batch: its writes, who was refused, and what an answer says of who was not."""

    writes: Sequence[WriteReceipt]
    refused: dict[Subject, GateError] = {}  # noqa: RUF012  # never written to
    members: dict[Subject, Members] = {}  # noqa: RUF012  # never written to


Run = Callable[[AppRequest, Any, Sequence[Subject]], Awaitable[Ran]]


class Task(NamedTuple):
    """One operation, ready to be carried out."""

    run: Run
    shared: tuple[object, ...]
    subject: Subject


class _Operation(Body, frozen=True, kw_only=True, tag_field="op"):
    reason: Reason = ""
    actor: Actor = ""


class _OnUser(_Operation, frozen=True, kw_only=True):
    user: bytes


class _Imposing(_OnUser, frozen=True, kw_only=True):
    SCHEMA: ClassVar[Schema] = EXACTLY_ONE_EXPIRY

    until: UntilMs | None = None
    seconds: Seconds | None = None
    permanent: bool = False

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """As of `POST /v1/bans`."""
        return expiry_mistakes(self.until, self.seconds, self.permanent, is_required=True)


class Ban(_Imposing, frozen=True, tag="ban"):
    """As POST /v1/bans."""


class Mute(_Imposing, frozen=True, tag="mute"):
    """As POST /v1/mutes."""


class Unban(_OnUser, frozen=True, tag="unban"):
    """As DELETE /v1/bans."""


class Unmute(_OnUser, frozen=True, tag="unmute"):
    """As DELETE /v1/mutes."""


class _OnEntry(_Operation, frozen=True, kw_only=True):
    owner: bytes
    member: bytes


class _Adding(_OnEntry, frozen=True, kw_only=True):
    SCHEMA: ClassVar[Schema] = AT_MOST_ONE_EXPIRY

    until: UntilMs | None = None
    seconds: Seconds | None = None

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """As of `POST /v1/blacklist`."""
        return expiry_mistakes(self.until, self.seconds)


class Block(_Adding, frozen=True, tag="block"):
    """As POST /v1/blacklist."""


class Admit(_Adding, frozen=True, tag="admit"):
    """As POST /v1/whitelist."""


class Unblock(_OnEntry, frozen=True, tag="unblock"):
    """As DELETE /v1/blacklist."""


class Unadmit(_OnEntry, frozen=True, tag="unadmit"):
    """As DELETE /v1/whitelist."""


class SwitchWhitelist(_OnUser, frozen=True, tag="whitelist-switch", kw_only=True):
    """As PUT /v1/whitelist-switch."""

    on: bool


class _Profiled(Body, frozen=True, kw_only=True, tag_field="op"):
    user: RegistrableId
    name: ProfileName | None = None
    portrait: Portrait | None = None


class Register(_Profiled, frozen=True, tag="register"):
    """As POST /v1/users."""


class Mint(_Profiled, frozen=True, tag="mint"):
    """As POST /v1/tokens."""


class Revoke(_OnUser, frozen=True, tag="revoke", kw_only=True):
    """As DELETE /v1/tokens."""

    before: BeforeMs | None = None

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """As of `DELETE /v1/tokens`."""
        return before_mistakes(self.before, now_ms)


class Delete(_OnUser, frozen=True, tag="delete"):
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


@cache
def _shapes() -> dict[type, Shape[Any]]:
    """By the type that the JSON of an operation is decoded to."""
    shapes = [shape_of(kind) for kind in get_args(Operation)]
    return {shape.loose: shape for shape in shapes}


def operation_of(raw: bytes | msgspec.Raw, now_ms: int) -> Operation:
    """An operation from its JSON. Raises one `InvalidInput` that names everything that is wrong with it."""
    shapes = _shapes()
    kinds: Any = Union[tuple(shapes)]  # noqa: UP007  # of types that are made at run time
    sent = decoded(raw, kinds, "operation")
    operation: Operation = shapes[type(sent)].checked(sent, now_ms)
    return operation


def task_of(operation: Operation, now_ms: int) -> Task:
    """The operation as a Task."""
    subject = (operation.owner, operation.member) if isinstance(operation, _OnEntry) else (operation.user,)
    return Task(_RUNS[type(operation)], _shared(operation, now_ms), subject)


def _shared(operation: Operation, now_ms: int) -> tuple[object, ...]:
    if isinstance(operation, _Profiled):
        return operation.name, operation.portrait
    because = Attribution(operation.actor, operation.reason)
    if isinstance(operation, _Imposing | _Adding):
        return expiry_ms(operation.until, operation.seconds, now_ms), because
    if isinstance(operation, SwitchWhitelist):
        return operation.on, because
    if isinstance(operation, Revoke):
        return operation.before, because
    return (because,)


async def _impose(
    call: AppRequest, shared: tuple[int, Attribution], subjects: Sequence[Subject], penalty: PenaltyKind
) -> Ran:
    until_ms, (by, why) = shared
    try:
        imposed = await call.writes(why, by).impose(penalty, [user for (user,) in subjects], until_ms)
    except UserDeactivated as fault:
        return Ran([], {(user,): UserDeactivated([user]) for user in fault.users})
    return Ran([imposed.written], {(user,): UserDeactivated([user]) for user in imposed.skipped})


async def _lift(call: AppRequest, shared: tuple[Attribution], subjects: Sequence[Subject], penalty: PenaltyKind) -> Ran:
    ((by, why),) = shared
    return Ran([await call.writes(why, by).lift(penalty, [user for (user,) in subjects])])


async def _add(call: AppRequest, shared: tuple[int, Attribution], subjects: Sequence[Subject], kind: ListKind) -> Ran:
    until_ms, (by, why) = shared
    writes = call.writes(why, by)
    return await _by_owner(subjects, lambda owner, members: writes.add(kind, owner, members, until_ms))


async def _remove(call: AppRequest, shared: tuple[Attribution], subjects: Sequence[Subject], kind: ListKind) -> Ran:
    ((by, why),) = shared
    writes = call.writes(why, by)
    return await _by_owner(subjects, lambda owner, members: writes.remove(kind, owner, members))


async def _switch(call: AppRequest, shared: tuple[bool, Attribution], subjects: Sequence[Subject]) -> Ran:
    on, (by, why) = shared
    return Ran([await call.writes(why, by).switch([user for (user,) in subjects], on)])


async def _revoke(call: AppRequest, shared: tuple[int | None, Attribution], subjects: Sequence[Subject]) -> Ran:
    before_ms, (by, why) = shared
    return Ran([await call.writes(why, by).revoke_tokens([user for (user,) in subjects], before_ms)])


async def _delete(call: AppRequest, shared: tuple[Attribution], subjects: Sequence[Subject]) -> Ran:
    ((by, why),) = shared
    return await _all_but_deactivated(subjects, call.writes(why, by).erase)


async def _register(call: AppRequest, shared: Profile, subjects: Sequence[Subject]) -> Ran:
    writes = call.writes()
    done, refused = await each([(subject, writes.register(subject[0], *shared)) for subject in subjects])
    created: dict[Subject, Members] = {subject: {"created": one is not None} for subject, one in done.items()}
    return Ran([one for one in done.values() if one is not None], refused, created)


async def _mint(call: AppRequest, shared: Profile, subjects: Sequence[Subject]) -> Ran:
    writes = call.writes()
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


_RUNS: dict[type[object], Run] = {
    Ban: partial(_impose, penalty="ban"),
    Mute: partial(_impose, penalty="mute"),
    Unban: partial(_lift, penalty="ban"),
    Unmute: partial(_lift, penalty="mute"),
    Block: partial(_add, kind=ListKind.BLACKLIST),
    Admit: partial(_add, kind=ListKind.WHITELIST),
    Unblock: partial(_remove, kind=ListKind.BLACKLIST),
    Unadmit: partial(_remove, kind=ListKind.WHITELIST),
    SwitchWhitelist: _switch,
    Register: _register,
    Mint: _mint,
    Revoke: _revoke,
    Delete: _delete,
}
