"""`gate top`: who is online, checks, denials, writes, nodes and the latest Bans and kicks, read again every second.

The figures are those of `gate status`, `gate nodes` and the metrics of the services in the data directory; rates are the
difference of two readings. Where stdout or stdin is no terminal, and with `--json`, it prints one snapshot over a second.
Exits 3 if no service runs in the data directory and no Redis answers.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gate.cli.audit import AUDIT_COLUMNS, audit_row
from gate.cli.command import Command, takes
from gate.cli.nodes import NODE_COLUMNS, node_document, node_row, reports_by_node
from gate.cli.output import counted, print_json, table_of
from gate.cli.presence_connection import open_both
from gate.cli.store_connection import run
from gate.clock import monotonic_ms, wall_ms
from gate.core.shown import shown_text
from gate.errors import AppUnknown, NotFound, StoreUnavailable, Unavailable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gate.store.node_reports import NodeReport
    from gate.store.presence import PresenceStore
    from gate.store.store import Store

EVERY_S = 1.0
# Of the audit: how many entries are read, and how many of them are shown.
LOOKED_AT, SHOWN = 100, 8
RECENT_KINDS = frozenset(("ban-imposed", "mute-imposed", "kicked", "user-deactivated"))

# By sample of the metrics page: name and labels.
Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


class Seen(NamedTuple):
    """One reading."""

    at_ms: int
    samples: Samples
    redis: str
    redis_problem: str
    redis_ms: float | None
    nodes: Mapping[str, NodeReport | None]
    app: str
    online: tuple[int, int] | None
    recent: list[Any]


class Rates(NamedTuple):
    """What two readings say of the time between them; None without a service in the data directory."""

    checks_per_s: float
    verdicts_per_s: dict[str, float]
    writes_per_s: float
    write_ack_ms: float | None
    http_per_s: float
    http_ms: float | None


@takes("app", "redis", "presence_redis")
def top(command: Command) -> None:
    """Show what happens now, every second: online, checks, denials, nodes, Bans. Ends with q or Ctrl-C."""
    is_live = not command.as_json and sys.stdout.isatty() and sys.stdin.isatty()
    run(_live(command) if is_live else _once(command))


async def _once(command: Command) -> None:
    async with AsyncExitStack() as stack:
        source = await _Source.open(command, stack)
        first = await source.read()
        await asyncio.sleep(EVERY_S)
        second = await source.read()
    if command.as_json:
        print_json(_document(first, second))
        return
    from gate.cli.output import console  # late: it needs rich

    console().print(_screen(first, second))


async def _live(command: Command) -> None:
    from rich.live import Live  # late, as above

    from gate.cli.output import console

    async with AsyncExitStack() as stack:
        source = await _Source.open(command, stack)
        left = asyncio.Event()
        before = await source.read()
        with _keys(left), Live(console=console(), screen=True, auto_refresh=False) as live:
            while not left.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(EVERY_S):
                        await left.wait()
                        return
                now = await source.read()
                live.update(_screen(before, now), refresh=True)
                before = now


@contextmanager
def _keys(left: asyncio.Event) -> Iterator[None]:
    """Set `left` when q is pressed. The terminal gets its settings back."""
    import termios
    import tty

    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    settings = termios.tcgetattr(descriptor)

    def pressed() -> None:
        # Nothing: the terminal was closed.
        if os.read(descriptor, 64)[:1] in (b"q", b"Q", b"\x1b", b""):
            left.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)


class _Source:
    """Where the figures come from: the connections stay open between readings."""

    def __init__(self, command: Command, app: str, store: Store | None, presence: PresenceStore | None) -> None:
        self._command = command
        self._app = app
        self._store = store
        self._presence = presence

    @classmethod
    async def open(cls, command: Command, stack: AsyncExitStack) -> _Source:
        """Connect. Raises `Unavailable` if neither Redis answers nor a service runs in the data directory."""
        from gate.store.store import Store  # late, as in `store_connection`

        try:
            try:
                app = command.app_key()
                store, presence = await stack.enter_async_context(open_both(command, app))
                return cls(command, app, store, presence)
            except (NotFound, AppUnknown):  # without an App there are no Users to count
                store = await Store.connect(command.redis_url())
                stack.push_async_callback(store.aclose)
                return cls(command, "", store, None)
        except Unavailable:
            if not command.services:
                raise
            return cls(command, "", None, None)

    async def read(self) -> Seen:
        """One reading; Redis that is away shows in it."""
        samples = _samples(self._command.data)
        unknown = Seen(monotonic_ms(), samples, "", "", None, {}, self._app, None, [])
        if self._store is None:
            return unknown._replace(redis_problem="Redis does not answer: start `gate top` again when it does")
        try:
            began_ms = monotonic_ms()
            await self._store.ping()
            seen = unknown._replace(redis=self._store.url_shown, redis_ms=monotonic_ms() - began_ms)
            seen = seen._replace(nodes=await reports_by_node(self._store))
            if self._presence is not None:
                counts = await self._presence.counts(self._app)
                page, _ = await self._store.audit.page(self._app, LOOKED_AT)
                recent = [entry for entry in page if entry.kind in RECENT_KINDS][:SHOWN]
                seen = seen._replace(online=(counts.users, counts.total), recent=recent)
            return seen
        except StoreUnavailable as fault:
            return unknown._replace(redis=self._store.url_shown, redis_problem=str(fault))


def _samples(data: Path) -> Samples:
    """The counters of all services in the data directory, added up."""
    from prometheus_client import CollectorRegistry  # late: it takes a tenth of a second
    from prometheus_client.multiprocess import MultiProcessCollector

    from gate.service.running import RUN_FOLDER

    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for folder in sorted((data / RUN_FOLDER).glob("*/metrics")):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # as a scrape does
            collector = MultiProcessCollector(CollectorRegistry(), path=str(folder))  # type: ignore[no-untyped-call]
            for family in collector.collect():  # type: ignore[no-untyped-call]
                for sample in family.samples:
                    key = (sample.name, tuple(sorted(sample.labels.items())))
                    found[key] = found.get(key, 0.0) + sample.value
        finally:
            os.close(descriptor)
    return found


def _rates(before: Seen, now: Seen) -> Rates | None:
    if not now.samples:
        return None
    seconds = max(1, now.at_ms - before.at_ms) / 1_000

    def grown(name: str, **labels: str) -> float:
        wanted = labels.items()
        return sum(
            # A counter of a restarted process begins again.
            max(0.0, value - before.samples.get((key, has), 0.0))
            for (key, has), value in now.samples.items()
            if key == name and wanted <= dict(has).items()
        )

    def mean_ms(name: str, unit_ms: float) -> float | None:
        count = grown(f"{name}_count")
        return grown(f"{name}_sum") / count * unit_ms if count else None

    verdicts = {dict(has)["verdict"] for name, has in now.samples if name == "gate_checks_total"}
    by_verdict = {one: grown("gate_checks_total", verdict=one) / seconds for one in sorted(verdicts)}
    return Rates(
        checks_per_s=sum(by_verdict.values()),
        verdicts_per_s=by_verdict,
        writes_per_s=grown("gate_write_applied_total") / seconds,
        write_ack_ms=mean_ms("gate_write_ack_ms", 1),
        http_per_s=grown("gate_http_requests_total") / seconds,
        http_ms=mean_ms("gate_http_request_seconds", 1_000),
    )


def _document(before: Seen, now: Seen) -> dict[str, Any]:
    import msgspec

    from gate.http.v1.audit import audit_line  # late: only JSON needs it

    rates = _rates(before, now)
    return {
        "at_ms": wall_ms(),
        "over_ms": now.at_ms - before.at_ms,
        "app": now.app or None,
        "online": {"users": now.online[0], "sessions": now.online[1]} if now.online else None,
        "redis": {"url": now.redis or None, "ping_ms": now.redis_ms, "problem": now.redis_problem or None},
        "here": rates._asdict() if rates else None,
        "nodes": [node_document(node, report) for node, report in now.nodes.items()],
        "recent": [msgspec.to_builtins(audit_line(entry)) for entry in now.recent],
    }


def _screen(before: Seen, now: Seen) -> RenderableType:
    from rich.console import Group  # late, as above
    from rich.text import Text

    lines = [f"{name:<9} {text}" for name, text in _figures(now, _rates(before, now))]
    parts: list[RenderableType] = [Text(shown_text(line)) for line in lines]
    if now.nodes:
        parts.append(table_of(NODE_COLUMNS, (node_row(node, report) for node, report in now.nodes.items())))
    if now.recent:
        parts.append(table_of(AUDIT_COLUMNS, (audit_row(entry) for entry in now.recent)))
    return Group(*parts)


def _figures(now: Seen, rates: Rates | None) -> Iterator[tuple[str, str]]:
    """Names and values of the lines above the tables."""
    if now.redis_problem:
        yield "Redis", f"{now.redis} {now.redis_problem}".strip()
    else:
        yield "Redis", f"{now.redis}, answers in {now.redis_ms:,.0f} ms"
    if now.online:
        users, sessions = now.online
        yield "online", f"{counted(users, 'User')} with {counted(sessions, 'Session')}, App {now.app}"
    if rates is None:
        yield "here", "no service runs in the data directory: its checks and writes are not known"
        return
    denied = sorted(
        ((rate, word) for word, rate in rates.verdicts_per_s.items() if word != "allowed" and rate), reverse=True
    )
    yield "checks", f"{rates.checks_per_s:,.0f}/s"
    yield "denied", ", ".join(f"{word} {rate:,.1f}/s" for rate, word in denied) or "none"
    yield "writes", f"{rates.writes_per_s:,.1f}/s" + _mean(", effective after", rates.write_ack_ms)
    yield "HTTP", f"{rates.http_per_s:,.1f}/s" + _mean(", answered after", rates.http_ms)


def _mean(words: str, mean_ms: float | None) -> str:
    return "" if mean_ms is None else f"{words} {mean_ms:,.1f} ms on average"
