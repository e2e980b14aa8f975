"""Request bodies: how much of one is read, and how much of all of them at a time.

The limit of a body belongs to its endpoint and is compared with `Content-Length` before anything is read. What was read is
counted until its request is answered, against two budgets: that of the caller and that of its class of callers, so that end
users with a Token can't take what an App's own server needs. Past a budget the answer is 503. Bodies are never decompressed:
a megabyte of gzip is a gigabyte of zeros, and would be inflated before the credentials are looked at.

`Expect: 100-continue` is answered here, when the body is wanted, hence after the credentials were checked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final, Literal, NamedTuple

from aiohttp import hdrs, web

from gate.errors import GateError, InvalidInput, Unavailable

MIB = 1024 * 1024
MAX_FORM_BYTES = 256 * 1024
"""A form: a thousand ids of 64 bytes, percent-encoded, fit; official SDKs send up to 8 kB. To decode 256 KiB of escapes takes
some 20 ms, so that more would hold up others."""
MAX_JSON_BYTES = MIB
"""A JSON body under `/v1`: a thousand of the longest ids, each byte escaped as \\u00XX, fit."""
MAX_BATCH_BYTES = 16 * MIB
"""Of the four calls that take up to 10,000 Users or 1,000 operations: batch check, bulk, presence and the event stream."""
MAX_CLIENT_BYTES = 64 * 1024
"""Of an end user and of the console: a hundred of the longest ids, each byte escaped, fit."""
MAX_JSON_PARTS = 20_000
"""Commas and opening brackets in a JSON body: to decode 10 ms of the process, whatever they enclose."""
MAX_BATCH_PARTS = 100_000
"""The same of a batch: 10,000 pairs have 30,000 of them. Sixteen MiB of empty arrays would take 2.6 s and 500 MB to decode."""
BODY_DEADLINE_S = 10.0
"""The whole body must have come by then; a slow sender costs its own connection only."""

Class = Literal["app", "client", "console"]


class Payer(NamedTuple):
    """Whose budget a body counts against: a class of callers, and one of that class."""

    kind: Class
    key: tuple[str, bytes]


BUDGETS: Final[dict[Class, tuple[int, int]]] = {
    "app": (64 * MIB, 32 * MIB),
    "client": (16 * MIB, 4 * MAX_CLIENT_BYTES),
    "console": (4 * MIB, MAX_JSON_BYTES),
}
"""Bytes of bodies in flight: of all callers of a class, and of one caller. 84 MiB in the process at the most."""


class TooLong(InvalidInput):
    """A value or a body is longer than its limit (RongCloud has a code of its own for this)."""


class WrongContentType(InvalidInput):
    """The body is not declared as what this endpoint reads."""


class BodyTooLong(TooLong):
    """A body is longer than its endpoint takes."""


class BodyEncoded(GateError):
    """The body is compressed."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"send the body uncompressed: a body with the Content-Encoding {encoding[:40]!r} is not read")


class BodiesFull(Unavailable):
    """So many bytes of bodies are in flight that no more are read now; nothing was done."""


class Bodies:
    """Counts the bytes of bodies in flight. One a process."""

    def __init__(self) -> None:
        self._of_class: Counter[Class] = Counter()
        self._of_payer: Counter[Payer] = Counter()

    def refuse_past_budget(self, payer: Payer, more: int) -> None:
        """`BodiesFull` if so many bytes more are too many."""
        self.take(payer, more)
        self.give_back(payer, more)

    def take(self, payer: Payer, many: int) -> None:
        """Count bytes that were read; `BodiesFull`, and not counted, if they are too many."""
        of_all, of_one = BUDGETS[payer.kind]
        if self._of_payer[payer] + many > of_one:
            raise BodiesFull(f"requests of yours with {of_one} bytes of bodies are in flight here, which is the most")
        if self._of_class[payer.kind] + many > of_all:
            raise BodiesFull("this node reads as many bodies as it may at this moment")
        self._of_class[payer.kind] += many
        self._of_payer[payer] += many

    def give_back(self, payer: Payer, many: int) -> None:
        """Their request was answered."""
        self._of_class[payer.kind] -= many
        self._of_payer[payer] -= many
        if not self._of_payer[payer]:
            del self._of_payer[payer]


class _Held(NamedTuple):
    bodies: Bodies
    payer: Payer
    many: int


_HELD = web.RequestKey("body_held", _Held)
_CONTINUE = web.RequestKey("body_expected", bool)


def refuse_encoded(request: web.Request) -> None:
    """`BodyEncoded` for a request whose body is declared as anything but its own bytes."""
    for encoding in request.headers.getall(hdrs.CONTENT_ENCODING, ()):
        if encoding.strip().lower() not in ("", "identity"):
            raise BodyEncoded(encoding)


async def expect_continue(request: web.Request) -> None:
    """Note that the client waits for the word to go on; `read_body` gives it."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        request[_CONTINUE] = True


async def read_body(request: web.Request, bodies: Bodies, payer: Payer, most_bytes: int, content_type: str) -> bytes:
    """The whole body, within its size, the budgets and the deadline. It counts until `release_body`.

    `WrongContentType` if it is declared as something else than this type; an empty one may be declared as anything.
    """
    declared = request.content_length
    if declared is not None and declared > most_bytes:
        raise BodyTooLong("body", f"must be at most {most_bytes} bytes, {declared} were announced")
    if not request.can_read_body:
        return b""
    content = request.content
    if not content.is_eof() or content.exception() is not None or _CONTINUE in request:
        body = await _arriving_body(request, bodies, payer, most_bytes, declared or 1)
    else:
        body = content.read_nowait()  # nothing to wait for: it came with the head
        if len(body) > most_bytes:
            raise BodyTooLong("body", f"must be at most {most_bytes} bytes")
        bodies.take(payer, len(body))
        request[_HELD] = _Held(bodies, payer, len(body))
    # A request without the header is taken at its word: several clients leave it out.
    sent = request.headers.get(hdrs.CONTENT_TYPE)
    if body and sent not in (None, content_type) and request.content_type != content_type:
        raise WrongContentType("Content-Type", f"must be {content_type}, {request.content_type[:80]!r} was sent")
    return body


async def _arriving_body(request: web.Request, bodies: Bodies, payer: Payer, most_bytes: int, at_least: int) -> bytes:
    bodies.refuse_past_budget(payer, at_least)
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            if request.get(_CONTINUE):
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0  # the answer itself has not begun
            while piece := await request.content.readany():
                size += len(piece)
                if size > most_bytes:
                    raise BodyTooLong("body", f"must be at most {most_bytes} bytes")
                bodies.take(payer, len(piece))
                # After each piece: what was taken is given back also if the next piece never comes.
                request[_HELD] = _Held(bodies, payer, size)
                pieces.append(piece)
    except TimeoutError:
        raise InvalidInput("body", f"must arrive within {BODY_DEADLINE_S:g} s") from None
    except (web.RequestPayloadError, ConnectionError):
        raise InvalidInput("body", "was cut off or is not encoded as its headers say") from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def release_body(request: web.Request) -> None:
    """The request was answered, or its body is not held any more: the bytes count no longer."""
    held = request.pop(_HELD, None)
    if held is not None:
        held.bodies.give_back(held.payer, held.many)


def refuse_many_parts(body: bytes, most: int) -> None:
    """`InvalidInput` for a JSON body that would take too long to decode."""
    if len(body) > most and body.count(b",") + body.count(b"[") + body.count(b"{") > most:
        raise InvalidInput("body", f"must hold at most {most} commas and opening brackets; send smaller batches")
