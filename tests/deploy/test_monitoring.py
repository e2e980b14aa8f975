"""Rules and dashboard ask for metrics, labels and values that the program has, and every alert is explained."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import Any

import aiohttp
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from gate.clock import wall_ms
from gate.core import token
from gate.core.model import AppFacts
from gate.metrics import StatusCollector
from gate.service.node_metrics import NodeCollector
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.deploy.files import DEPLOY, REPOSITORY, load_yaml
from tests.deploy.queries import (
    DASHBOARDS,
    OF_PROMETHEUS,
    Query,
    asked_of,
    labels_of_family,
    labels_of_metrics,
    panels,
    queries,
    rules,
)
from tests.deploy.test_settings import ZEROS
from tests.docs.pages import anchors
from tests.presence.played import Gateway, presence_on

RUNBOOK = "deploy/runbook/README.md"
SOURCES = "\n".join(path.read_text() for path in (REPOSITORY / "gate").rglob("*.py"))
SEVERITIES = {"page", "ticket"}
RARE = {
    "gate_auth_failures_total",
    "gate_role_restarts_total",
    "gate_shadow_denials_total",
    "gate_erased_users_total",
    "gate_swept_facts_total",
    "gate_webhooks_total",
    "gate_presence_webhooks_total",
    "gate_presence_changes_told_total",
}
"""What a service that is well and has little to do does not export yet, and the tests of these features look at."""


def known() -> dict[str, set[str]]:
    """Every metric with its labels."""
    of_node = NodeCollector(lambda: {"http": os.getpid()}, REPOSITORY).collect()
    collected = [*StatusCollector(lambda: ZEROS, lambda: {"http": True}).collect(), *of_node]
    return labels_of_metrics() | {name: labels for one in collected for name, labels in labels_of_family(one).items()}


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.place)
def test_a_query_asks_for_what_there_is(query: Query) -> None:
    metrics = known() | {"up": set()}
    asked = asked_of(query.text)
    assert asked
    for one in asked:
        assert one.metric in metrics
        assert set(one.labels) <= metrics[one.metric] | OF_PROMETHEUS, one.metric
        for label, value in one.labels.items():
            assert label in OF_PROMETHEUS or not value or f'"{value}"' in SOURCES, (label, value)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_is_explained(rule: dict[str, Any]) -> None:
    notes = rule["annotations"]
    path, _, anchor = notes["runbook_url"].partition("#")
    assert path == "{{ $externalLabels.runbook }}" and anchor == rule["alert"].lower()
    assert rule["labels"]["severity"] in SEVERITIES
    shown = set(re.findall(r"\$labels\.(\w+)", notes["summary"]))
    for one in asked_of(rule["expr"]):
        assert shown <= known().get(one.metric, set()) | OF_PROMETHEUS
    if "sum(" in rule["expr"]:
        assert not shown, "a sum over everything has no labels left"


def test_the_runbook_has_an_entry_for_each_alert_and_no_other() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    text = (REPOSITORY / RUNBOOK).read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == names
    assert {name.lower() for name in names} <= anchors(text)


def test_the_rules_are_the_ones_that_prometheus_loads() -> None:
    loaded = load_yaml("prometheus/prometheus.yaml")
    assert loaded["rule_files"] == ["gate-rules.yaml"]
    assert re.fullmatch(rf"https://\S+/{RUNBOOK}", loaded["global"]["external_labels"]["runbook"])


def test_the_dashboard_is_whole() -> None:
    [path] = DASHBOARDS
    dashboard = json.loads(path.read_text())
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]+)\b", path.read_text())) <= variables
    everything = dashboard["panels"]
    assert len({one["id"] for one in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for one in everything:
        place = one["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, one["title"]
        taken |= cells
    assert all(panel["description"] and panel["targets"] for panel in panels())


def test_the_folder_holds_nothing_else() -> None:
    assert {path.name for path in (DEPLOY / "prometheus").iterdir()} == {
        "alertmanager.yaml",
        "compose-prometheus.yaml",
        "gate-rules.yaml",
        "prometheus.yaml",
    }


def test_what_is_alarmed_on_is_counted_from_the_start(start_service: Services) -> None:
    service = start_service.start()

    def swept() -> dict[str, float]:
        families = text_string_to_metric_families(requests.get(f"{service.http}/metrics", timeout=5).text)
        samples = [sample for one in families for sample in one.samples if one.name == "gate_presence_swept"]
        return {sample.labels["what"]: sample.value for sample in samples}

    wait_until(lambda: swept() == {"leases": 0, "sessions": 0, "departures": 0}, 15, "the counts of the sweeps")


async def test_a_service_at_work_exports_what_is_asked(redis_server: RedisServer, start_service: Services) -> None:
    service = start_service.start("--lease-ttl-ms", "3000", redis_url=redis_server.url)
    await work(service, redis_server.url)
    asked = {one.metric: set(one.labels) for query in queries() for one in asked_of(query.text)}
    wanted = set(asked) - RARE - {"up"}

    def missing() -> set[str]:
        return wanted - set(page_of(service))

    wait_until(lambda: not missing(), 15, f"all of {wanted} on the page")
    page = page_of(service)
    for query in queries():
        for one in asked_of(query.text):
            if one.metric in wanted:
                assert set(one.labels) <= page[one.metric] | OF_PROMETHEUS, one


def page_of(service: GateService) -> dict[str, set[str]]:
    families = text_string_to_metric_families(requests.get(f"{service.http}/metrics", timeout=5).text)
    return {name: labels for family in families for name, labels in labels_of_family(family).items()}


async def work(service: GateService, redis_url: str) -> None:
    """A bit of everything: checks, an error, a write, a kick for a Ban, a lease that ends with its Session, a WebSocket."""
    known = service.credentials
    router = service.resp_client()
    for _ in range(16):  # the times of one in eight are measured
        router.execute_command("GATE.CHECK", "ann", "bob")
    app = AppFacts(key=known.app_key, secrets=(known.app_secret,))
    store = presence_on(redis_url)
    gateway = await Gateway(store, app).lease()
    await gateway.open_many([b"ann", b"bob"])
    answer = await asyncio.to_thread(
        requests.post,
        f"{service.http}/v1/bans",
        json={"users": ["ann"], "seconds": 300},
        auth=(known.app_key, known.app_secret),
        timeout=5,
    )
    assert answer.ok, answer.text
    await store.client.aclose()
    await come_and_go(service, token.mint(app, b"bob", wall_ms(), os.urandom(token.NONCE_BYTES)))


async def come_and_go(service: GateService, shown: str) -> None:
    """As a client that asks one thing."""
    at, headers = f"{service.http}/client/v1/connect", {"Authorization": f"Bearer {shown}"}
    async with aiohttp.ClientSession() as session, session.ws_connect(at, headers=headers) as client:
        assert (await client.receive_json(timeout=5))["type"] == "welcome"
        await client.send_json({"type": "ping"})
        assert (await client.receive_json(timeout=5))["type"] == "pong"
