"""One connection of the HTTP port, as aiohttp serves it, with what aiohttp leaves open.

    turns     a connection gives the parser a bounded piece in one turn of the loop, and the rest after the others had theirs:
              250 kB of one-byte chunks, or of empty WebSocket frames, are 100 ms in one piece
    heads     a request head that isn't complete in time ends the connection
    half      a client that ends its own side after its requests gets their answers, and then the end
    frames    what is read of a WebSocket in a second is bounded, whether or not it makes a message
    no HTTP   is answered in our words, and without aiohttp's version
    checks    are answered as soon as they are parsed, while nothing else of the connection is being answered (`fast_path`)

Called by `server`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import EMPTY_PAYLOAD, StreamReader, hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE

from gate.http.fast_path import FastPath
from gate.http.options import (
    BODY_TURN_BYTES,
    HALF_CLOSED_LOOK_S,
    HEAD_DEADLINE_S,
    MAX_WEBSOCKET_BYTES_A_SECOND,
    TURN_BYTES,
)
from gate.http.responses import ExactRoutes, json_response
from gate.http.routing import is_plain_target, routed

_HEAD_END = b"\r\n\r\n"
_PLAIN_CHECK = re.compile(rb"GET (/v1/check\?from=[A-Za-z0-9._~-]{1,64}&to=[A-Za-z0-9._~-]{1,64})").fullmatch
"""The beginning of a check up to its target, which has one spelling only."""
_NO_HTTP = "this is no HTTP/1.1 request that can be read: a line of it is malformed, or longer than it may be"


class Connection(web.RequestHandler):
    """From the accepted socket to its end."""

    __slots__ = (
        "_head_timer",
        "_is_half_closed",
        "_is_held",
        "_is_turn_due",
        "_on_malformed",
        "_read_bytes",
        "_read_since_s",
        "_rest",
        "_short_way",
    )

    def __init__(
        self,
        manager: web.Server,
        loop: asyncio.AbstractEventLoop,
        fast_path: FastPath | None,
        on_malformed: Callable[[], None],
        **settings: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **settings)
        self._short_way = fast_path
        self._on_malformed = on_malformed
        self._parser: Any = Parser(self._parser, self)
        self._rest = b""
        """What came and waits for its turn; reading is paused meanwhile."""
        self._is_held = False
        """Whether reading is paused for the rest's sake."""
        self._is_half_closed = False
        """Whether the client ended its side, and still gets answers."""
        self._is_turn_due = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_since_s = 0.0
        self._read_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was accepted."""
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(HEAD_DEADLINE_S, self._end_without_head)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It ended."""
        self._rest = b""
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came; or, where there are none, aiohttp goes on with those that it kept."""
        if not data:
            super().data_received(data)
        elif self._rest:
            self._rest += data
        elif self._payload_parser is not None or (len(data) > TURN_BYTES and len(data) > self._turn_bytes()):
            self._rest = data
            self._take_turn()
        else:
            self.feed(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads what aiohttp leaves at None
        """The client sends no more. True where it gets an answer yet; then the connection ends once it has them all."""
        self._is_half_closed = bool(self._rest) or self._owes_an_answer()
        if self._is_half_closed and not self._rest:
            self._end_when_idle()
        return self._is_half_closed

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP, in our words. The line itself is not quoted or logged: it may hold a Token."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of an answer was sent already")
        if status >= 500:
            self.logger.error("a request failed", exc_info=exc)
            body = {"error": "internal", "message": "an internal error; the log has it"}
        else:
            self._on_malformed()
            body = {"error": "invalid", "message": _NO_HTTP}
        response = json_response(body, status, {"Server": "gate"})
        response.force_close()
        return response

    # Turns

    def _take_turn(self) -> None:
        self._is_turn_due = False
        if self.transport is None or not self._rest:
            return
        wait_s = self._websocket_waits_s()
        if not wait_s:
            most = self._turn_bytes()
            piece, self._rest = self._rest[:most], self._rest[most:]
            self.feed(piece)
        if self._rest and self.transport is not None:
            self._pause_transport_reading()
            self._is_held = True
            # aiohttp itself wants no more for now? Then its wish to go on brings the next turn.
            if not (self._reading_paused or self._buffer_paused):
                self._next_turn(wait_s)
        elif self._is_held and not (self._reading_paused or self._buffer_paused):
            self._is_held = False
            if self._is_half_closed:
                self._end_when_idle()
            else:
                super()._resume_transport_reading()

    def _turn_bytes(self) -> int:
        """How much the parser may have in this turn: more of what is no work to it."""
        parser: Parser | None = self._parser
        return TURN_BYTES if parser is None else max(TURN_BYTES, min(parser.body_left, BODY_TURN_BYTES))

    def _next_turn(self, wait_s: float = 0.0) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            if wait_s:
                self._loop.call_later(wait_s, self._take_turn)
            else:
                self._loop.call_soon(self._take_turn)

    def _resume_transport_reading(self) -> None:
        if self._rest:
            self._next_turn()
        else:
            super()._resume_transport_reading()

    def feed(self, data: bytes) -> None:
        count = self._request_count
        parser: Parser | None = self._parser
        if parser is None or not parser.answer_again(data):
            super().data_received(data)
        if self._request_count != count:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None and data and self._is_between_requests():
            self._head_timer = self._loop.call_later(HEAD_DEADLINE_S, self._end_without_head)

    def answer_fast(self, messages: Sequence[tuple[RawRequestMessage, StreamReader]]) -> int:
        """Answer the first of these requests that can be; how many that were."""
        manager, answered = self._manager, 0
        if self._short_way is None:
            return 0
        for message, payload in messages:
            transport = self.transport
            is_free = self._waiter is not None and not self._waiter.done() and not self._messages and not self._paused
            if not is_free or payload is not EMPTY_PAYLOAD or transport is None or transport.is_closing():
                break
            reply = self._short_way.reply(message, self)
            if reply is None:
                break
            transport.write(reply)
            answered += 1
        if answered and manager is not None:
            # What aiohttp notes of a request that it served itself.
            self._request_count += answered
            manager.requests_count += answered
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return answered

    def _websocket_waits_s(self) -> float:
        """How long nothing more is read of this WebSocket; counts the next piece if that is not so."""
        if self._payload_parser is None:
            return 0.0
        now_s = self._loop.time()
        if now_s - self._read_since_s >= 1:
            self._read_since_s, self._read_bytes = now_s, 0
        if self._read_bytes >= MAX_WEBSOCKET_BYTES_A_SECOND:
            return self._read_since_s + 1 - now_s
        self._read_bytes += min(len(self._rest), TURN_BYTES)
        return 0.0

    # Half-closed

    def _owes_an_answer(self) -> bool:
        """Whether a whole request came that isn't answered; one that misses a part of its body never will be."""
        if self._upgraded or self._payload_parser is not None:
            return False
        if self._messages:
            return self._messages[-1][1].is_eof()
        if self._waiter is not None:
            return False  # for the next request
        request = self._current_request
        if request is None:
            return True  # its handler is about to begin, or its answer is being written
        # What is streaming already goes to a client that left, more likely than to one that reads on for ever.
        return request.content.is_eof() and not request.writer.output_size

    def _end_when_idle(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self._owes_an_answer():
            self._loop.call_later(HALF_CLOSED_LOOK_S, self._end_when_idle)
        else:
            self.transport.close()  # what is written is flushed first

    # Heads

    def _is_between_requests(self) -> bool:
        return self._waiter is not None and not self._messages and not self._upgraded

    def _end_without_head(self) -> None:
        self._head_timer = None
        if self._is_between_requests():
            self.force_close()


class Parser:
    """aiohttp's parser, of whose requests those are left out that were answered the short way.

    A router repeats the head of its checks, but for the ids. Of a connection's last bytes, if they were one check that came
    whole and was answered, the rest of the head is remembered with what it was parsed into. Bytes that are the same but for two
    ids without any escape need no parser: it would find the same, since it stood at the beginning of a request both times.
    """

    __slots__ = (
        "_again",
        "_connection",
        "_is_at_request",
        "_is_tried",
        "_parser",
        "body_left",
        "feed_eof",
        "message_consumed",
        "pause_reading",
        "set_upgraded",
    )

    def __init__(self, parser: Any, connection: Connection) -> None:
        self._parser = parser
        self._connection = connection
        self._is_at_request = True
        """Whether the next byte surely begins a request."""
        self._is_tried = False
        """Whether the short way has declined the bytes that the parser gets next: the application answers them."""
        self._again: tuple[RawRequestMessage, bytes] | None = None
        """The last request, and its bytes behind the target."""
        self.body_left = 0
        """Bytes to come that belong to a body, whatever they are; of a body in chunks that is not known."""
        self.feed_eof = parser.feed_eof
        self.message_consumed = parser.message_consumed
        self.pause_reading = parser.pause_reading
        self.set_upgraded = parser.set_upgraded

    def answer_again(self, data: bytes) -> bool:
        """Answer a check that repeats the last one but for its ids. False: not done, the parser has to take these bytes."""
        if self._again is None:
            return False
        message, rest = self._again
        plain = _PLAIN_CHECK(data, 0, len(data) - len(rest)) if data.endswith(rest) else None
        if plain is None:
            return False
        repeated = message._replace(path=plain[1].decode("ascii"))
        self._is_tried = not self._connection.answer_fast([(repeated, EMPTY_PAYLOAD)])
        return not self._is_tried

    def feed_data(self, data: bytes) -> tuple[Sequence[tuple[RawRequestMessage, StreamReader]], bool, bytes]:
        was_at_request, self._is_at_request, self._again = self._is_at_request, False, None
        self.body_left = max(0, self.body_left - len(data))
        messages, upgraded, tail = self._parser.feed_data(data)
        if messages and messages[-1][1] is not EMPTY_PAYLOAD:
            message, body = messages[-1]
            length = message.headers.get(hdrs.CONTENT_LENGTH)
            is_known = length is not None and not (message.chunked or message.upgrade)
            self.body_left = int(length) - body.total_bytes if is_known else 0
        came = messages
        is_tried, self._is_tried = self._is_tried, False
        while messages and messages[0][1] is EMPTY_PAYLOAD and not is_tried:
            answered = self._connection.answer_fast(messages)
            if not answered:
                break
            for _ in range(answered):
                self._parser.message_consumed()
            was_full = len(messages) >= MAX_MSG_QUEUE_SIZE
            messages = messages[answered:]
            if was_full and not messages and not upgraded:
                messages, upgraded, tail = self._parser.feed_data(b"")  # it held the rest back
        if came and not messages and not upgraded and len(came) < MAX_MSG_QUEUE_SIZE and data.endswith(_HEAD_END):
            # All were answered, so the parser holds nothing back, and a head that ended here has none behind it.
            self._is_at_request = True
            plain = _PLAIN_CHECK(data, 0, data.find(b" ", len(b"GET ")))
            if was_at_request and plain is not None and data.count(_HEAD_END) == 1:
                self._again = came[0][0], data[plain.end() :]
        for at, (message, payload) in enumerate(messages):
            # The target of a CONNECT is no path, even if it looks like one.
            if message.method == hdrs.METH_CONNECT or not is_plain_target(message.path):
                target, url = routed(message.path)
                messages[at] = message._replace(path=target, url=url), payload
        return messages, upgraded, tail


class ConnectionRunner(web.AppRunner):
    """Runs an application over `Connection`s."""

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, let requests in flight finish for up to `timeout_s`, close."""
        # aiohttp takes this time when the runner is made; the drain's own is known only now.
        self._shutdown_timeout = timeout_s
        await self.cleanup()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server  # aiohttp has no place where one could name the class of a connection
        server.request_handler = ExactRoutes(self.app, server.request_handler).answer  # type: ignore[assignment]
        return server


class _Server(web.Server):
    def __call__(self) -> Connection:
        return Connection(self, self._loop, **self._kwargs)
