"""What an endpoint of `/v1` is, how its body is read and how its answer is made."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
from aiohttp import web

from gate.errors import InvalidInput
from gate.http.calls import APPLIED, REVISION, Call, Exchange
from gate.http.replies import json_reply
from gate.store.writing import Written

Body = TypeVar("Body")
Endpoint = Callable[[Call], Awaitable[dict[str, object] | Written]]

_AT_PATH = re.compile(r"^(.*?)(?: - at `\$\.?([^`]*)`)?$", re.DOTALL)
_FIELD = re.compile(r"(?:missing required|unknown) field `([^`]*)`")


async def answer(endpoint: Endpoint, call: Call) -> web.Response:
    """Run the endpoint; a write is answered once it is effective, with its Revision in the body and the header."""
    return await replied(call, await endpoint(call))


async def replied(call: Exchange, outcome: dict[str, object] | Written) -> web.Response:
    """What an endpoint returned, as an answer."""
    if isinstance(outcome, dict):
        return json_reply(outcome)
    revision, applied = await call.effective(outcome)
    return json_reply({"revision": revision, "applied": applied}, headers={REVISION: revision, APPLIED: applied})


async def read_as(call: Exchange, shape: type[Body]) -> Body:
    """The body as a `msgspec.Struct`; `InvalidInput` names the member that is wrong."""
    body = await call.json_bytes()
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as fault:
        raise _named(str(fault)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise InvalidInput("body", f"must be JSON: {fault}") from None


def refuse_if_any(problems: Sequence[InvalidInput]) -> None:
    """Raise all these mistakes as one."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise InvalidInput("body", "; ".join(str(problem) for problem in problems))


def _named(text: str) -> InvalidInput:
    match = _AT_PATH.match(text)
    problem, path = (match[1], match[2]) if match else (text, None)
    field = _FIELD.search(problem)
    name = ".".join(part for part in (path, field[1] if field else None) if part)
    return InvalidInput(name or "body", problem[:1].lower() + problem[1:])
