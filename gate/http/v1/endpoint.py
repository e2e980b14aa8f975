"""What an endpoint of `/v1` is, how its body is read and how its answer is made."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from aiohttp import web

from gate.errors import InvalidInput
from gate.http.context import AppRequest, RequestContext
from gate.http.responses import json_response
from gate.store.writing import Written

Body = TypeVar("Body")


class Done(NamedTuple):
    """What an answer holds beside how far its write got; no write where nothing had to change."""

    fields: dict[str, object]
    written: Written | None


Outcome = dict[str, object] | Written | Done | web.StreamResponse
"""A stream is the whole answer already: it was sent when the endpoint returned."""
Endpoint = Callable[[AppRequest], Awaitable[Outcome]]

_AT_PATH = re.compile(r"^(.*?)(?: - at `\$\.?([^`]*)`)?$", re.DOTALL)
_FIELD = re.compile(r"(?:missing required|unknown) field `([^`]*)`")


async def answer(endpoint: Endpoint, call: AppRequest) -> web.StreamResponse:
    """Run the endpoint; a write is answered once it is effective, with its Revision in the body and the header."""
    return await replied(call, await endpoint(call))


async def replied(call: RequestContext, outcome: Outcome) -> web.StreamResponse:
    """What an endpoint returned, as an answer."""
    if isinstance(outcome, web.StreamResponse):
        return outcome
    if isinstance(outcome, dict):
        return json_response(outcome)
    fields, written = outcome if isinstance(outcome, Done) else ({}, outcome)
    if written is None:
        return json_response({**fields, "revision": None, "applied": None})
    effect = await call.effective(written)
    return json_response({**fields, **effect.fields}, headers=effect.headers)


async def read_as(call: RequestContext, shape: type[Body], is_batch: bool = False) -> Body:
    """The body as a `msgspec.Struct`; `InvalidInput` names the member that is wrong."""
    body = await call.json_bytes(is_batch)
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as fault:
        raise named_mistake(fault) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise InvalidInput("body", f"must be JSON: {fault}") from None


def refuse_if_any(problems: Sequence[InvalidInput]) -> None:
    """Raise all these mistakes as one."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise InvalidInput("body", "; ".join(str(problem) for problem in problems))


def named_mistake(fault: msgspec.ValidationError) -> InvalidInput:
    """The mistake as ours are worded, with the member that is wrong by its path."""
    text = str(fault)
    match = _AT_PATH.match(text)
    problem, path = (match[1], match[2]) if match else (text, None)
    field = _FIELD.search(problem)
    name = ".".join(part for part in (path, field[1] if field else None) if part)
    return InvalidInput(name or "body", problem[:1].lower() + problem[1:])
