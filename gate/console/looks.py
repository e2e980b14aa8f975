"""What happens now, as pages show it: one look at the store for all who watch the same, and what it says of the nodes.

A page waits a tenth of a second at most for the nodes, so that one which does not answer never delays it; the stream that
renews the page waits as long as `gate top` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from gate.clock import monotonic_ms
from gate.console.request_context import ConsoleContext
from gate.errors import StoreUnavailable
from gate.store.node_reports import ANSWERS_WITHIN_S, NodeReport
from gate.store.overview import Overview, read_overview

PAGE_WITHIN_S = 0.1
KEPT_MS = 1_500
"""Below the pace of the streams, so that each of their rounds looks once for all."""
MOST_KEPT = 200
"""Looks: of some Apps, at two paces, with samples and without."""


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


async def look(context: ConsoleContext, app_key: str, *, is_page: bool, with_samples: bool = False) -> Overview:
    """What happens now, in this App or, for "", in the deployment; `problem` says why it is not known."""
    kept, key = context.last_read.looks, (app_key, is_page, with_samples)
    at_ms, looking = kept.get(key, (0, None))
    if looking is None or monotonic_ms() - at_ms >= KEPT_MS:
        if len(kept) >= MOST_KEPT:
            kept.clear()
        looking = asyncio.ensure_future(_look(context, app_key, is_page=is_page, with_samples=with_samples))
        kept[key] = (monotonic_ms(), looking)
    seen = await asyncio.shield(looking)  # another request may wait for it too
    if seen.problem:
        kept.pop(key, None)  # Redis may be back: that shows at once
    return seen


async def _look(context: ConsoleContext, app_key: str, *, is_page: bool, with_samples: bool) -> Overview:
    deps, within_s = context.deps, PAGE_WITHIN_S if is_page else ANSWERS_WITHIN_S
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
    weight = sum(rate for rate, mean in of if mean is not None)
    return sum(rate * mean for rate, mean in of if mean is not None) / weight if weight else None
