"""`gate top`: who is online, checks, denials, writes, nodes and the latest Bans and kicks, read again every second.

The figures are those of `gate status`, `gate nodes` and the metrics of the services in the data directory; rates are the
difference of two readings. Where stdout or stdin is no terminal, and with `--json`, it prints one snapshot over a second.
Exits 3 if no service runs in the data directory and no Redis answers.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from gate.cli.audit import AUDIT_COLUMNS, audit_row
from gate.cli.command import Command, takes
from gate.cli.nodes import NODE_COLUMNS, node_document, node_row
from gate.cli.output import counted, print_json, table_of
from gate.cli.store_connection import open_both, run
from gate.clock import monotonic_ms, wall_ms
from gate.core.shown import shown_text
from gate.errors import AppUnknown, NotFound, Unavailable
from gate.service.node_rates import Counts, Rates, counts_now, rates_between
from gate.store.overview import Overview, read_overview

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gate.store.presence import PresenceStore
    from gate.store.store import Store

EVERY_S = 1.0


class Seen(NamedTuple):
    """One reading. `counts` is of the services in the data directory; None without any."""

    at_ms: int
    counts: Counts | None
    redis: str
    app: str
    of: Overview


@takes("app", "redis", "presence_redis")
def top(command: Command) -> None:
    """Show what happens now, every second: online, checks, denials, nodes, Bans. Ends with q or Ctrl-C."""
    is_live = not command.as_json and sys.stdout.isatty() and sys.stdin.isatty()
    run(_live(command) if is_live else _once(command))


async def _once(command: Command) -> None:
    async with AsyncExitStack() as stack:
        source = await _Source.open(command, stack)
        # Rates are the difference of two readings of counters that only grow.
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
        # Keys outermost: the terminal gets its settings back also if the drawing fails.
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
        typed = os.read(descriptor, 64)
        # Nothing: the terminal was closed. Escape alone is the key; arrows, and a wheel in many terminals, begin with it.
        if typed in (b"", b"\x1b") or typed[:1] in (b"q", b"Q"):
            left.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        # Drained, not flushed: what was typed meanwhile is the shell's.
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
        from gate.store.store import Store  # late, as in `open_store`

        try:
            try:
                app = command.app_key()
                # Open for as long as the view is: a connect each second would be most of what Redis does.
                store, presence = await stack.enter_async_context(open_both(command, app))
                return cls(command, app, store, presence)
            except (NotFound, AppUnknown):  # without an App there are no Users to count
                store = await Store.connect(command.redis_url())
                stack.push_async_callback(store.aclose)
                return cls(command, "", store, None)
        except Unavailable:
            # Without Redis and without a service there is nothing to show.
            if not command.services:
                raise
            return cls(command, "", None, None)

    async def read(self) -> Seen:
        """One reading; Redis that is away shows in it."""
        counts = counts_now(self._command.data) if self._command.services else None
        if self._store is None:
            away = Overview("Redis does not answer: start `gate top` again when it does", 0.0, {}, None, [])
            return Seen(monotonic_ms(), counts, "", self._app, away)
        seen = await read_overview(self._store, self._presence, self._app)
        return Seen(monotonic_ms(), counts, self._store.url_shown, self._app, seen)


def _rates(before: Seen, now: Seen) -> Rates | None:
    return rates_between(before.counts, now.counts) if before.counts and now.counts else None


def _document(before: Seen, now: Seen) -> dict[str, Any]:
    import msgspec

    from gate.http.v1.audit import audit_line  # late: only JSON needs it

    rates, online = _rates(before, now), now.of.online
    return {
        "at_ms": wall_ms(),
        "over_ms": now.at_ms - before.at_ms,
        "app": now.app or None,
        "online": {"users": online.users, "sessions": online.total} if online else None,
        "redis": {
            "url": now.redis or None,
            "ping_ms": None if now.of.problem else now.of.ping_ms,
            "problem": now.of.problem or None,
        },
        "here": rates._asdict() if rates else None,
        "nodes": [node_document(node, report) for node, report in now.of.nodes.items()],
        "recent": [msgspec.to_builtins(audit_line(entry)) for entry in now.of.recent],
    }


def _screen(before: Seen, now: Seen) -> RenderableType:
    from rich.console import Group  # late, as above
    from rich.text import Text

    lines = [f"{name:<9} {text}" for name, text in _figures(now, _rates(before, now))]
    parts: list[RenderableType] = [Text(shown_text(line)) for line in lines]
    if now.of.nodes:
        parts.append(table_of(NODE_COLUMNS, (node_row(node, report) for node, report in now.of.nodes.items())))
    if now.of.recent:
        parts.append(table_of(AUDIT_COLUMNS, (audit_row(entry) for entry in now.of.recent)))
    return Group(*parts)


def _figures(now: Seen, rates: Rates | None) -> Iterator[tuple[str, str]]:
    """Names and values of the lines above the tables."""
    if now.of.problem:
        yield "Redis", f"{now.redis} {now.of.problem}".strip()
    else:
        yield "Redis", f"{now.redis}, answers in {now.of.ping_ms:,.0f} ms"
    if online := now.of.online:
        yield "online", f"{counted(online.users, 'User')} with {counted(online.total, 'Session')}, App {now.app}"
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
