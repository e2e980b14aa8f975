"""The operations of a bulk call as JSON: their shapes, and each as a row of `gate.store.operations`, which carries it out.

An operation is made into a `Task`: how it is done (`run`), what it is done to (`subject`), and what it has in common with
others (`shared`: an end, a reason). Tasks alike in `run` and `shared` are one call of the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, ClassVar, NamedTuple, Union, get_args

import msgspec

from gate.errors import InvalidInput
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
from gate.store.operations import BY_NAME, Run, Subject
from gate.store.writer import Attribution


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
    row = BY_NAME[str(type(operation).__struct_config__.tag)]
    subject = tuple(getattr(operation, name) for name in row.subject)
    return Task(row.run, _shared(operation, now_ms), subject)


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
