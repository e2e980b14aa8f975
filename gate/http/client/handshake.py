"""How a client of `/client/v1/connect` shows its Token, also after the handshake.

    Authorization: Bearer TOKEN                            apps that can set a header
    Sec-WebSocket-Protocol: gate, gate.token.TOKEN         browsers; the server answers `gate`, as RFC 6455 asks
    Sec-WebSocket-Protocol: gate                           the Token comes in the first message, {"type": "token", "token": …}
    ?token=TOKEN                                           older clients; a proxy may log it

A connection without a Token costs memory and a file, and nothing is known of its client. So it may
send one message, and `room.Unauthenticated` bounds its time and the number of such connections.

Called by `websocket`.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import orjson
from aiohttp import WSMsgType, web
from msgspec import Meta

from gate.core.presence import parse_platform
from gate.errors import InvalidInput
from gate.http.client.endpoint import bearer
from gate.http.context import query_of
from gate.http.errors import CredentialsWrong
from gate.http.fields import PlatformName
from gate.http.forms import Query, fields_of

DEFAULT_PLATFORM = b"Websocket"
SUBPROTOCOL = "gate"
TOKEN_SUBPROTOCOL = "gate.token."
MAX_FRAMES_BEFORE_TOKEN = 10
"""The first message, and WebSocket pings and pongs before it."""
_FIRST = 'the first message must be {"type": "token", "token": TOKEN}'


class ConnectQuery(Query, frozen=True):
    """What a client says of itself, next to its Token."""

    platform: (
        Annotated[PlatformName, Meta(description=f"The kind of device; by default `{DEFAULT_PLATFORM.decode()}`.")]
        | None
    ) = None


class Asked(NamedTuple):
    """What a handshake shows. The Token is None if it comes in the first message."""

    token: str | None
    platform: str


def asked(request: web.Request) -> Asked:
    """Token and platform. Raises `InvalidInput`, and `CredentialsWrong` if no Token is shown and none is announced."""
    query, fields = query_of(request.raw_path), request.headers.getall("Sec-WebSocket-Protocol", ())
    offered = [one.strip() for field in fields for one in field.split(",")]
    platform = fields_of(ConnectQuery, query).platform
    named = parse_platform(DEFAULT_PLATFORM if platform is None else platform.encode())
    in_query = query.one("token")
    shown = {one.removeprefix(TOKEN_SUBPROTOCOL) for one in offered if one.startswith(TOKEN_SUBPROTOCOL)}
    if shown and SUBPROTOCOL not in offered:
        # No server may answer a subprotocol that it was not offered, and a browser fails without an answer.
        raise InvalidInput("Sec-WebSocket-Protocol", f"must offer {SUBPROTOCOL} next to {TOKEN_SUBPROTOCOL}TOKEN")
    if in_query is not None:
        shown.add(in_query.decode("latin-1"))
    # Browsers send a proxy's own password along by themselves, which is no Token.
    if request.headers.get("Authorization", "").lower().startswith("bearer "):
        shown.add(bearer(request.headers))
    if len(shown) > 1:
        raise InvalidInput("token", "differs between the query, the subprotocol and the header Authorization: send one")
    if not shown and SUBPROTOCOL in offered:
        return Asked(None, named)
    return Asked(shown.pop() if shown else bearer(request.headers), named)


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
