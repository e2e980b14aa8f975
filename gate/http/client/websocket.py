"""`/client/v1/connect`: one client's WebSocket, from the handshake to the close frame. docs/websocket.md has it for clients.

    handshake   the Token is verified on this node's Replica, the Session opened in Redis; only then is the connection upgraded,
                so a refusal is an ordinary answer, and a client that reads `welcome` is online. Before a first message with the
                Token the connection is upgraded, and a refusal is a `closing` message
    open        messages are answered one by one; pings go round (`pinging`)
    closing     `end` interrupts the connection at any point: it sends the reason, and closes with that reason's code

One task a connection does all of its writing. Whatever a peer does, costs its own connection only: what it sends is bounded in
size and rate, and one that does not read is cut off.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import msgspec
from aiohttp import HttpVersion11, WSMsgType, web
from msgspec import UNSET

from gate.clock import monotonic_ms
from gate.core.closing import ENDINGS, reconnect_ms
from gate.core.limits import EACH_CLIENT, limit_names
from gate.core.model import FOREVER_MS
from gate.core.presence import CloseReason, Verified
from gate.errors import GateError, Unavailable
from gate.http.auth import called_by, watched
from gate.http.client import closing, handshake, messages
from gate.http.client.notices import Closing, Welcome
from gate.http.client.renewal import Renewal
from gate.http.client.watcher import Watcher
from gate.http.context import WHO, Deps
from gate.http.errors import UpgradeRequired
from gate.http.fields import json_id
from gate.http.pinging import PING_EVERY_S
from gate.http.room import MAX_UNAUTHENTICATED
from gate.presence.local_gateway import LocalGateway, LocalSession
from gate.replica.authorization import authorize_connect

PATH = "/client/v1/connect"
MAX_MESSAGES_A_SECOND = 50
"""Of all frames of a client: a person's app sends a few; a script that hammers should use the server's API."""
SEND_WITHIN_S = 10.0
"""By then the client must have taken enough of what it was sent for more to fit."""
BAN_SEEN_WITHIN_S, BAN_LOOK_EVERY_S = 0.05, 0.005
"""The kick may be here a moment before this Replica has the Ban, and says when it ends."""
UNAUTHENTICATED_SHARE = 10
"""Of the WebSockets that this process may hold, one in so many may be without a Token."""
_LIMITS = (*limit_names(PATH), EACH_CLIENT)


async def connect(request: web.Request, deps: Deps) -> web.StreamResponse:
    """Serve one client until it disconnects."""
    # Compression would cost each connection more memory than all the rest of it. The library refuses the size itself too.
    socket = web.WebSocketResponse(
        timeout=closing.CLOSE_WITHIN_S,
        autoping=False,
        compress=False,
        max_msg_size=messages.MAX_MESSAGE_BYTES + 1,
        protocols=(handshake.SUBPROTOCOL,),
    )
    if not _is_handshake(request, socket):
        raise UpgradeRequired("this is where WebSockets connect: send a WebSocket handshake (RFC 6455, version 13)")
    with watched(request, deps, "websocket"):
        asked = handshake.asked(request)
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
                    shown = await handshake.first_token(socket)
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
    request[WHO] = {"app": by.app.key}
    called_by(request, deps, "user", by.user.decode("utf-8", "backslashreplace"))
    deps.limiter.spend(by.app, _LIMITS, by.user)
    client = Client(deps, _gateway(deps), socket, by)
    await client.open(platform, deps.address_of(request))
    return client


def _is_handshake(request: web.Request, socket: web.WebSocketResponse) -> bool:
    if request.method != "GET" or request.version < HttpVersion11:  # neither is looked at below
        return False
    try:
        return socket.can_prepare(request).ok
    except ValueError:  # its key is not even ASCII
        return False


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
    _conversation: messages.Conversation

    def __init__(self, deps: Deps, gateway: LocalGateway, socket: web.WebSocketResponse, by: Verified) -> None:
        self.by = by
        self.left: CloseReason = "closed"
        """Why the client itself left, for the feed."""
        self.is_heard = True
        self.is_pinged = False
        self._deps = deps
        self._gateway = gateway
        self._socket = socket
        self._task: asyncio.Task[object] | None = None
        self._transport: asyncio.Transport | None = None
        self._ended: CloseReason | None = None
        self._second = 0
        self._counted = 0
        self._unsent_since_ms = 0

    async def open(self, platform: str, ip: str) -> None:
        """The Session. Raises what refuses it."""
        session = self.session = await self._gateway.open(self.by, platform, ip, self.end)
        self._conversation = messages.Conversation(
            session, Watcher(self._deps, session, self.push), Renewal(self._deps, session, self.push)
        )
        self._deps.count_websocket("opened", "")

    def close(self) -> None:
        """The connection ended: close the Session."""
        why = self._ended or self.left
        self._conversation.close()
        self._gateway.close(self.by.app.key, self.session, why)
        self._deps.count_websocket("closed", why)
        if self._transport is not None and self._unsent_bytes():
            self._transport.abort()  # else it would stay open until all of that was read, which may be never

    def end(self, why: CloseReason) -> None:
        """Disconnect the client. Interrupts the connection at any point."""
        if self._ended is None:
            self._ended = why
            if self._task is not None:
                self._task.cancel()

    async def ping(self) -> bool:
        """Send a ping; disconnect a client that sent nothing since the last one. False once it is gone."""
        if self._task is None or self._ended is not None:
            return False
        if self.is_pinged and not self.is_heard:
            self.session.end("silent")
            return False
        self.is_heard, self.is_pinged = False, True
        if self._unsent_bytes():
            return True  # one that does not read can't be asked, hence will be silent
        try:
            await self._socket.ping()
        except ConnectionError:
            return False  # its own task notices as well
        return True

    async def push(self, said: bytes) -> bool:
        """Send a message that is no answer, without waiting. False if the client has not taken what it was sent before."""
        if self._task is None or self._ended is not None:
            return True  # it is sent nothing any more
        if self._unsent_bytes():
            now_ms = monotonic_ms()
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
        try:
            if self._ended is None:
                self._deps.pinging.add(self.ping)
                await self._say(self._welcome())
                if self._socket.ws_protocol:  # clients from before the subprotocol expect no such message
                    self._conversation.renewal.begin()
                await self._answer_all()
        except asyncio.CancelledError:
            if self._ended is None or self._task is None:
                raise
            self._task.uncancel()
        except TimeoutError:
            self._cut_off()
        self._task = None  # nothing to interrupt any more
        if self._ended is not None:
            await self._say_why(self._ended)

    # Speaking

    async def _answer_all(self) -> None:
        socket, conversation = self._socket, self._conversation
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
                kind, answered = await messages.answer(self._deps, conversation, frame.data)
                self._deps.count_websocket("message", kind)
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

    async def _say_why(self, why: CloseReason) -> None:
        if self._socket.closed:
            return
        ending = ENDINGS[why]
        wait_ms = reconnect_ms(self._gateway.disconnected_together, random.random()) if ending.comes_back else None
        said = Closing(
            reason=why,
            code=ending.code,
            message=ending.message,
            reconnect=ending.comes_back,
            reconnect_ms=wait_ms,
            until=await self._ban_ends() if why == "banned" else UNSET,
        )
        try:
            await closing.close_with(self._socket, said)
        except TimeoutError:
            self._cut_off()

    def _welcome(self) -> bytes:
        return msgspec.json.encode(
            Welcome(
                session=self.session.id,
                user=json_id(self.by.user),
                platform=self.session.platform,
                ping_ms=int(PING_EVERY_S * 1_000),
                token_expires=self.by.expires_at_ms or UNSET,
            )
        )

    async def _ban_ends(self) -> int | None:
        """When, by this node's facts; None for never."""
        waited_s = 0.0
        while True:
            with self._deps.replica as snapshot:
                app = snapshot.app(self.by.app.key)
                until_ms = 0 if app is None else app.user(self.by.user).banned_until_ms
            if until_ms > self._deps.now_ms() or waited_s >= BAN_SEEN_WITHIN_S:
                return until_ms if 0 < until_ms < FOREVER_MS else None
            await asyncio.sleep(BAN_LOOK_EVERY_S)
            waited_s += BAN_LOOK_EVERY_S

    # Bounds

    def _is_flooding(self) -> bool:
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
