"""One connection of `gate connect`: from the handshake to the close, and how it ended.

The reason of a refusal is in the body of the response, which aiohttp discards; a middleware keeps it. No error and no
output of this module holds the Token: the Token is sent in a header, and of a fault only its type and the operating
system's message are shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import aiohttp
import orjson

from gate.cli.client_lines import Message, closing_text
from gate.core.closing import ENDINGS

PATH = "/client/v1/connect"
HANDSHAKE_S = 10.0
# The wait for the server's close frame.
CLOSE_S = 2.0
MAX_REFUSAL_BYTES = 65_536

# Codes of RFC 6455 for a mistake of the client: the same request would fail again.
_FAULTS = {1002: "a malformed frame was sent", 1007: "what was sent is not UTF-8", 1009: "too long a message was sent"}
_OF_CODE = {ending.code: (reason, ending) for reason, ending in ENDINGS.items()}
# Reasons that concern the service, not this User.
_OUTAGES = {"shutting-down", "silent", "lost"}
_TRY_AGAIN_LATER = {429, 500, 502, 503, 504}
_NEVER_IN_A_LOOP = "too-many-sessions"

Socket = aiohttp.ClientWebSocketResponse
Heard = Callable[[str, Message], None]
Opened = Callable[["Socket"], Coroutine[Any, Any, None]]


class Ended(NamedTuple):
    """How a connection ended, or the attempt at one.

    `document` is the JSON form, `text` the form for people. `comes_back`: the client may connect again with the same Token,
    after `wait_ms` if the server gave one. `is_outage`: the service is unavailable; otherwise it refused this User.
    """

    document: Message
    text: str
    comes_back: bool
    is_outage: bool
    wait_ms: int | None = None


class Link:
    """The server's address and the Token to connect with."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, token: str, platform: str | None, ping_s: float
    ) -> None:
        self._session = session
        self._server = url
        self._url = url + PATH
        # Not `?token=`: an address is in the logs of every proxy.
        self._headers = {"Authorization": f"Bearer {token}"}
        self._params = {} if platform is None else {"platform": platform}
        self._ping_s = ping_s

    async def hold(self, opened: Opened, heard: Heard) -> Ended:
        """Connect and stay. `opened` runs concurrently from the welcome on, with the socket; `heard` is called per message."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                # Sends pings. A server that sends nothing within half of `ping_s` after a ping counts as disconnected.
                socket = await self._session.ws_connect(
                    self._url, headers=self._headers, params=self._params, heartbeat=self._ping_s, timeout=_CLOSING
                )
        # Before aiohttp's own errors: it carries the reason.
        except _Answered as answer:
            return _refused(answer)
        except aiohttp.WSServerHandshakeError:
            return self._unreachable("what answers there speaks no WebSocket")
        except TimeoutError:
            return self._unreachable(f"no answer within {HANDSHAKE_S:g} s")
        except (aiohttp.ClientError, OSError) as fault:
            return self._unreachable(_words_of(fault))
        try:
            return await _received(socket, opened, heard)
        finally:
            # Also after a fault: the server learns at once, and the Session does not wait for a ping.
            await socket.close()

    def _unreachable(self, why: str) -> Ended:
        text = f"cannot connect to {self._server}: {why} (--http says where)"
        return Ended({"type": "unreachable", "message": why}, text, comes_back=True, is_outage=True)


_CLOSING = aiohttp.ClientWSTimeout(ws_close=CLOSE_S)


def client_session() -> aiohttp.ClientSession:
    """A session whose refused handshakes keep their reason."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=HANDSHAKE_S)
    return aiohttp.ClientSession(middlewares=(_keep_answer,), timeout=timeout)


class _Answered(Exception):
    """The handshake was answered with an HTTP response instead of an upgrade."""

    def __init__(self, status: int, body: bytes, retry_after: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.retry_after_ms = int(retry_after) * 1_000 if retry_after.isascii() and retry_after.isdigit() else None


async def _keep_answer(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    response = await handler(request)
    # The body of an upgrade is the connection itself, and must not be read.
    if response.status == 101:
        return response
    try:
        body = await response.content.read(MAX_REFUSAL_BYTES)
    finally:
        response.close()
    raise _Answered(response.status, body, response.headers.get("Retry-After", ""))


async def _received(socket: Socket, opened: Opened, heard: Heard) -> Ended:
    closing: Message = {}
    sending: asyncio.Task[None] | None = None
    try:
        async for frame in socket:
            # The server sends no binary frames; a later one may.
            if frame.type is not aiohttp.WSMsgType.TEXT:
                continue
            message = _object(frame.data)
            heard(frame.data, message)
            if message.get("type") == "closing":
                closing = message
            elif message.get("type") == "welcome" and sending is None:
                # Not before the welcome: a line sent earlier would be an unknown message to the handshake.
                sending = asyncio.create_task(opened(socket))
    finally:
        if sending is not None:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
    return _closed(socket.close_code, closing, isinstance(socket.exception(), aiohttp.ServerTimeoutError))


def _refused(answer: _Answered) -> Ended:
    body = _object(answer.body)
    word = str(body.get("error", ""))
    document: Message = {"type": "refused", "status": answer.status, **body}
    if not word:
        text = f"{answer.status} was answered, not by Gate: is this the address of its HTTP?"
        return Ended(document, text, comes_back=False, is_outage=True)
    text = f"refused: {word}: {closing_text(body)}"
    is_outage = answer.status >= 500
    comes_back = answer.status in _TRY_AGAIN_LATER and word != _NEVER_IN_A_LOOP
    return Ended(document, text, comes_back, is_outage, answer.retry_after_ms)


def _closed(code: int | None, closing: Message, was_silent: bool) -> Ended:
    reason, ending = _OF_CODE.get(code or 0, (None, None))
    # The server's last word, before the code, which says less.
    if closing:
        said = str(closing.get("reason", ""))
        wait = closing.get("reconnect_ms")
        document = {**closing, "type": "closed", "code": code}
        comes_back = closing.get("reconnect") is True
        return Ended(
            document, closing_text(closing), comes_back, said in _OUTAGES, wait if isinstance(wait, int) else None
        )
    if ending is not None:  # its last message did not arrive
        text, comes_back, is_outage = ending.message, ending.comes_back, reason in _OUTAGES
    elif code in _FAULTS:
        text, comes_back, is_outage = _FAULTS[code], False, False
    else:
        text = "the server does not answer" if was_silent else "the connection broke"
        comes_back, is_outage = True, True
    return Ended({"type": "closed", "code": code, "reason": reason, "message": text}, text, comes_back, is_outage)


def _object(text: str | bytes) -> Message:
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _words_of(fault: Exception) -> str:
    """The text of a fault. The message of an aiohttp error is never used: it may quote the request."""
    if isinstance(fault, aiohttp.ClientConnectorDNSError):
        return "no host of that name is known"
    if isinstance(fault, aiohttp.ClientResponseError):
        return "what answers there speaks no HTTP"
    system = fault if isinstance(fault, OSError) else fault.__cause__
    number = getattr(system, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(fault).__name__
