"""`POST /v1/bulk`: up to 1,000 operations of any kinds in one call, each with a result of its own.

    {"operations": [{"op": "ban", "user": "a", "seconds": 60}, {"op": "block", "owner": "b", "member": "c"}, …]}
    {"results": [{"ok": true}, {"ok": false, "error": word, "message": …}, …], "revision": …, "applied": …}

Results come in the order of the operations, and one that is wrong or refused keeps none of the others from being done.
Operations that name a User in common take effect in their order. The rest may overtake each other, so that operations of one
kind are done together wherever they stand: a thousand mixed ones are some dozens of exchanges with Redis, not a thousand.
The answer comes when all that was written is effective.

If Redis goes away on the way, what was done stands, what may have been done says `"outcome": "unknown"`, and the rest was
not begun. Every operation is safe to repeat.

An operation is made into a `Task`: how it is done (`run`, of its row in `gate.store.operations`), what it is done to
(`subject`), and what it has in common with others (`shared`: an end, a reason). Tasks alike in `run` and `shared` are one call
of the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gate.core.scopes import USERS
from gate.errors import GateError, InvalidInput, StoreUnavailable
from gate.http.context import AppRequest
from gate.http.endpoint import EffectiveIfAny, Endpoint, answered
from gate.http.errors import v1_problem
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
from gate.http.v1.users import BeforeMs, before_mistakes
from gate.store.app_writes import AppWrites
from gate.store.operations import BY_NAME, Run, Subject, each
from gate.store.writer import Attribution, WriteReceipt, joined

MAX_OPERATIONS = 1_000
# Operations: a millisecond or two, then others have their turn.
READ_AT_ONCE = 100


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
def _shapes() -> tuple[dict[type, Shape[Any]], msgspec.json.Decoder[Any]]:
    """The shapes by the type that the JSON of an operation is decoded to, and the decoder of any of them."""
    shapes: dict[type, Shape[Any]] = {shape.loose: shape for shape in map(shape_of, get_args(Operation))}
    kinds: Any = Union[tuple(shapes)]  # noqa: UP007  # of types that are made at run time
    # Made once: for a union of thirteen it takes eighty times as long as to decode one operation.
    return shapes, msgspec.json.Decoder(kinds)


def operation_of(raw: bytes | msgspec.Raw, now_ms: int) -> Operation:
    """An operation from its JSON. Raises one `InvalidInput` that names everything that is wrong with it."""
    shapes, decoder = _shapes()
    sent = decoded(raw, decoder, "operation")
    operation: Operation = shapes[type(sent)].checked(sent, now_ms)
    return operation


def task_of(operation: Operation, now_ms: int) -> Task:
    """The operation as a Task."""
    # The tag is the row's name: what an operation does is in one table, for this call and for imports.
    row = BY_NAME[str(type(operation).__struct_config__.tag)]
    subject = tuple(getattr(operation, name) for name in row.subject)
    return Task(row.run, _shared(operation, now_ms), subject)


def _shared(operation: Operation, now_ms: int) -> tuple[object, ...]:
    if isinstance(operation, _Profiled):
        # Operations that are alike here are one call of the store, so every part must be hashable.
        return operation.name, operation.portrait
    because = Attribution(operation.actor, operation.reason)
    if isinstance(operation, _Imposing | _Adding):
        return expiry_ms(operation.until, operation.seconds, now_ms), because
    if isinstance(operation, SwitchWhitelist):
        return operation.on, because
    if isinstance(operation, Revoke):
        return operation.before, because
    return (because,)


# The call


class Bulk(Body, frozen=True):
    """The body with its operations still to be read, since a wrong one must not keep the others from being done."""

    IS_BATCH: ClassVar[bool] = True

    operations: list[msgspec.Raw]

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """Too many operations, or none."""
        if not 1 <= len(self.operations) <= MAX_OPERATIONS:
            problem = f"must hold 1 to {MAX_OPERATIONS} operations, {len(self.operations)} were sent"
            yield InvalidInput("operations", problem)


class BulkBody(Body, frozen=True):
    """What to do, in order."""

    operations: Annotated[list[Operation], Meta(min_length=1, max_length=MAX_OPERATIONS)]


class BulkResult(Struct, kw_only=True):
    """What became of one operation; if it is not `ok`, the other members are those of `Problem`."""

    ok: bool
    created: bool | UnsetType = UNSET
    token: str | UnsetType = UNSET
    expires: int | UnsetType | None = UNSET
    error: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    parameter: str | UnsetType = UNSET
    outcome: Literal["unknown"] | UnsetType = UNSET


class BulkDone(EffectiveIfAny, kw_only=True):
    """In the order of the operations."""

    results: list[BulkResult]


class Numbered(NamedTuple):
    number: int
    task: Task


async def bulk(call: AppRequest, body: Bulk) -> BulkDone:
    """→ results, in order. 503 only if nothing at all was done."""
    async with call.deps.long_work.admitted(call.app_key):
        work = _Work(call, len(body.operations))
        await work.do(await work.tasks(body.operations))
    return await answered(call, BulkDone, joined(work.writes), results=work.results)


class _Work:
    """One call's results, as they come in."""

    def __init__(self, call: AppRequest, size: int) -> None:
        self._call = call
        # Good until refused: most operations have nothing else to report.
        self.results = [BulkResult(ok=True) for _ in range(size)]
        self.writes: list[WriteReceipt] = []
        self._away: StoreUnavailable | None = None

    async def tasks(self, operations: Sequence[msgspec.Raw]) -> list[Numbered]:
        """The operations that can be done; the others have their results."""
        tasks: list[Numbered] = []
        # One moment for all: equal `seconds` are equal ends, and can be one call.
        now_ms = self._call.now_ms
        for number, raw in enumerate(operations):
            if number % READ_AT_ONCE == READ_AT_ONCE - 1:
                await asyncio.sleep(0)
            try:
                tasks.append(Numbered(number, task_of(operation_of(raw, now_ms), now_ms)))
            except InvalidInput as fault:
                self._refuse(number, fault)
        return tasks

    async def do(self, tasks: Sequence[Numbered]) -> None:
        """Do all of them, in runs that may be done together."""
        done = 0
        for run in runs(tasks):
            if self._away is None:
                done += await self._do_run(run)
            else:
                for one in run:
                    self._refuse(one.number, StoreUnavailable(str(self._away)))
        # If something was done, the caller must learn what, so the answer is 200 with a result for each.
        if self._away is not None and not done:
            raise self._away

    async def _do_run(self, run: Sequence[Numbered]) -> int:
        """How many of them were done."""
        groups: dict[tuple[object, ...], dict[Subject, int]] = {}
        for one in run:
            # No subject is twice in a run (`runs`): a second one would take the place of the first one's number.
            groups.setdefault(one.task.shared, {})[one.task.subject] = one.number
        do = run[0].task.run
        ran, refused = await each(
            [(shared, do(self._writes_as, shared, list(numbers))) for shared, numbers in groups.items()]
        )
        for shared, fault in refused.items():
            self._refuse_all(groups[shared], dict.fromkeys(groups[shared], fault))
        done = 0
        for shared, (writes, refused_some, results) in ran.items():
            numbers = groups[shared]
            self.writes += writes
            self._refuse_all(numbers, refused_some)
            for subject, members in results.items():
                self.results[numbers[subject]] = BulkResult(ok=True, **members)
            done += len(numbers) - len(refused_some)
        return done

    def _writes_as(self, because: Attribution) -> AppWrites:
        return self._call.writes(because.why, because.by)

    def _refuse_all(self, numbers: dict[Subject, int], refused: dict[Subject, GateError]) -> None:
        for subject, fault in refused.items():
            self._refuse(numbers[subject], fault)
            if isinstance(fault, StoreUnavailable):
                # The rest is not begun: each call would wait for the deadline in vain.
                self._away = fault

    def _refuse(self, number: int, fault: GateError) -> None:
        members: dict[str, Any] = v1_problem(fault, self._call.request.path).body
        self.results[number] = BulkResult(ok=False, **members)


