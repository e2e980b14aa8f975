"""The audit of an App and of the deployment: filtered pages, the latest entry first, and the same as a file.

    user, user_as    entries about this User           by            entries whose actor or caller has this in its name
    what             entries of this kind              from, to      moments in UTC; `to` itself does not count

A wrong field of the filter is named next to it. A file is streamed in batches, each a turn of the loop of its own. If Redis
becomes unreachable meanwhile, the connection is cut, so that a part is not taken for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from aiohttp import web

from gate.console import PREFIX
from gate.console.audit_text import (
    CSV_COLUMNS,
    EntryShown,
    csv_cells,
    csv_line,
    ndjson,
    shown_deployment_entry,
    shown_entry,
)
from gate.console.id_format import Asked, asked, query_of
from gate.console.labels import AUDIT_KINDS, DEPLOYMENT_KINDS
from gate.console.languages import N_
from gate.console.pages import NOT_KEPT, SEAL, page
from gate.console.problems import translated
from gate.console.request_context import ConsoleContext
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput, StoreUnavailable, Unavailable
from gate.http.forms import Form
from gate.store.audit import AuditEntry, DeploymentEntry

PAGE_ROWS = 50
FORMATS = {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
# Under way at the same time in one process: each takes turns of the loop from checks and pages.
MAX_EXPORTS = 4
# For one write. A client that reads nothing for so long is cut off, and makes room.
WRITE_S = 30.0
MAX_BY_CHARS = 128
_WRONG_MOMENT = N_("must be a moment in UTC, such as 2030-01-31T18:00")
_under_way = asyncio.Semaphore(MAX_EXPORTS)
# For filtered pages: each decodes up to 10,000 entries, and those of many at once would hold up every check.
_searching = asyncio.Lock()

E = TypeVar("E", AuditEntry, DeploymentEntry)


@dataclass(frozen=True)
class AuditFilter:
    """What to show. `problems` has what is wrong with fields, by name; the filter must not be used then."""

    user: Asked
    what: str
    by: str
    moments: dict[str, str]
    """What the fields `from` and `to` held."""
    from_ms: int
    to_ms: int
    problems: dict[str, str]

    @property
    def query(self) -> str:
        """The fields that are filled in, as a query string, for the next page and for exports."""
        fields = {"what": self.what, "by": self.by, **self.moments}
        if self.user.raw is not None:
            fields |= {"user": self.user.field, "user_as": self.user.written_as}
        return query_of(**{name: value for name, value in fields.items() if value})

    def matches(self, entry: AuditEntry) -> bool:
        """Whether an entry of an App's audit is to be shown."""
        # The store has filtered by Partition only, where many Users are.
        is_of_user = self.user.raw is None or entry.user == self.user.raw
        return is_of_user and self.matches_deployment(entry)

    def matches_deployment(self, entry: AuditEntry | DeploymentEntry) -> bool:
        """The same, of the deployment's audit, which has no Users."""
        if self.what not in ("", entry.kind):
            return False
        by = self.by.casefold()
        return not by or by in entry.by.casefold() or by in entry.origin.name.casefold()


async def show(context: ConsoleContext) -> web.Response:
    """A page of the App's audit."""
    wanted, audit = _filter(context, context.query(), AUDIT_KINDS), context.deps.store.audit

    async def read(cursor: str | None) -> tuple[list[EntryShown], str | None]:
        entries, following = await audit.matching(
            context.app_key, PAGE_ROWS, wanted.matches, user=wanted.user.raw, from_ms=wanted.from_ms, to_ms=wanted.to_ms,
            cursor=cursor,
        )  # fmt: skip
        return [shown_entry(entry, context.language) for entry in entries], following

    return await _page(context, wanted, f"{PREFIX}{context.app_key}/audit", AUDIT_KINDS, read, title=N_("Audit"))


async def show_deployment(context: ConsoleContext) -> web.Response:
    """A page of the deployment's audit."""
    wanted, audit = _filter(context, context.query(), DEPLOYMENT_KINDS), context.deps.store.audit

    async def read(cursor: str | None) -> tuple[list[EntryShown], str | None]:
        entries, following = await audit.deployment_matching(
            PAGE_ROWS, wanted.matches_deployment, from_ms=wanted.from_ms, to_ms=wanted.to_ms, cursor=cursor
        )
        return [shown_deployment_entry(entry, context.language) for entry in entries], following

    title = N_("Audit of the deployment")
    return await _page(context, wanted, f"{PREFIX}audit", DEPLOYMENT_KINDS, read, title=title)


async def export(context: ConsoleContext) -> web.StreamResponse:
    """`?format=csv` (the default) or `ndjson`, and a filter: all entries of the App's audit that it shows."""
    wanted = _checked(_filter(context, context.query(), AUDIT_KINDS))
    batches = context.deps.store.audit.batches(
        context.app_key, user=wanted.user.raw, from_ms=wanted.from_ms, to_ms=wanted.to_ms
    )
    return await _file(context, f"gate-audit-{context.app_key}", batches, wanted.matches)


