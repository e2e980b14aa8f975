"""What a client says on its WebSocket, and what it is answered: one table of messages. docs/websocket.md has them for clients.

Bytes in, an answer out; the connection itself is `websocket`'s. A message is read in two steps, so that an answer about a
mistake still repeats the id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import orjson

from gate.core import token
from gate.core.limits import EACH_CLIENT, limit_names
from gate.errors import GateError, InvalidInput, TokenRefused
from gate.http.bodies import MAX_JSON_PARTS
from gate.http.client import own_list, presence
from gate.http.client.endpoint import MessageContext
from gate.http.client.problems import client_problem
from gate.http.dependencies import Deps
from gate.http.fields import IdJson, id_bytes, ids_bytes
from gate.http.v1.endpoint import named_mistake, refuse_if_any
from gate.http.v1.presence_json import seen_presences
from gate.presence.local_sessions import LocalSession
from gate.store.writer import WriteReceipt

MAX_MESSAGE_BYTES = 128 * 1024
"""A thousand of the longest ids, each byte escaped, fit in a question about Presence."""
MAX_MESSAGE_ID_CHARS = 128

Answer = dict[str, object]


class _Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Any message."""


class Ping(_Said, frozen=True, tag="ping"):
    """Is the server there?"""


class Active(_Said, frozen=True, tag="active"):
    """The User is at the device."""


class Logout(_Said, frozen=True, tag="logout"):
    """The User leaves for good, and is not only out of reach: webhooks tell these two apart."""


class Presence(_Said, frozen=True, tag="presence"):
    """Who of these is online?"""

    users: list[IdJson]


class Blacklist(_Said, frozen=True, tag="blacklist"):
    """Is this User on my Blacklist; or who is?"""

    user: IdJson | None = None
    count: int = own_list.MAX_PAGE
    cursor: str | None = None


class Block(_Said, frozen=True, tag="block"):
    """Put these on my Blacklist."""

    users: list[IdJson]
    until: int | None = None
    seconds: int | None = None


class Unblock(_Said, frozen=True, tag="unblock"):
    """Take these off it."""

    users: list[IdJson]


async def answer(deps: Deps, app_key: str, session: LocalSession, text: str) -> bytes:
    """The answer to one message, as JSON; mistakes and whatever is away included."""
    said = {}
    try:
        said = _object(text)
        body = await _answered(deps, app_key, session, said)
    except GateError as fault:
        body = _problem(fault)
    mark = said.get("id")
    return orjson.dumps(body if mark is None else {**body, "id": mark})


def kind_of(answered: bytes) -> str:
    """The type of an answer, for counting."""
    return answered[9 : answered.index(b'"', 9)].decode()


async def _answered(deps: Deps, app_key: str, session: LocalSession, said: dict[str, Any]) -> Answer:
    message = _read(said)
    if isinstance(message, Ping):
        return {"type": "pong"}
    if isinstance(message, Logout):
        session.end("logout")  # interrupts the connection once this is answered
        return {"type": "logout"}
    session.is_active = True
    if isinstance(message, Active):
        return {"type": "active"}
    now_ms = deps.now_ms()
    with deps.replica.snapshot() as snapshot:
        app = snapshot.app(app_key)
        if app is None:
            raise TokenRefused("app-unknown", "the App was removed")
        facts = app.app
        # The Session may outlive its Token, where the App says so; what the Token stood for does not.
        token.check_standing(facts, session.generation, session.expires_at_ms, now_ms)
        token.check_user(session.minted_at_ms, app.user(session.user), now_ms)
    answers, limits = _TABLE[type(message)]
    deps.limiter.spend(facts, limits, session.user)
    asking = MessageContext(deps, facts, now_ms, session.user)
    outcome = await answers(asking, message)
    name: str = said["type"]
    if isinstance(outcome, dict):
        return {"type": name, **outcome}
    return {"type": name, **(await asking.effective(outcome)).fields}


async def _presence(asking: MessageContext, said: Presence) -> Answer:
    asking.deps.limiter.spend_asked(asking.facts, asking.user, min(len(said.users), presence.MAX_USERS))
    problems: list[InvalidInput] = []
    users = ids_bytes(said.users, "users", presence.MAX_USERS, problems)
    refuse_if_any(problems)
    return {"presence": await seen_presences(asking, users, asking.user)}


async def _blacklist(asking: MessageContext, said: Blacklist) -> Answer:
    if said.user is not None:
        return own_list.listed(asking, id_bytes(said.user, "user"))
    if not 1 <= said.count <= own_list.MAX_PAGE:
        raise InvalidInput("count", f"must be a whole number from 1 to {own_list.MAX_PAGE}, {said.count} was sent")
    return await own_list.members(asking, said.count, said.cursor)


async def _block(asking: MessageContext, said: Block) -> WriteReceipt:
    return await own_list.block(asking, said.users, said.until, said.seconds)


async def _unblock(asking: MessageContext, said: Unblock) -> WriteReceipt:
    return await own_list.unblock(asking, said.users)


_ON_LISTS = (*limit_names("/client/v1/blacklist"), EACH_CLIENT)
_ON_PRESENCE = (*limit_names("/client/v1/presence"), EACH_CLIENT)
_TABLE: dict[type[_Said], tuple[Callable[[MessageContext, Any], Awaitable[Answer | WriteReceipt]], tuple[str, ...]]] = {
    Presence: (_presence, _ON_PRESENCE),
    Blacklist: (_blacklist, _ON_LISTS),
    Block: (_block, _ON_LISTS),
    Unblock: (_unblock, _ON_LISTS),
}
"""What answers a message, and the App's limits that it counts against: those of the call over HTTP."""

_ANY = Ping | Active | Logout | Presence | Blacklist | Block | Unblock
_NAMES = ", ".join(("ping", "active", "logout", "presence", "blacklist", "block", "unblock"))


def _object(text: str) -> dict[str, Any]:
    if len(text) > MAX_JSON_PARTS and text.count(",") + text.count("[") + text.count("{") > MAX_JSON_PARTS:
        raise InvalidInput("message", f"must hold at most {MAX_JSON_PARTS} commas and opening brackets")
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        raise InvalidInput("message", f"must be JSON: {fault}") from None
    if not isinstance(said, dict):
        raise InvalidInput("message", f"must be a JSON object, got {type(said).__name__}")
    mark = said.get("id")
    if (
        isinstance(mark, bool)
        or not isinstance(mark, str | int | float | None)
        or len(str(mark)) > MAX_MESSAGE_ID_CHARS
    ):
        del said["id"]
        raise InvalidInput("id", f"must be a number, or a string of at most {MAX_MESSAGE_ID_CHARS} characters")
    return said


def _read(said: dict[str, Any]) -> _Said:
    kind = said.get("type")
    if not isinstance(kind, str) or kind not in _NAMES.split(", "):
        raise InvalidInput("type", f"must be one of {_NAMES}, got {str(kind)[:40]!r}")
    try:
        read: _Said = msgspec.convert({name: value for name, value in said.items() if name != "id"}, _ANY)
    except msgspec.ValidationError as fault:
        raise named_mistake(fault) from None
    return read


def _problem(fault: GateError) -> Answer:
    problem = client_problem(fault, "")
    body: Answer = {"type": "error", **problem.body}
    if "Retry-After" in problem.headers:
        body["retry_after_s"] = int(problem.headers["Retry-After"])
    return body
