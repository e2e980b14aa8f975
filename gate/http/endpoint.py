"""Typed endpoints: the signature of a handler declares what it takes and what it answers.

    async def impose(call: AppRequest, body: Imposing) -> Imposed: ...

`Imposing` is a declaration as `gate.http.requests` reads it, `Imposed` is a `msgspec.Struct`. `/openapi.json` is generated from
these types, the handler's docstring and the few words of `Endpoint`, so no endpoint is described twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from types import UnionType
from typing import Any, Concatenate, Generic, TypeVar, get_args, get_type_hints

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from gate.core.scopes import Scope
from gate.http.context import Effect, RequestContext
from gate.http.forms import Declared
from gate.http.responses import JSON_TYPE, json_response
from gate.store.acks import Applied
from gate.store.writer import WriteReceipt

C = TypeVar("C")
A = TypeVar("A", bound="Effective | EffectiveIfAny")


class Endpoint(Generic[C]):
    """One handler, and what the document says of it beyond its types."""

    __slots__ = ("answers", "content_type", "declared", "faults", "handler", "run", "scopes", "summary", "takes")

    def __init__(
        self,
        summary: str,
        handler: Callable[Concatenate[C, ...], Awaitable[Any]],
        *,
        scopes: tuple[Scope, ...] = (),
        faults: tuple[str | int, ...] = (),
        takes: Any = None,
        content_type: str = JSON_TYPE,
    ) -> None:
        """Read the types of the handler.

        `scopes` are those that an App's key needs; each endpoint of `/v1` names them. `faults` are the error words or codes
        that not all endpoints of its family have. `takes` is what the document has in place of the declaration, if the handler
        reads more by itself: a type, or a tuple of types of which the body is one.
        """
        hints = get_type_hints(plain_function(handler))
        self.scopes = scopes
        self.summary = summary
        self.handler = handler
        self.faults = faults
        self.content_type = content_type
        answers = hints["return"]
        declared = next((kind for kind in hints.values() if is_declaration(kind)), None)
        # A family of handlers shares one function: each of them has its own names for the fields.
        is_narrower = declared is not None and inspect.isclass(takes) and issubclass(takes, declared)
        self.answers: Any = get_args(answers) if isinstance(answers, UnionType) else answers
        self.declared: Any = takes if is_narrower else declared
        self.takes: Any = takes or declared
        self.run: Callable[[C], Awaitable[Any]] = handler
        """Reads the request by the declaration, and runs the handler."""
        if self.declared is not None:
            self.run = partial(self.declared.run, handler)


def plain_function(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The function below all partials."""
    while isinstance(handler, partial):
        handler = handler.func
    return handler


def is_declaration(kind: Any) -> bool:
    """Whether the type is one that `gate.http.requests` reads."""
    return inspect.isclass(kind) and issubclass(kind, Declared)


class Effective(Struct, kw_only=True):
    """A write: where it stands, and how far it got before this was answered.

    `pending_reason` names the durability that it had not reached by then, where that is why it is pending.
    """

    revision: str
    applied: Applied
    pending_reason: str | UnsetType = UNSET


class EffectiveIfAny(Struct, kw_only=True):
    """As `Effective`; both are null where nothing had to be written."""

    revision: str | None
    applied: Applied | None
    pending_reason: str | UnsetType = UNSET


async def answered(call: RequestContext, shape: Callable[..., A], written: WriteReceipt | None, **members: object) -> A:
    """The answer to a write, made when the write is effective. With no write, there was nothing to change."""
    if written is None:
        return shape(**members, revision=None, applied=None)
    return shape(**members, **(await call.effective(written)).fields)


def responded(answer: Struct | web.StreamResponse) -> web.StreamResponse:
    """The response that carries an answer. A stream is the whole response already."""
    if isinstance(answer, web.StreamResponse):
        return answer
    if not isinstance(answer, Effective | EffectiveIfAny):
        return json_response(answer)
    # A subclass has the fields of its base first; in an answer, where the write stands comes last.
    members = {name: value for name, value in msgspec.structs.asdict(answer).items() if value is not UNSET}
    own = {name: value for name, value in members.items() if name not in Effective.__struct_fields__}
    return json_response(own | members, headers=_headers(answer))


def _headers(answer: Effective | EffectiveIfAny) -> dict[str, str]:
    if answer.revision is None or answer.applied is None:
        return {}
    return Effect(answer.revision, answer.applied, answer.pending_reason or "").headers
