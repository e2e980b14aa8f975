"""The audit of an App and of the deployment: filtered pages, the latest entry first, and the same as a file.

A file is streamed in batches, each a turn of the loop of its own. If Redis becomes unreachable meanwhile, the connection is
cut, so that a part is not taken for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

from aiohttp import web

from gate.console import PREFIX
from gate.console.audit_filter import AuditFilter, audit_filter
from gate.console.audit_text import (
    CSV_COLUMNS,
    EntryShown,
    csv_cells,
    csv_line,
    ndjson,
    shown_deployment_entry,
    shown_entry,
)
from gate.console.id_format import query_of
from gate.console.labels import AUDIT_KINDS, DEPLOYMENT_KINDS
from gate.console.languages import N_
from gate.console.pages import NOT_KEPT, SEAL, page
from gate.console.request_context import ConsoleContext
from gate.errors import InvalidInput, StoreUnavailable, Unavailable
from gate.store.audit import AuditEntry, DeploymentEntry

PAGE_ROWS = 50
FORMATS = {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
MAX_EXPORTS = 4
"""Under way at the same time in one process: each takes turns of the loop from checks and pages."""
WRITE_S = 30.0
"""For one write. A client that reads nothing for so long is cut off, and makes room."""
_under_way = asyncio.Semaphore(MAX_EXPORTS)
_searching = asyncio.Lock()
"""For filtered pages: each decodes up to 10,000 entries, and those of many at once would hold up every check."""

E = TypeVar("E", AuditEntry, DeploymentEntry)


async def show(context: ConsoleContext) -> web.Response:
    """A page of the App's audit."""
    wanted, audit = audit_filter(context, context.query(), AUDIT_KINDS), context.deps.store.audit

    async def read(cursor: str | None) -> tuple[list[EntryShown], str | None]:
        entries, following = await audit.matching(
            context.app_key, PAGE_ROWS, wanted.matches, user=wanted.user.raw, from_ms=wanted.from_ms, to_ms=wanted.to_ms,
            cursor=cursor,
        )  # fmt: skip
        return [shown_entry(entry, context.language) for entry in entries], following

    return await _page(context, wanted, f"{PREFIX}{context.app_key}/audit", AUDIT_KINDS, read, title=N_("Audit"))


async def show_deployment(context: ConsoleContext) -> web.Response:
    """A page of the deployment's audit."""
    wanted, audit = audit_filter(context, context.query(), DEPLOYMENT_KINDS), context.deps.store.audit

    async def read(cursor: str | None) -> tuple[list[EntryShown], str | None]:
        entries, following = await audit.deployment_matching(
            PAGE_ROWS, wanted.matches_deployment, from_ms=wanted.from_ms, to_ms=wanted.to_ms, cursor=cursor
        )
        return [shown_deployment_entry(entry, context.language) for entry in entries], following

    title = N_("Audit of the deployment")
    return await _page(context, wanted, f"{PREFIX}audit", DEPLOYMENT_KINDS, read, title=title)


async def export(context: ConsoleContext) -> web.StreamResponse:
    """`?format=csv` (the default) or `ndjson`, and a filter: all entries of the App's audit that it shows."""
    wanted = _checked(audit_filter(context, context.query(), AUDIT_KINDS))
    batches = context.deps.store.audit.batches(
        context.app_key, user=wanted.user.raw, from_ms=wanted.from_ms, to_ms=wanted.to_ms
    )
    return await _file(context, f"gate-audit-{context.app_key}", batches, wanted.matches)


async def export_deployment(context: ConsoleContext) -> web.StreamResponse:
    """The same of the deployment's audit."""
    wanted = _checked(audit_filter(context, context.query(), DEPLOYMENT_KINDS))
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
    if _under_way.locked():
        raise Unavailable(f"{MAX_EXPORTS} files are being made in this process: try again when one is done")
    async with _under_way:
        return await _streamed(context, form, name, batches, matches)


async def _streamed(
    context: ConsoleContext, form: str, name: str, batches: AsyncIterator[list[E]], matches: Callable[[E], bool]
) -> web.StreamResponse:
    line = ndjson if form == "ndjson" else _csv_line
    first: list[E] = await anext(batches, [])  # before the answer begins: Redis away is a page that says so
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
