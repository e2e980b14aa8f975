"""The messages of a client on its WebSocket, and their answers: one table. docs/websocket.md has them for clients.

Bytes in, an answer out; the connection itself is `websocket`'s. A message is read in two steps, so that an answer about a
mistake still repeats the id. The first message with a Token comes before all of these (`first_token`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import orjson
from aiohttp import WSMsgType, web

from gate.core import token
from gate.core.limits import EACH_CLIENT, limit_names
from gate.errors import GateError, InvalidInput, TokenRefused
from gate.http.bodies import MAX_JSON_PARTS
from gate.http.client import endpoint
from gate.http.client.endpoint import MessageContext
from gate.http.client.renewal import Renewal
from gate.http.client.watcher import MAX_WATCHED_USERS, Push, Watcher
from gate.http.context import Deps
from gate.http.errors import CredentialsWrong, client_problem
from gate.http.fields import Seconds, UntilMs, expiry_mistakes, expiry_ms, up_to
from gate.http.requests import Body, Shape, named_mistake, shape_of
from gate.http.v1.presence import seen_presences
from gate.presence.local_gateway import LocalSession

# A thousand of the longest ids, each byte escaped, fit in a question about Presence.
MAX_MESSAGE_BYTES = 128 * 1024
# Of the client's own mark of a message, which the answer repeats.
MAX_MESSAGE_ID_CHARS = 128
# The first message, and WebSocket pings and pongs before it.
MAX_FRAMES_BEFORE_TOKEN = 10
_FIRST = 'the first message must be {"type": "token", "token": TOKEN}'

Answer = dict[str, Any]


class _Message(Body, frozen=True, tag_field="type"):
    """Any message."""


class Ping(_Message, frozen=True, tag="ping"):
    """Is the server there?"""


class Active(_Message, frozen=True, tag="active"):
    """The User is at the device."""


class Logout(_Message, frozen=True, tag="logout"):
    """The User leaves for good, and is not only out of reach: webhooks tell these two apart."""


class Presence(_Message, frozen=True, tag="presence"):
    """Who of these is online?"""

    users: Annotated[list[bytes], up_to(endpoint.MAX_CLIENT_PRESENCE_USERS)]


class Blacklist(_Message, frozen=True, tag="blacklist"):
    """Is this User on my Blacklist; or who is?"""

    user: bytes | None = None
    count: int = endpoint.MAX_OWN_LIST_PAGE
    cursor: str | None = None

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """The length of a page, if it is a page that is asked for."""
        if self.user is None and not 1 <= self.count <= endpoint.MAX_OWN_LIST_PAGE:
            yield InvalidInput(
                "count", f"must be a whole number from 1 to {endpoint.MAX_OWN_LIST_PAGE}, {self.count} was sent"
            )


class Watch(_Message, frozen=True, tag="watch"):
    """Who of these is online, now and whenever that changes?"""

    users: Annotated[list[bytes], up_to(MAX_WATCHED_USERS)]


class Unwatch(_Message, frozen=True, tag="unwatch"):
    """Send no more changes of these, or of any."""

    users: Annotated[list[bytes], up_to(MAX_WATCHED_USERS)] | None = None


class Token(_Message, frozen=True, tag="token"):
    """A newer Token of the same User."""

    token: str


class Block(_Message, frozen=True, tag="block"):
    """Put these on my Blacklist."""

    users: Annotated[list[bytes], up_to(endpoint.MAX_OWN_LIST_USERS)]
    until: UntilMs | None = None
    seconds: Seconds | None = None

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """An expiry that is given twice."""
        return expiry_mistakes(self.until, self.seconds)


class Unblock(_Message, frozen=True, tag="unblock"):
    """Take these off it."""

    users: Annotated[list[bytes], up_to(endpoint.MAX_OWN_LIST_USERS)]


async def first_token(socket: web.WebSocketResponse) -> str:
    """The Token of the first message. `InvalidInput` and `CredentialsWrong` for another one, `EOFError` if the client left."""
    return _token_of(await _first_message(socket))


async def _first_message(socket: web.WebSocketResponse) -> str:
    for _ in range(MAX_FRAMES_BEFORE_TOKEN):
        frame = await socket.receive()
        if frame.type is WSMsgType.TEXT:
            return str(frame.data)
        if frame.type is WSMsgType.PING:
            await socket.pong(frame.data)
        elif frame.type is not WSMsgType.PONG:
            break
    if socket.closed:
        raise EOFError
    raise CredentialsWrong(_FIRST, "missing")


def _token_of(text: str) -> str:
    try:
        sent = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        raise InvalidInput("message", f"must be JSON: {fault}") from None
    shown = sent.get("token") if isinstance(sent, dict) and sent.get("type") == "token" else None
    if not isinstance(shown, str):
        raise CredentialsWrong(_FIRST, "missing")
    return shown


@dataclass(slots=True)
class Conversation:
    """What one connection keeps between its messages.

    `watcher` and `renewal` are made for the first message that needs one: most of ten thousand connections never do.
    """

    deps: Deps
    session: LocalSession
    push: Push
    _watcher: Watcher | None = None
    _renewal: Renewal | None = None

    @property
    def watcher(self) -> Watcher:
        """The Users that the client watches."""
        if self._watcher is None:
            self._watcher = Watcher(self.deps, self.session, self.push)
        return self._watcher

    @property
    def renewal(self) -> Renewal:
        """The client's Token, and the report of its end."""
        if self._renewal is None:
            self._renewal = Renewal(self.deps, self.session, self.push)
        return self._renewal

    def close(self) -> None:
        """The connection ended."""
        if self._watcher is not None:
            self._watcher.close()
        if self._renewal is not None:
            self._renewal.close()


