"""The loop of `gate connect`: connect, send the lines of stdin, print the server's messages, reconnect, leave.

Lines are sent after the welcome; while there is no connection they wait. Unanswered messages are sent again after a reconnect
(all are idempotent), but only once, in case the message itself breaks the connection.

If the server named a wait before the reconnect, that wait is used. Otherwise the wait is drawn between half a second and
twice the previous one, up to half a minute, so that not all clients reconnect at once when the service is back.

asyncio can wait for a pipe and a terminal, but not for a file or /dev/null, so a thread reads stdin. It reads the descriptor
itself, since a thread that is inside `sys.stdin` when the program ends makes Python abort. It reads at most one step ahead:
while no line is taken, further input stays in the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import orjson

from gate.cli.client_lines import Message, line_of, message_of
from gate.cli.output import print_json_line, say, shown_id, warn
from gate.errors import InvalidInput, Refused, Unavailable

if TYPE_CHECKING:
    from gate.cli.client_link import Ended, Link, Socket


FIRST_WAIT_MS = 500
LONGEST_WAIT_MS = 30_000
# More than 50 messages in a second would close the connection.
SEND_EVERY_S = 0.025

# A longer line is cut to this length, which is more than any message may have.
MAX_LINE_BYTES = 256 * 1024
_CHUNK_BYTES = 65_536

_UNASKED = ("welcome", "closing", "token-ending", "presence-changed", "watch-ended")
_QUIT = b"quit"


class _Sent(NamedTuple):
    """A message that waits for its answer."""

    text: str
    is_repeated: bool = False


class Client:
    """One run. `once`: leave when stdin has ended and all of it is answered; `for_s`: after so long."""

    def __init__(self, *, once: bool, for_s: float | None, reconnects: bool, as_json: bool) -> None:
        self._once = once
        self._leaves_when_answered = once
        self._for_s = for_s
        self._reconnects = reconnects
        self._as_json = as_json
        self._lines = StdinLines()
        self._unanswered: deque[_Sent] = deque()
        self._input_has_ended = False
        self._something_failed = False
        self._leaving = asyncio.Event()
        self._socket: Socket | None = None
        self._was_online = self._has_logged_out = False
        self._online_at_s = self._sent_at_s = 0.0

    async def stay(self, url: str, token: str, platform: str | None, ping_s: float) -> None:
        """Run until a reason to leave. Raises `Refused` or `Unavailable` unless the user left while online."""
        # Late: the help page should not pay for HTTP.
        from gate.cli.client_link import Link, client_session

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            # Not an exception: the socket is closed with a code, so the Session ends at once.
            loop.add_signal_handler(number, self._leaving.set)
        if self._for_s is not None:
            loop.call_later(self._for_s, self._leaving.set)
        self._lines.start()
        async with client_session() as session:
            holding = asyncio.create_task(self._hold(Link(session, url, token, platform, ping_s)))
            leaving = asyncio.create_task(self._leaving.wait())
            await asyncio.wait({holding, leaving}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            is_online = self._socket is not None
            if self._socket is not None:
                await self._socket.close()
            elif not holding.done():
                holding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await holding
        if not is_online and not self._has_logged_out:
            raise Unavailable("left while there was no connection")
        if self._once and self._something_failed:
            raise Refused("at least one request failed")

    async def _hold(self, link: Link) -> None:
        """Keep a connection, and reconnect. Raises the error of the last connection, except when the user left."""
        wait_ms = float(FIRST_WAIT_MS)
        while True:
            ended = await link.hold(self._opened, self._heard)
            was_steady = self._socket is not None and _now_s() - self._online_at_s > LONGEST_WAIT_MS / 1_000
            self._socket = None
            if self._leaving.is_set():
                return
            if self._as_json:
                _say_json(ended.document)
            if not (ended.comes_back and self._reconnects and self._was_online):
                raise (Unavailable if ended.is_outage else Refused)(ended.text)
            wait_ms = drawn_wait_ms(FIRST_WAIT_MS if was_steady else wait_ms, random.random())
            await self._wait(ended, advised_ms(ended, wait_ms))

    async def _wait(self, ended: Ended, wait_ms: float) -> None:
        if self._as_json:
            _say_json({"type": "reconnecting", "in_ms": int(wait_ms)})
        else:
            warn(f"gate: {ended.text}; connecting again in {wait_ms / 1_000:.1f} s")
        await asyncio.sleep(wait_ms / 1_000)

    async def _opened(self, socket: Socket) -> None:
        """Send the unanswered messages of the previous connection, then the lines of stdin."""
        self._socket, self._was_online, self._online_at_s = socket, True, _now_s()
        for sent in self._once_more():
            await self._send(socket, sent.text)
        while not self._input_has_ended:
            line = await self._lines.take()
            if line is None or line.strip() == _QUIT:
                self._input_has_ended = True
                self._leaves_when_answered |= line is not None
                break
            try:
                text = message_of(line)
            except InvalidInput as fault:
                self._something_failed = True
                warn(f"gate: {fault}")
                continue
            self._unanswered.append(_Sent(text))
            await self._send(socket, text)
        self._leave_if_all_is_answered()

    def _once_more(self) -> list[_Sent]:
        given_up = [sent for sent in self._unanswered if sent.is_repeated]
        for sent in given_up:
            self._something_failed = True
            warn(f"gate: twice without an answer, not sent again: {shown_id(sent.text[:80].encode())}")
        self._unanswered = deque(_Sent(sent.text, True) for sent in self._unanswered if not sent.is_repeated)
        return list(self._unanswered)

    async def _send(self, socket: Socket, text: str) -> None:
        # Negative is no wait.
        await asyncio.sleep(self._sent_at_s + SEND_EVERY_S - _now_s())
        self._sent_at_s = _now_s()
        with contextlib.suppress(ConnectionResetError):  # the receiving side reports how the connection ended
            await socket.send_str(text)

    def _heard(self, text: str, message: Message) -> None:
        kind = message.get("type")
        if self._as_json:
            print_json_line(text if "\n" not in text else orjson.dumps(message).decode())
        elif kind != "closing":  # its text is shown when the connection has ended
            for line in line_of(message).split("\n"):  # text of other clients is escaped already
                say(line)
        sys.stdout.flush()  # output to a pipe is buffered
        if kind == "logout":
            self._has_logged_out = True
            self._leaving.set()  # the server closes the connection next
        if kind not in _UNASKED and self._unanswered:
            self._unanswered.popleft()
            self._something_failed |= kind == "error"
            self._leave_if_all_is_answered()

    def _leave_if_all_is_answered(self) -> None:
        if self._leaves_when_answered and self._input_has_ended and not self._unanswered:
            self._leaving.set()


def drawn_wait_ms(before_ms: float, drawn: float) -> float:
    """How long to wait after a wait of `before_ms`; `drawn` is from 0 to 1."""
    return min(FIRST_WAIT_MS + (2 * before_ms - FIRST_WAIT_MS) * drawn, LONGEST_WAIT_MS)


def advised_ms(ended: Ended, drawn_ms: float) -> float:
    """The wait before a reconnect, from the server's advice.

    The wait of a `closing` is used as it is. To the wait of a refusal, which many clients got alike, `drawn_ms` is added.
    """
    if ended.wait_ms is None:
        return drawn_ms
    return ended.wait_ms + drawn_ms if ended.document["type"] == "refused" else ended.wait_ms


def _say_json(document: Message) -> None:
    print_json_line(orjson.dumps(document).decode())
    sys.stdout.flush()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


class StdinLines:
    """Lines without line ends; empty lines are left out. After the last line, each `take` returns None."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore()
        self._has_ended = False

    def start(self) -> None:
        """Start the thread; requires a running loop. The thread ends with the program."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), name="stdin", daemon=True).start()

    async def take(self) -> bytes | None:
        """The next line, when there is one."""
        if self._has_ended:
            return None
        line = await self._lines.get()
        self._room.release()
        self._has_ended = line is None
        return line

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        # The loop may have ended meanwhile. No coroutine is passed to it: Python warns about one that is never awaited.
        with contextlib.suppress(RuntimeError):
            for line in chain(_stdin(), [None]):
                # Waits for a taken line: an endless pipe is read no further than it is sent.
                self._room.acquire()
                loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _stdin() -> Iterator[bytes]:
    if sys.stdin is None:  # the parent process closed it, and its number may belong to another descriptor by now
        return
    begun = b""
    while chunk := _chunk():
        *whole, begun = (begun + chunk).split(b"\n")
        yield from (line[:MAX_LINE_BYTES] for line in whole if line.strip())
        # What is cut is dropped as it comes: a line without an end must not fill the memory.
        begun = begun[: MAX_LINE_BYTES + 1]
    if begun.strip():
        yield begun


def _chunk() -> bytes:
    try:
        return os.read(0, _CHUNK_BYTES)
    except OSError:
        return b""