def runs(tasks: Sequence[Numbered]) -> Iterator[list[Numbered]]:
    """Operations of one kind, wave by wave. One stands in a later wave than every earlier one of another kind, or on the same
    subject, that names one of its Users: so in whichever order a wave is done, the end is the same."""
    waves: list[dict[Run, list[Numbered]]] = []
    latest: dict[bytes, tuple[int, Run]] = {}
    done_at: dict[tuple[Run, Subject], int] = {}
    for one in tasks:
        run, subject = one.task.run, one.task.subject
        # Behind the same operation on the same subject: of two Bans of one User the later one must win.
        at = done_at.get((run, subject), -1) + 1
        for user in subject:
            wave, its_run = latest.get(user, (0, run))
            # Two of one kind commute, as two entries of one list do; two kinds on one User do not.
            at = max(at, wave if its_run is run else wave + 1)
        for user in subject:
            latest[user] = at, run
        done_at[run, subject] = at
        # At most one past the last wave, so no gap can arise.
        if at == len(waves):
            waves.append({})
        waves[at].setdefault(run, []).append(one)
    for wave_runs in waves:
        yield from wave_runs.values()


ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    ("/v1/bulk", "POST"): Endpoint(
        f"Up to {MAX_OPERATIONS:,} operations in one call", bulk, scopes=USERS, takes=BulkBody
    )
}