@dataclass(slots=True)
class _Asking(MessageContext):
    """A message of a connection."""

    conversation: Conversation


async def answer(conversation: Conversation, text: str) -> tuple[str, bytes]:
    """The answer to one message: its type, and all of it as JSON. Mistakes and what is unavailable are answers too."""
    sent: dict[str, Any] = {}
    try:
        sent = _object(text)
        body = await _answered(conversation, sent)
    except GateError as fault:
        body = _problem(fault)
    mark = sent.get("id")
    return body["type"], msgspec.json.encode(body if mark is None else {**body, "id": mark})


async def _answered(conversation: Conversation, sent: dict[str, Any]) -> Answer:
    deps, session = conversation.deps, conversation.session
    app_key = session.app.key
    shape, message = _decoded(sent)
    if sent["type"] == "ping":
        return {"type": "pong"}
    if sent["type"] == "logout":
        session.end("logout")  # interrupts the connection once this is answered
        return {"type": "logout"}
    if sent["type"] == "token":
        return _renewed(conversation, str(sent["token"]))
    # Not by a ping or a newer Token, which the app sends without its User.
    session.is_active = True
    if sent["type"] == "active":
        return {"type": "active"}
    now_ms = deps.now_ms()
    with deps.replica as snapshot:
        app = snapshot.app(app_key)
        if app is None:
            raise TokenRefused("app-unknown", "the App was removed")
        facts = app.app
        # The Session may outlive its Token, where the App says so; what the Token stood for does not.
        # Looked up for each message, since facts change while the connection lasts.
        token.check_standing(facts, session.generation, session.expires_at_ms, now_ms)
        token.check_user(session.minted_at_ms, app.user(session.user), now_ms)
    answers, limits = _TABLE[shape.declared]
    # Before the message is checked: wrong ones cost as much.
    deps.limiter.spend(facts, limits, session.user)
    # Each User that is asked about counts as well; past the most that one message may name, it is refused anyway.
    if shape.declared in (Presence, Watch):
        deps.limiter.spend_asked(facts, session.user, min(len(sent["users"]), endpoint.MAX_CLIENT_PRESENCE_USERS))
    asking = _Asking(deps, facts, now_ms, session.user, conversation)
    outcome = await answers(asking, shape.checked(message, now_ms))
    return {"type": sent["type"], **outcome}


def _renewed(conversation: Conversation, shown: str) -> Answer:
    deps, session = conversation.deps, conversation.session
    with deps.replica as snapshot:
        app = snapshot.app(session.app.key)
        # Before the Token is verified: a client that tries many pays for each.
        if app is not None:
            deps.limiter.spend(app.app, _ON_CONNECT, session.user)
    return {"type": "token", "expires": conversation.renewal.renew(shown)}


