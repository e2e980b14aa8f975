"""One authenticated request, and the few things that endpoints do with it: read its body, write its answer's headers.

A message on a WebSocket is an `AppContext` too, without an HTTP request of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import orjson
from aiohttp import web

from gate.core.model import AppFacts
from gate.core.revision import join_revisions
from gate.core.scopes import Caller
from gate.errors import InvalidInput, Unavailable
from gate.http.bodies import (
    MAX_BATCH_BYTES,
    MAX_BATCH_PARTS,
    MAX_CLIENT_BYTES,
    MAX_FORM_BYTES,
    MAX_JSON_BYTES,
    MAX_JSON_PARTS,
    Payer,
    read_body,
    refuse_many_parts,
)
from gate.http.dependencies import Deps
from gate.http.forms import FORM_TYPE, Form, WrongContentType
from gate.http.routing import user_in
from gate.store.acks import Applied
from gate.store.app_writes import AppWrites
from gate.store.writer import Attribution, WriteReceipt

REVISION = "X-Gate-Revision"
APPLIED = "X-Gate-Applied"
PENDING_REASON = "X-Gate-Pending-Reason"
_JSON = "application/json"


def query_of(raw_path: str) -> Form:
    """The query string. Read from the bytes as sent, so that ids may be percent-encoded bytes of any kind."""
    return Form(raw_path.partition("?")[2].encode("utf-8", "surrogateescape"))


class Effect(NamedTuple):
    """A write's Revisions, how far it got, and which durability it has not reached, in words; "" if it has."""

    revision: str
    applied: Applied
    late: str = ""

    @property
    def fields(self) -> dict[str, object]:
        """Of an answer in JSON."""
        shown: dict[str, object] = {"revision": self.revision, "applied": self.applied}
        return shown | {"pending_reason": self.late} if self.late else shown

    @property
    def headers(self) -> dict[str, str]:
        """Of any answer."""
        shown = {REVISION: self.revision, APPLIED: self.applied}
        return shown | {PENDING_REASON: self.late.encode("ascii", "backslashreplace").decode()} if self.late else shown


class Context:
    """Base class of a request: its dependencies and its time."""

    __slots__ = ()

    deps: Deps
    now_ms: int

    async def effective(self, written: WriteReceipt) -> Effect:
        """Wait until the write is effective, within bounds.

        The write is in by now: whatever goes wrong with the waiting is `pending`, never an error.
        """
        started = perf_counter()
        try:
            applied, late = await self.deps.acks.acknowledge(written, self.deps.options.ack_timeout_ms)
        except Unavailable:
            applied, late = "pending", ""
        self.deps.count_applied(applied, (perf_counter() - started) * 1_000)
        if late:
            self.deps.count_late(late)
        return Effect(join_revisions(written.revisions), applied, late)


class AppContext(Context):
    """A request of an App or of one of its Users, over HTTP or on a WebSocket."""

    __slots__ = ()

    facts: AppFacts
    """The App's settings when the request was authenticated."""

    @property
    def app_key(self) -> str:
        """The App's key."""
        return self.facts.key

    def writes(self, why: str = "", by: str = "") -> AppWrites:
        """The writes to the App's facts, for this audit reason and by this actor."""
        return AppWrites(self.deps.store, self.facts, self.now_ms, Attribution(by, why))


class RequestContext(Context):
    """An HTTP request that was authenticated."""

    __slots__ = ()

    request: web.Request

    @property
    def payer(self) -> Payer:
        """Whose budget the body counts against."""
        return Payer("console", (self.deps.address_of(self.request), b""))

    def query(self) -> Form:
        """The query string."""
        return query_of(self.request.raw_path)

    async def form(self) -> Form:
        """The body as a form; an empty body is an empty form, whatever it is declared as."""
        payer = self.payer
        most = MAX_CLIENT_BYTES if payer.kind == "console" else MAX_FORM_BYTES
        body = await read_body(self.request, self.deps.bodies, payer, most)
        if body:
            self._expect(FORM_TYPE)
        return Form(body)

    async def json_bytes(self, is_batch: bool = False) -> bytes:
        """The body, declared as JSON; that of a batch may be longer."""
        most, most_parts = (MAX_BATCH_BYTES, MAX_BATCH_PARTS) if is_batch else (MAX_JSON_BYTES, MAX_JSON_PARTS)
        payer = self.payer
        if payer.kind == "client":
            most = MAX_CLIENT_BYTES
        body = await read_body(self.request, self.deps.bodies, payer, most)
        refuse_many_parts(body, most_parts)
        if not body:
            raise InvalidInput("body", "must be a JSON object, an empty one was sent")
        self._expect(_JSON)
        return body

    async def batch(self) -> dict[str, object]:
        """The body of a batch, as a JSON object."""
        try:
            parsed = orjson.loads(await self.json_bytes(is_batch=True))
        except orjson.JSONDecodeError as fault:
            raise InvalidInput("body", f"must be JSON: {fault}") from None
        if not isinstance(parsed, dict):
            raise InvalidInput("body", f"must be a JSON object, got {type(parsed).__name__}")
        return parsed

    def _expect(self, content_type: str) -> None:
        # A request without the header is taken at its word: several clients leave it out.
        if "Content-Type" in self.request.headers and self.request.content_type != content_type:
            sent = self.request.content_type[:80]
            raise WrongContentType("Content-Type", f"must be {content_type}, {sent!r} was sent")


@dataclass(slots=True)
class AppRequest(RequestContext, AppContext):
    """An HTTP request of an App."""

    request: web.Request
    deps: Deps
    facts: AppFacts
    now_ms: int
    caller: Caller
    """Who was authenticated: the App, one of its keys, or one of its Users."""

    @property
    def payer(self) -> Payer:
        """The App."""
        return Payer("app", (self.facts.key, b""))

    def path_user(self) -> bytes:
        """The User that the path names."""
        return user_in(self.request.raw_path)


APP_REQUEST = web.RequestKey("app_request", AppRequest)
"""Put there by the middleware that authenticated an App."""
