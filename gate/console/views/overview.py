"""What happens now, of an App and of the deployment: who is online, checks, denials, nodes, Redis, the latest Bans and kicks.

Two parts renew themselves: `now` every two seconds, and `hour`, the last hour as lines, with each sample. An operator who is
limited to Apps sees which node lags, and no rate: these are of all Apps together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from gate.console import PREFIX, charts
from gate.console.id_format import named
from gate.console.labels import NODE_STATES, RECENT, VERDICTS
from gate.console.languages import N_
from gate.console.live import Part, stream
from gate.console.looks import load_of, look, rows_of
from gate.console.pages import page, rendered, see_other
from gate.console.request_context import ConsoleContext
from gate.core.presence import SAMPLE_EVERY_MS, Sample
from gate.errors import StoreUnavailable
from gate.store.node_reports import NodeReport, NodeSample

SHOWN_MS = 3_600_000
_TICKS_MS = 600_000


async def begin(context: ConsoleContext) -> web.Response:
    """An App's address alone leads here, and so does the page's address of before."""
    return see_other(f"{PREFIX}{context.app_key}/overview")


async def show(context: ConsoleContext) -> web.Response:
    """The page."""
    now, hour = await asyncio.gather(_now(context, is_page=True), _hour(context, is_page=True))
    return page(context, "overview.html", **{**hour, **now})


async def _now(context: ConsoleContext, *, is_page: bool) -> dict[str, Any]:
    """The values of the part `now`."""
    app_key = context.facts.key if context.facts is not None else ""
    seen = await look(context, app_key, is_page=is_page)
    rows = rows_of(seen)
    return {
        "away": context.operator.away or seen.problem,
        "seen": seen,
        "rows": rows,
        "behind": [row for row in rows if row.is_behind],
        "load": load_of(seen),
        "verdicts": VERDICTS,
        "states": NODE_STATES,
        "recent": [(entry, named(entry.user), RECENT[entry.kind]) for entry in seen.recent],
        "sees_all": context.operator.operator.apps is None,
    }


async def _hour(context: ConsoleContext, *, is_page: bool) -> dict[str, Any]:
    """The values of the part `hour`."""
    # To the slot, so that a part without a new sample is the same text and is not sent again.
    now_ms = context.now_ms // SAMPLE_EVERY_MS * SAMPLE_EVERY_MS
    seen = await look(context, "", is_page=is_page, with_samples=True)
    values = {"sees_all": context.operator.operator.apps is None, **_of_nodes(seen.nodes, now_ms, context.gettext)}
    if context.facts is None:
        return values | {"platforms": None, "users": None}
    try:
        samples = await context.deps.presence.history(context.app_key, now_ms - SHOWN_MS)
    except StoreUnavailable:
        samples = []
    return values | _of_presence(samples, now_ms, context.gettext)


def _of_presence(samples: list[Sample], now_ms: int, text: Callable[..., str]) -> dict[str, Any]:
    if not samples:
        return {"platforms": None, "users": None}
    return {
        "platforms": _chart(charts.of_platforms(samples), now_ms),
        "users": _chart({text("Users"): [(one.at_ms, one.users) for one in samples]}, now_ms),
    }


def _of_nodes(nodes: Mapping[str, NodeReport | None], now_ms: int, text: Callable[..., str]) -> dict[str, Any]:
    """Checks and denials of all nodes together; the age of the facts and the time of a check of each."""
    reports = [report for report in nodes.values() if report is not None and report.samples]
    if not reports:
        return {"checks": None, "denials": None, "ages": None, "times": None}
    words: dict[int, dict[str, float]] = {}
    for report in reports:
        for sample in report.samples:
            sums = words.setdefault(sample.at_ms, {})
            for word, rate in sample.verdicts_per_s.items():
                sums[word] = sums.get(word, 0.0) + rate
    moments = sorted(words.items())
    denials = [(at_ms, {word: rate for word, rate in sums.items() if word != "allowed"}) for at_ms, sums in moments]
    checks = {
        text(N_("allowed")): [(at_ms, sums.get("allowed", 0.0)) for at_ms, sums in moments],
        text(N_("denied")): [(at_ms, sum(sums.values())) for at_ms, sums in denials],
    }
    return {
        "checks": _chart(checks, now_ms),
        "denials": _chart(charts.of_counts(denials), now_ms),
        "ages": _chart(_of_each(reports, lambda one: one.stale_ms / 1_000), now_ms, 1),
        "times": _chart(_of_each(reports, lambda one: one.check_us), now_ms),
    }


def _of_each(reports: list[NodeReport], value: Callable[[NodeSample], float | None]) -> dict[str, charts.Values]:
    """A line for each node: of those with the highest values, if there are many."""
    lines = {
        report.name or report.node: [(one.at_ms, found) for one in report.samples if (found := value(one)) is not None]
        for report in reports
    }
    highest = sorted(lines, key=lambda name: -charts.most_of(lines[name]))[: charts.MAX_LINES]
    return {name: lines[name] for name in sorted(highest)}


def _chart(series: charts.Series, now_ms: int, least_top: float = charts.LEAST_TOP) -> charts.Chart:
    return charts.chart(series, now_ms - SHOWN_MS, now_ms, tick_every_ms=_TICKS_MS, least_top=least_top)


async def _now_part(context: ConsoleContext) -> str:
    values = await _now(context, is_page=False)
    return rendered(context.language, "overview_now.html", app=context.facts, now_ms=context.now_ms, **values)


async def _hour_part(context: ConsoleContext) -> str:
    return rendered(context.language, "overview_hour.html", app=context.facts, **await _hour(context, is_page=False))


live = stream(Part("now", _now_part, 2_000), Part("hour", _hour_part, SAMPLE_EVERY_MS))
"""What changes of either page, as it changes."""
