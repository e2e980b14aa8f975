"""Parts of a page that stay fresh: server-sent events, each of which is a part's new HTML under the part's id.

    Page("online/live", stream(Part("now", now, 2_000), Part("hour", hour, 15_000)), renewed=True)

`console.js` opens the stream of a page with `data-live`, and puts the HTML in the place of the old. A part is sent when it has
changed. The stream is no request of a person, so it keeps no session alive: it ends with the session, and the event `end` lets
the page load itself again, which leads to the sign-in form. It also ends when the node drains; the browser then connects again.

A browser opens six connections to a host at most, so a page whose tab is hidden closes its stream.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from aiohttp import web

from gate.clock import monotonic_ms
from gate.console.pages import NOT_KEPT, SEAL, public_html
from gate.console.request_context import ConsoleContext, View
from gate.errors import GateError, StoreUnavailable, Unavailable
from gate.replica.reader import app_of

MAX_OF_OPERATOR = 8
# In one process. Each costs some reads of Redis every two seconds.
MAX_OPEN = 64
RETRY_MS = 3_000
# How long a stream may outlive its session.
VERIFIED_EVERY_MS = 5_000
# How often it is looked whether the reader is still there: one that left takes the place of another.
LOOK_MS = 1_000
# Something is sent at least so often: proxies close what is silent for a minute.
BEAT_MS = 15_000
# How long a reader may take nothing while its buffers are full.
SLOW_S = 20.0

_END = "event: end\ndata:\n\n"
_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no", **NOT_KEPT, **SEAL}


class Part(NamedTuple):
    """One part: the id of its element, what renders it, and how often."""

    id: str
    render: Callable[[ConsoleContext], Awaitable[str]]
    every_ms: int


class LiveFull(Unavailable):
    """As many streams are open as there may be; the page shows the numbers that it was loaded with."""


class _Open:
    """The streams of one process, operator by operator."""

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()

    @property
    def many(self) -> int:
        """How many there are."""
        return self._of.total()

    @contextmanager
    def admitted(self, operator: str) -> Iterator[None]:
        """Room for one, for as long as the block lasts. `LiveFull`."""
        if self._of[operator] >= MAX_OF_OPERATOR or self.many >= MAX_OPEN:
            raise LiveFull("as many pages renew themselves here as may; close some, or load the page again")
        self._of[operator] += 1
        try:
            yield
        finally:
            self._of[operator] -= 1
            if not self._of[operator]:
                del self._of[operator]


OPEN = _Open()


def stream(*parts: Part) -> View:
    """The view that answers with the stream of these parts."""

    async def show(context: ConsoleContext) -> web.StreamResponse:
        streams = context.deps.streams
        response = web.StreamResponse(headers=_HEADERS)
        with OPEN.admitted(context.operator.operator.name):
            if streams.ending.is_set():
                raise Unavailable("this node is shutting down: connect to another")
            await response.prepare(context.request)
            if context.request.method != "HEAD":
                await _Stream(context, parts, response).serve()
        return response

    return show


def ended() -> web.Response:
    """The answer to a page whose session has ended."""
    return web.Response(text=_END, headers=_HEADERS)


class _Cut(Exception):
    """The reader disconnected, or is too slow."""


class _Stream:
    """One page's stream, after the head of the response was sent."""

    def __init__(self, context: ConsoleContext, parts: tuple[Part, ...], response: web.StreamResponse) -> None:
        self._context = context
        self._response = response
        self._due_ms = dict.fromkeys(parts, 0)  # all at once: the page may have been hidden for hours
        self._sent: dict[Part, str] = {}
        self._sent_at_ms = self._verified_at_ms = monotonic_ms()

    async def serve(self) -> None:
        """Run until the reader disconnects, its session ends, or the node drains."""
        try:
            await self._send(f"retry: {RETRY_MS}\n\n")
            if not await self._followed():
                await self._send(_END)
            await self._response.write_eof()
        except (_Cut, ConnectionError):
            self._cut()
        except Exception:
            self._cut()  # the head of the response is sent, so no error status can follow
            raise

    async def _followed(self) -> bool:
        """True at the end of the node, False at the end of the session."""
        ending: asyncio.Future[Any] = asyncio.ensure_future(self._context.deps.streams.ending.wait())
        try:
            while not ending.done():
                wait_ms = max(0, min(LOOK_MS, min(self._due_ms.values()) - monotonic_ms()))
                await asyncio.wait({ending}, timeout=wait_ms / 1_000)
                if not await self._is_permitted():
                    return False
                for part, due_ms in self._due_ms.items():
                    if monotonic_ms() >= due_ms:
                        await self._renew(part)
            return True
        finally:
            ending.cancel()

    async def _renew(self, part: Part) -> None:
        self._due_ms[part] = monotonic_ms() + part.every_ms
        html = await part.render(self._context)
        if html != self._sent.get(part):
            self._sent[part] = html
            path = self._context.deps.options.public_path
            lines = public_html(html.encode("utf-8", "backslashreplace"), path).decode().splitlines()
            await self._send(f"event: {part.id}\n" + "".join(f"data: {line}\n" for line in lines) + "\n")
        elif monotonic_ms() - self._sent_at_ms >= BEAT_MS:
            await self._send(":\n\n")

    async def _is_permitted(self) -> bool:
        """Whether the session and the App are still there. Moves the request's moment. Raises `_Cut` without a reader."""
        context, transport = self._context, self._context.request.transport
        if transport is None or transport.is_closing():
            raise _Cut
        context.now_ms = context.deps.now_ms()
        if monotonic_ms() - self._verified_at_ms < VERIFIED_EVERY_MS:
            return True
        self._verified_at_ms = monotonic_ms()
        cookie = context.operator.cookie
        try:
            known = await context.session_auth.known(
                context.deps.store, cookie, context.now_ms, context.asserted, counts=False
            )
            if context.facts is not None:
                with context.deps.replica as snapshot:
                    context.facts = app_of(snapshot, context.app_key).app
        except StoreUnavailable:
            return False  # this node remembers no check of the cookie
        except GateError:
            return False  # the App was removed
        # A change of role or of Apps can change what may be seen: the page itself decides again.
        if known is None or known.operator != context.operator.operator:
            return False
        context.known = known
        return True

    async def _send(self, chunk: str) -> None:
        try:
            async with asyncio.timeout(SLOW_S):
                await self._response.write(chunk.encode())
        except TimeoutError:
            raise _Cut from None
        self._sent_at_ms = monotonic_ms()

    def _cut(self) -> None:
        transport = self._context.request.transport
        if transport is not None:
            transport.abort()