async def _watch(asking: _Asking, message: Watch) -> Answer:
    return {"presence": await asking.conversation.watcher.watch(message.users)}


async def _unwatch(asking: _Asking, message: Unwatch) -> Answer:
    return {"watching": asking.conversation.watcher.unwatch(message.users)}


async def _presence(asking: MessageContext, message: Presence) -> Answer:
    return msgspec.structs.asdict(await seen_presences(asking, message.users, asking.user))


async def _blacklist(asking: MessageContext, message: Blacklist) -> Answer:
    if message.user is not None:
        return msgspec.structs.asdict(endpoint.listed(asking, message.user))
    return msgspec.structs.asdict(await endpoint.members(asking, message.count, message.cursor))


async def _block(asking: MessageContext, message: Block) -> Answer:
    until_ms = expiry_ms(message.until, message.seconds, asking.now_ms)
    return (await asking.effective(await endpoint.block(asking, message.users, until_ms))).fields


async def _unblock(asking: MessageContext, message: Unblock) -> Answer:
    return (await asking.effective(await endpoint.unblock(asking, message.users))).fields


_ON_LISTS = (*limit_names("/client/v1/blacklist"), EACH_CLIENT)
_ON_CONNECT = (*limit_names("/client/v1/connect"), EACH_CLIENT)
_ON_PRESENCE = (*limit_names("/client/v1/presence"), EACH_CLIENT)
# What answers a message, and the App's limits that it counts against: those of the call over HTTP.
_TABLE: dict[type[Body], tuple[Callable[[Any, Any], Awaitable[Answer]], tuple[str, ...]]] = {
    Presence: (_presence, _ON_PRESENCE),
    Watch: (_watch, _ON_PRESENCE),
    Unwatch: (_unwatch, (EACH_CLIENT,)),
    Blacklist: (_blacklist, _ON_LISTS),
    Block: (_block, _ON_LISTS),
    Unblock: (_unblock, _ON_LISTS),
}

TYPES: dict[str, type[Body]] = {
    "ping": Ping,
    "active": Active,
    "logout": Logout,
    "token": Token,
    "presence": Presence,
    "watch": Watch,
    "unwatch": Unwatch,
    "blacklist": Blacklist,
    "block": Block,
    "unblock": Unblock,
}


def _object(text: str) -> dict[str, Any]:
    # Each part becomes a Python object, far larger than its text. A short text can't have so many.
    if len(text) > MAX_JSON_PARTS and text.count(",") + text.count("[") + text.count("{") > MAX_JSON_PARTS:
        raise InvalidInput("message", f"must hold at most {MAX_JSON_PARTS} commas and opening brackets")
    try:
        sent = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        raise InvalidInput("message", f"must be JSON: {fault}") from None
    if not isinstance(sent, dict):
        raise InvalidInput("message", f"must be a JSON object, got {type(sent).__name__}")
    mark = sent.get("id")
    if (
        # A bool is an int to Python.
        isinstance(mark, bool)
        or not isinstance(mark, str | int | float | None)
        or len(str(mark)) > MAX_MESSAGE_ID_CHARS
    ):
        # Or the answer would repeat it, however long it is.
        del sent["id"]
        raise InvalidInput("id", f"must be a number, or a string of at most {MAX_MESSAGE_ID_CHARS} characters")
    return sent


def _decoded(sent: dict[str, Any]) -> tuple[Shape[Any], msgspec.Struct]:
    kind = sent.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise InvalidInput("type", f"must be one of {', '.join(TYPES)}, got {str(kind)[:40]!r}")
    shape: Shape[Any] = shape_of(TYPES[kind])
    try:
        # Without the id, which every message may have and none declares.
        return shape, msgspec.convert({name: value for name, value in sent.items() if name != "id"}, shape.loose)
    except msgspec.ValidationError as fault:
        raise named_mistake(fault) from None


def _problem(fault: GateError) -> Answer:
    problem = client_problem(fault, "")
    body: Answer = {"type": "error", **problem.body}
    if "Retry-After" in problem.headers:
        body["retry_after_s"] = int(problem.headers["Retry-After"])
    return body
