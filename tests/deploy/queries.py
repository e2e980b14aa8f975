"""Every query of the deployed rules and dashboard, taken apart: the metrics, labels and values that it counts on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import promql_parser
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

import gate.metrics
from tests.deploy.files import DEPLOY, load_yaml

DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus gives every series."""


class Query(NamedTuple):
    """Where a query stands, and its text as Prometheus is sent it."""

    place: str
    text: str


class Asked(NamedTuple):
    """One metric of a query: its labels, each with the value that is looked for ("" for none in particular)."""

    metric: str
    labels: dict[str, str]


def rules() -> list[dict[str, Any]]:
    """Every rule, in order."""
    return [rule for group in load_yaml("prometheus/gate-rules.yaml")["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Every panel that shows something, of every dashboard."""
    found = [panel for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]
    return [panel for panel in found if panel["type"] != "row"]


def queries() -> list[Query]:
    """All of them."""
    of_rules = [Query(rule["alert"], rule["expr"]) for rule in rules()]
    of_panels = [
        Query(panel["title"], target["expr"].replace("$__rate_interval", "1m"))
        for panel in panels()
        for target in panel["targets"]
    ]
    return of_rules + of_panels


def asked_of(text: str) -> list[Asked]:
    """Every metric of a query with its labels, those that it is summed by included."""
    return list(_asked(promql_parser.parse(text), frozenset()))


def labels_of_metrics() -> dict[str, set[str]]:
    """The labels of every metric, under each name that a query may write."""
    found: dict[str, set[str]] = {}
    for metric in vars(gate.metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for family in metric.describe():
                found |= _named(family, set(metric._labelnames))
    return found


def labels_of_family(family: Metric) -> dict[str, set[str]]:
    """The same, of a family as it was collected."""
    return _named(family, {label for sample in family.samples for label in sample.labels} - {"le"})


def _named(family: Metric, labels: set[str]) -> dict[str, set[str]]:
    if family.type == "histogram":
        return {f"{family.name}_bucket": labels | {"le"}, f"{family.name}_count": labels, f"{family.name}_sum": labels}
    return {family.name + ("_total" if family.type == "counter" else ""): labels}


def _asked(node: Any, summed_by: frozenset[str]) -> Iterator[Asked]:
    if isinstance(node, promql_parser.VectorSelector):
        matched = {
            str(one.name): str(one.value) if one.op == promql_parser.MatchOp.Equal else ""
            for one in node.matchers.matchers
        }
        yield Asked(node.name or "", dict.fromkeys(summed_by, "") | matched)
        return
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        summed_by |= frozenset(node.modifier.labels)
    for attribute in ("lhs", "rhs", "expr", "vector_selector"):
        if (inner := getattr(node, attribute, None)) is not None:
            yield from _asked(inner, summed_by)
    for argument in getattr(node, "args", None) or ():
        yield from _asked(argument, summed_by)