async def export_deployment(context: ConsoleContext) -> web.StreamResponse:
    """The same of the deployment's audit."""
    wanted = _checked(_filter(context, context.query(), DEPLOYMENT_KINDS))
    batches = context.deps.store.audit.deployment_batches(from_ms=wanted.from_ms, to_ms=wanted.to_ms)
    return await _file(context, "gate-audit-deployment", batches, wanted.matches_deployment)


async def _page(
    context: ConsoleContext, wanted: AuditFilter, place: str, kinds: dict[str, str], read: Any, *, title: str
) -> web.Response:
    rows: Sequence[EntryShown] = ()
    following, away, status = None, "", 400 if wanted.problems else 200
    cursor = context.query().text("cursor")
    if not wanted.problems:
        try:
            # Without a filter a page is one read of 50 rows, and waits for no other.
            async with _searching if wanted.query else nullcontext():
                rows, following = await read(cursor)
        except StoreUnavailable as fault:
            away = str(fault)
    address = f"{place}?{wanted.query}" if wanted.query else place
    words = [(kind, context.gettext(text)) for kind, text in kinds.items()]
    return page(
        context,
        "audit.html",
        status,
        title=context.gettext(title),
        place=place,
        wanted=wanted,
        kinds=[("", context.gettext(N_("every action"))), *sorted(words, key=lambda one: one[1])],
        rows=rows,
        first=address if cursor else "",
        following=f"{place}?{_joined(wanted.query, query_of(cursor=following))}" if following else "",
        exports=[(name, f"{place}/export?{_joined(f'format={name}', wanted.query)}") for name in FORMATS],
        away=away,
    )


async def _file(
    context: ConsoleContext, name: str, batches: AsyncIterator[list[E]], matches: Callable[[E], bool]
) -> web.StreamResponse:
    form = context.query().text("format") or "csv"
    if form not in FORMATS:
        raise InvalidInput("format", f"must be one of {', '.join(FORMATS)}")
    # Refused, not queued: a browser that waits for minutes looks broken.
    if _under_way.locked():
        raise Unavailable(f"{MAX_EXPORTS} files are being made in this process: try again when one is done")
    async with _under_way:
        return await _streamed(context, form, name, batches, matches)


async def _streamed(
    context: ConsoleContext, form: str, name: str, batches: AsyncIterator[list[E]], matches: Callable[[E], bool]
) -> web.StreamResponse:
    line = ndjson if form == "ndjson" else _csv_line
    first: list[E] = await anext(batches, [])  # before the answer begins: Redis away is a page that says so
    # A view that streams sends the headers itself, so the seal has to be among them.
    response = web.StreamResponse(
        headers={
            **SEAL,
            **NOT_KEPT,
            "Content-Type": FORMATS[form],
            "Content-Disposition": f'attachment; filename="{name}.{form}"',
        }
    )
    await response.prepare(context.request)
    try:
        async with asyncio.timeout(WRITE_S):
            await response.write(csv_line(CSV_COLUMNS) if form == "csv" else b"")
            await response.write(b"".join(line(entry) for entry in first if matches(entry)))
        async for batch in batches:
            async with asyncio.timeout(WRITE_S):
                await response.write(b"".join(line(entry) for entry in batch if matches(entry)))
            await asyncio.sleep(0)  # a write that fits the socket's buffer does not wait
    except (StoreUnavailable, TimeoutError):
        if context.request.transport is not None:
            # Without the last chunk of the encoding, so that no client takes the file for whole.
            context.request.transport.abort()
    return response


def _csv_line(entry: AuditEntry | DeploymentEntry) -> bytes:
    return csv_line(csv_cells(entry))


def _checked(wanted: AuditFilter) -> AuditFilter:
    for name, problem in wanted.problems.items():
        raise InvalidInput(name, problem)
    return wanted


def _joined(*queries: str) -> str:
    return "&".join(query for query in queries if query)


def _filter(context: ConsoleContext, query: Form, kinds: Collection[str]) -> AuditFilter:
    """Read the fields. `kinds` are the actions that may be chosen."""
    problems: dict[str, str] = {}
    texts = {name: _text(context, query, name, problems) for name in ("what", "by", "from", "to")}
    # A kind of a newer version in an old link: all are shown, rather than none.
    if texts["what"] not in ("", *kinds):
        texts["what"] = ""
    user = asked(query, "user")
    if user.problem:
        problems["user"] = translated(user.problem, context.language)
    moments = {name: _moment_ms(context, name, texts[name], problems) for name in ("from", "to")}
    return AuditFilter(
        user,
        texts["what"],
        texts["by"][:MAX_BY_CHARS],
        {name: texts[name] for name in moments},
        moments["from"] or 0,
        FOREVER_MS if moments["to"] is None else moments["to"],
        problems,
    )


def _text(context: ConsoleContext, query: Form, name: str, problems: dict[str, str]) -> str:
    try:
        return query.text(name) or ""
    except InvalidInput:
        problems[name] = context.gettext(N_("can't be read"))
        return ""


def _moment_ms(context: ConsoleContext, name: str, text: str, problems: dict[str, str]) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.removesuffix("Z"))
        # Before 1970 there is no entry, and Redis takes no negative id.
        return max(0, int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000))
    except (ValueError, OverflowError):
        problems[name] = context.gettext(_WRONG_MOMENT)
        return None
