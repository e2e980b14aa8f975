"""`/client/v1/connect`: one client's WebSocket, from the handshake to the close frame. docs/websocket.md has it for clients.

    handshake   the Token is verified on this node's Replica, the Session opened in Redis; only then is the connection upgraded,
                so a refusal is an ordinary answer, and a client that reads `welcome` is online. Before a first message with the
                Token the connection is upgraded, and a refusal is a `closing` message
    open        messages are answered one by one (`messages`); each client is pinged once in `ping_every_s` (`pushing`)
    closing     `end` interrupts the connection at any point: it sends the reason, and closes with that reason's code

A client shows its Token in one of four ways:

    Authorization: Bearer TOKEN                            apps that can set a header
    Sec-WebSocket-Protocol: gate, gate.token.TOKEN         browsers; the server answers `gate`, as RFC 6455 asks
    Sec-WebSocket-Protocol: gate                           the Token comes in the first message, {"type": "token", "token": …}
    ?token=TOKEN                                           older clients; a proxy may log it

A connection without a Token costs memory and a file, and nothing is known of its client. So it may send one message, and
`room.Unauthenticated` bounds its time and the number of such connections.

One task a connection does all of its writing. Whatever a peer does, costs its own connection only: what it sends is bounded in
size and rate, and one that does not read is cut off.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Annotated, NamedTuple

import msgspec
from aiohttp import HttpVersion11, WSMsgType, web
from msgspec import UNSET, Meta

from gate.clock import monotonic_ms
from gate.core.limits import EACH_CLIENT, limit_names
from gate.core.presence import CloseReason, Verified, parse_platform
from gate.errors import GateError, InvalidInput, Unavailable
from gate.http.auth import bearer, called_by, watched
from gate.http.client import closing, messages
from gate.http.client.notices import Welcome
from gate.http.context import WHO, Deps, query_of
from gate.http.errors import UpgradeRequired
from gate.http.fields import PlatformName, json_id
from gate.http.forms import Query
from gate.http.room import MAX_UNAUTHENTICATED
from gate.metrics import WEBSOCKET_MESSAGES, WEBSOCKETS, WEBSOCKETS_CLOSED
from gate.presence.local_gateway import LocalGateway, LocalSession
from gate.replica.authorization import authorize_connect

PATH = "/client/v1/connect"
DEFAULT_PLATFORM = b"Websocket"
SUBPROTOCOL = "gate"
TOKEN_SUBPROTOCOL = "gate.token."
# Of all frames of a client: a person's app sends a few; a script that hammers should use the server's API.
MAX_MESSAGES_A_SECOND = 50
# By then the client must have taken enough of what it was sent for more to fit.
SEND_WITHIN_S = 10.0
# Of the WebSockets that this process may hold, one in so many may be without a Token.
UNAUTHENTICATED_SHARE = 10
_LIMITS = (*limit_names(PATH), EACH_CLIENT)


class ConnectQuery(Query, frozen=True):
    """What a client says of itself, next to its Token. For the document: `_asked` reads it, and the Token that may be there."""

    platform: (
        Annotated[PlatformName, Meta(description=f"The kind of device; by default `{DEFAULT_PLATFORM.decode()}`.")]
        | None
    ) = None


class Asked(NamedTuple):
    """What a handshake shows. The Token is None if it comes in the first message."""

    token: str | None
    platform: str


async def connect(request: web.Request, deps: Deps) -> web.StreamResponse:
    """Serve one client until it disconnects."""
    # Compression would cost each connection more memory than all the rest of it. The library refuses the size itself too.
    socket = web.WebSocketResponse(
        timeout=closing.CLOSE_WITHIN_S,
        autoping=False,
        compress=False,
        max_msg_size=messages.MAX_MESSAGE_BYTES + 1,
        protocols=(SUBPROTOCOL,),
    )
    try:
        # The library looks at neither method nor version.
        is_handshake = request.method == "GET" and request.version >= HttpVersion11 and socket.can_prepare(request).ok
    except ValueError:  # its key is not even ASCII
        is_handshake = False
    if not is_handshake:
        raise UpgradeRequired("this is where WebSockets connect: send a WebSocket handshake (RFC 6455, version 13)")
    with watched(request, deps, "websocket"):
        asked = _asked(request)
    _gateway(deps)
    if asked.token is None:
        await _with_first_message(request, deps, socket, asked.platform)
        return socket
    client = await _opened(request, deps, socket, asked.token, asked.platform)
    try:
        await socket.prepare(request)
        await client.converse(request.transport)
    except ConnectionError:
        client.left = "lost"
    finally:
        client.close()
    return socket


async def _with_first_message(request: web.Request, deps: Deps, socket: web.WebSocketResponse, platform: str) -> None:
    """Open the connection first, then the Session, by the Token of the first message."""
    most = min(MAX_UNAUTHENTICATED, deps.options.max_websockets // UNAUTHENTICATED_SHARE)
    client = None
    try:
        try:
            async with deps.unauthenticated.admitted(deps.address_of(request), most):
                await socket.prepare(request)
                with watched(request, deps, "websocket"):
                    shown = await messages.first_token(socket)
            client = await _opened(request, deps, socket, shown, platform)
        except (GateError, TimeoutError) as fault:
            if not socket.prepared:
                raise
            with deps.unauthenticated.leaving(deps.address_of(request)) as may_linger:
                await closing.refuse(request, socket, fault, waits=may_linger)
            return
        await client.converse(request.transport)
    except EOFError:
        return
    except ConnectionError:
        if client is not None:
            client.left = "lost"
    finally:
        if client is not None:
            client.close()


async def _opened(request: web.Request, deps: Deps, socket: web.WebSocketResponse, shown: str, platform: str) -> Client:
    """The client of a Token, with a Session. Raises what refuses it."""
    stale_ms = deps.replica.stale_ms()
    try:
        with watched(request, deps, "websocket"), deps.replica as snapshot:
            by = authorize_connect(snapshot, shown, deps.now_ms())
    except GateError:
        deps.refuse_stale_ms(stale_ms)  # facts that are too old do not refuse a Token either
        raise
    deps.refuse_stale_ms(stale_ms, by.app)
    # The access log names the App only, not its User.
    request[WHO] = {"app": by.app.key}
    called_by(request, deps, "user", by.user.decode("utf-8", "backslashreplace"))
    deps.limiter.spend(by.app, _LIMITS, by.user)
    # Once more: while a first message was awaited, others may have taken the last place.
    gateway = _gateway(deps)
    client = Client(deps, gateway, socket, by)
    # `end` may be called before this returns: a kick may overtake the answer.
    client.session = await gateway.open(by, platform, deps.address_of(request), client.end)
    WEBSOCKETS.inc()
    return client


def _asked(request: web.Request) -> Asked:
    """Token and platform. Raises `InvalidInput`, and `CredentialsWrong` if no Token is shown and none is announced."""
    query, fields = query_of(request.raw_path), request.headers.getall("Sec-WebSocket-Protocol", ())
    offered = [one.strip() for field in fields for one in field.split(",")]
    named, in_query = parse_platform(query.one("platform") or DEFAULT_PLATFORM), query.one("token")
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


def _gateway(deps: Deps) -> LocalGateway:
    gateway = deps.gateway
    if gateway is None:
        raise Unavailable("this node takes no WebSockets")
    if gateway.is_draining:
        raise Unavailable("this node is shutting down: connect through another one")
    if len(gateway) + deps.unauthenticated.many >= deps.options.max_websockets:
        most = deps.options.max_websockets
        raise Unavailable(f"this node holds {most} WebSockets, as many as its limit of open files lets it")
    return gateway


class Client:
    """One connection. Each frame that arrives sets `is_heard`; `ping` clears it."""

    __slots__ = (
        "_conversation",
        "_counted",
        "_deps",
        "_ended",
        "_gateway",
        "_second",
        "_socket",
        "_task",
        "_transport",
        "_unsent_since_ms",
        "by",
        "is_heard",
        "is_pinged",
        "left",
        "session",
    )

    session: LocalSession

    def __init__(self, deps: Deps, gateway: LocalGateway, socket: web.WebSocketResponse, by: Verified) -> None:
        self.by = by
        self.left: CloseReason = "closed"
        """Why the client itself left, for the feed."""
        self.is_heard = True
        self.is_pinged = False
        self._deps = deps
        self._gateway = gateway
        self._socket = socket
        self._conversation: messages.Conversation | None = None
        self._task: asyncio.Task[object] | None = None
        self._transport: asyncio.Transport | None = None
        self._ended: CloseReason | None = None
        self._second = 0
        self._counted = 0
        self._unsent_since_ms = 0

    def close(self) -> None:
        """The connection ended: close the Session."""
        why = self._ended or self.left
        if self._conversation is not None:
            self._conversation.close()
        self._gateway.close(self.by.app.key, self.session, why)
        WEBSOCKETS.dec()
        WEBSOCKETS_CLOSED.labels(why).inc()
        if self._transport is not None and self._unsent_bytes():
            self._transport.abort()  # else it would stay open until all of that was read, which may be never

    def end(self, why: CloseReason) -> None:
        """Disconnect the client. Interrupts the connection at any point."""
        if self._ended is None:
            self._ended = why
            if self._task is not None:
                self._task.cancel()

    async def ping(self) -> float | None:
        """A turn: send a ping, or disconnect a client that sent nothing since the last. Seconds to the next, None once gone."""
        if self._task is None or self._ended is not None:
            return None
        if self.is_pinged and not self.is_heard:
            self.session.end("silent")
            return None
        self.is_heard, self.is_pinged = False, True
        # One that does not read can't be asked, hence will be silent.
        if not self._unsent_bytes():
            try:
                await self._socket.ping()
            except ConnectionError:
                return None  # its own task notices as well
        # From now on, not from when it was due: each has its whole time for an answer.
        return self._deps.options.ping_every_s

    async def push(self, said: bytes) -> bool:
        """Send a message that is no answer, without waiting. False if the client has not taken what it was sent before."""
        if self._task is None or self._ended is not None:
            return True  # it is sent nothing any more
        if self._unsent_bytes():
            now_ms = monotonic_ms()
            # Since the first message that found bytes unsent; one that finds none ends it.
            self._unsent_since_ms = self._unsent_since_ms or now_ms
            if now_ms - self._unsent_since_ms > SEND_WITHIN_S * 1_000:
                self._cut_off()
            return False
        self._unsent_since_ms = 0
        with suppress(ConnectionError):  # its own task notices as well
            await self._socket.send_frame(said, WSMsgType.TEXT)
        return True

    async def converse(self, transport: asyncio.Transport | None) -> None:
        """Answer messages until either side ends the connection."""
        self._task, self._transport = asyncio.current_task(), transport
        conversation = self._conversation = messages.Conversation(self._deps, self.session, self.push)
        try:
            if self._ended is None:
                ping_every_s, by = self._deps.options.ping_every_s, self.by
                # At random: clients that came in one storm would be pinged in one moment, for ever.
                self._deps.pinging.add(self.ping, ping_every_s * random.random())
                welcome = Welcome(
                    session=self.session.id,
                    user=json_id(by.user),
                    platform=self.session.platform,
                    ping_ms=int(ping_every_s * 1_000),
                    token_expires=by.expires_at_ms or UNSET,
                )
                await self._say(msgspec.json.encode(welcome))
                if self._socket.ws_protocol:  # clients from before the subprotocol expect no such message
                    conversation.renewal.begin()
                await self._answer_all(conversation)
        except asyncio.CancelledError:
            if self._ended is None or self._task is None:
                raise
            # It was `end`: the task goes on, to say why.
            self._task.uncancel()
        except TimeoutError:
            self._cut_off()
        self._task = None  # nothing to interrupt any more
        if self._ended is not None:
            await self._close_for(self._ended)

    # Speaking

    async def _answer_all(self, conversation: messages.Conversation) -> None:
        socket = self._socket
        while True:
            frame = await socket.receive()
            self.is_heard = True
            if frame.type in _GONE:
                self.left = "closed" if frame.type is not WSMsgType.ERROR else "lost"
                return
            if self._is_flooding():
                self._ended = "flooding"
                return
            if frame.type is WSMsgType.TEXT:
                kind, answered = await messages.answer(conversation, frame.data)
                WEBSOCKET_MESSAGES.labels(kind).inc()
                await self._say(answered)
            elif frame.type is WSMsgType.PING:
                async with asyncio.timeout(SEND_WITHIN_S):
                    await socket.pong(frame.data)
            elif frame.type is WSMsgType.BINARY:
                self._ended = "unsupported"
                return

    async def _say(self, said: bytes) -> None:
        async with asyncio.timeout(SEND_WITHIN_S):
            await self._socket.send_frame(said, WSMsgType.TEXT)

    async def _close_for(self, why: CloseReason) -> None:
        if not self._socket.closed:
            try:
                await closing.end(self._socket, self._deps, self.by, why, self._gateway.disconnected_together)
            except TimeoutError:
                self._cut_off()

    # Bounds

    def _is_flooding(self) -> bool:
        # A counter that begins again each second, in place of a bucket: one number a connection.
        second = monotonic_ms() // 1_000
        if second != self._second:
            self._second, self._counted = second, 0
        self._counted += 1
        return self._counted > MAX_MESSAGES_A_SECOND

    def _unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _cut_off(self) -> None:
        self.left = "slow"
        if self._transport is not None:
            self._transport.abort()


_GONE = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})
