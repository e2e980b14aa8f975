"""What happens now, of an App and of the deployment: who is online, checks, denials, nodes, Redis, the latest Bans and kicks.

Two parts renew themselves: `now` every two seconds, and `hour`, the last hour as lines, with each sample. An operator who is
limited to Apps sees which node lags, and no rate: these are of all Apps together. The page of nodes has all that hold a lease,
as each reports itself.

All who watch the same share one look at the store. A page waits a tenth of a second at most for the nodes, so that one which
does not answer never delays it; the stream that renews the page waits as long as `gate top` does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiohttp import web

from gate.clock import monotonic_ms
from gate.console import PREFIX, charts
from gate.console.id_format import named
from gate.console.labels import NODE_STATES, RECENT, VERDICTS
from gate.console.languages import N_
from gate.console.live import Part, stream
from gate.console.pages import page, rendered, see_other
from gate.console.request_context import ConsoleContext
from gate.core.presence import SAMPLE_EVERY_MS, Sample
from gate.errors import StoreUnavailable
from gate.store.node_reports import ANSWERS_WITHIN_S, NodeReport, NodeSample
from gate.store.overview import Overview, read_overview

SHOWN_MS = 3_600_000
_TICKS_MS = 600_000
# Of the disk that is free: below that, a row says so.
LOW_DISK = 0.1
PAGE_WITHIN_S = 0.1
# Below the pace of the streams, so that each of their rounds looks once for all.
KEPT_MS = 1_500
# Looks: of some Apps, at two paces, with samples and without.
MOST_KEPT = 200


class NodeRow(NamedTuple):
    """One node as a table shows it."""

    node: str
    report: NodeReport | None

    @property
    def name(self) -> str:
        """Its name; its id if it did not answer."""
        return self.report.name if self.report is not None and self.report.name else self.node

    @property
    def is_behind(self) -> bool:
        """Whether its facts are not those of now, as far as is known."""
        return self.report is None or self.report.stale_ms > 0 or self.report.state != "current"


class Load(NamedTuple):
    """What all nodes that answered do together. A mean is None where there was nothing to take it of."""

    checks_per_s: float
    verdicts_per_s: Mapping[str, float]
    """Denials, the most frequent first."""
    denied_per_s: float
    check_us: float | None
    writes_per_s: float
    write_ack_ms: float | None


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
    names = Counter(report.name for report in reports)
    lines: dict[str, charts.Values] = {}
    for report in reports:
        # Names are by default those of the hosts, and nothing keeps two nodes from having the same.
        name = report.name if names[report.name] == 1 else f"{report.name} ({report.node})"
        lines[name if report.name else report.node] = [
            (one.at_ms, found) for one in report.samples if (found := value(one)) is not None
        ]
    # The lines that people look for are the high ones: lag, and slow checks.
    highest = sorted(lines, key=lambda name: -charts.most_of(lines[name]))[: charts.MAX_LINES]
    return {name: lines[name] for name in sorted(highest)}


def _chart(series: charts.Series, now_ms: int, least_top: float = charts.LEAST_TOP) -> charts.Chart:
    return charts.chart(series, now_ms - SHOWN_MS, now_ms, tick_every_ms=_TICKS_MS, least_top=least_top)


async def _now_part(context: ConsoleContext) -> str:
    values = await _now(context, is_page=False)
    return rendered(context.language, "overview_now.html", app=context.facts, now_ms=context.now_ms, **values)


async def _hour_part(context: ConsoleContext) -> str:
    return rendered(context.language, "overview_hour.html", app=context.facts, **await _hour(context, is_page=False))


# What changes of the overview of an App or of the deployment, as it changes.
live = stream(Part("now", _now_part, 2_000), Part("hour", _hour_part, SAMPLE_EVERY_MS))


async def look(context: ConsoleContext, app_key: str, *, is_page: bool, with_samples: bool = False) -> Overview:
    """What happens now, in this App or, for "", in the deployment; `problem` says why it is not known."""
    kept, key = context.last_read.looks, (app_key, is_page, with_samples)
    at_ms, looking = kept.get(key, (0, None))
    # A look that still runs is joined, however old: Redis that hangs is asked once, not by every page.
    if looking is None or monotonic_ms() - at_ms >= KEPT_MS:
        if len(kept) >= MOST_KEPT:
            # All at once: simpler than an order, and a look costs milliseconds.
            kept.clear()
        looking = asyncio.ensure_future(_look(context, app_key, is_page=is_page, with_samples=with_samples))
        kept[key] = (monotonic_ms(), looking)
    seen = await asyncio.shield(looking)  # another request may wait for it too
    if seen.problem:
        kept.pop(key, None)  # Redis may be back: that shows at once
    return seen


async def _look(context: ConsoleContext, app_key: str, *, is_page: bool, with_samples: bool) -> Overview:
    deps, within_s = context.deps, PAGE_WITHIN_S if is_page else ANSWERS_WITHIN_S
    # Who is online is an App's; the deployment has no sum of its own.
    presence = deps.presence if app_key else None
    try:
        return await read_overview(deps.store, presence, app_key, within_s=within_s, with_samples=with_samples)
    except StoreUnavailable as fault:  # it has not been reached since the start
        return Overview(str(fault), 0.0, {}, None, [])


def rows_of(seen: Overview) -> list[NodeRow]:
    """The nodes, by name."""
    return [NodeRow(node, report) for node, report in seen.nodes.items()]


def load_of(seen: Overview) -> Load:
    """The sums over the nodes; means are weighted by how much there was."""
    reports = [report for report in seen.nodes.values() if report is not None]
    verdicts: dict[str, float] = {}
    for report in reports:
        for word, rate in report.verdicts_per_s.items():
            verdicts[word] = verdicts.get(word, 0.0) + rate
    denials = {word: rate for word, rate in verdicts.items() if word != "allowed" and rate}
    writes = [(report.writes_per_s or 0.0, report.write_ack_ms) for report in reports]
    checks = [(report.checks_per_s or 0.0, report.check_us) for report in reports]
    return Load(
        checks_per_s=sum(verdicts.values()),
        verdicts_per_s=dict(sorted(denials.items(), key=lambda one: -one[1])),
        denied_per_s=sum(denials.values()),
        check_us=_mean(checks),
        writes_per_s=sum(rate for rate, _ in writes),
        write_ack_ms=_mean(writes),
    )


def _mean(of: list[tuple[float, float | None]]) -> float | None:
    # By how much each node did: a node with one slow check must not make the mean.
    weight = sum(rate for rate, mean in of if mean is not None)
    return sum(rate * mean for rate, mean in of if mean is not None) / weight if weight else None


async def show_nodes(context: ConsoleContext) -> web.Response:
    """The page of all nodes."""
    return page(context, "nodes.html", **await _nodes(context, is_page=True))


async def _nodes(context: ConsoleContext, *, is_page: bool) -> dict[str, Any]:
    seen = await look(context, "", is_page=is_page)
    # A node that lags comes first: it is what people look for.
    rows = sorted(rows_of(seen), key=lambda row: (not row.is_behind, row.name))
    away = context.operator.away or seen.problem
    return {"away": away, "seen": seen, "rows": rows, "states": NODE_STATES, "low_disk": LOW_DISK}


async def _nodes_part(context: ConsoleContext) -> str:
    values = await _nodes(context, is_page=False)
    return rendered(context.language, "nodes_now.html", now_ms=context.now_ms, **values)


# The same of the page of nodes.
nodes_live = stream(Part("now", _nodes_part, 2_000))
