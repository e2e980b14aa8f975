"""What happens now: the sums over the nodes, what an operator of some Apps may see of them, and Redis away."""

from __future__ import annotations

import re

import msgspec
import pytest

from gate.console.views import OF_ALL, overview
from gate.console.views.overview import NodeRow, load_of, rows_of
from gate.core.presence import SAMPLE_EVERY_MS
from gate.store.node_reports import NodeReport, NodeSample
from gate.store.overview import Overview
from tests.console.conftest import Place
from tests.http.world import now_ms

A = NodeReport(node="a", name="one", state="current", verdicts_per_s={"allowed": 30.0, "blacklisted": 10.0},
               checks_per_s=40.0, check_us=20.0, writes_per_s=1.0, write_ack_ms=4.0)  # fmt: skip
B = NodeReport(node="b", name="two", state="current", verdicts_per_s={"allowed": 8.0, "sender-banned": 12.0},
               checks_per_s=20.0, check_us=50.0, stale_ms=3_000)  # fmt: skip


def test_the_load_is_that_of_all_nodes_that_answered() -> None:
    load = load_of(Overview("", 1.0, {"a": A, "b": B, "c": None}, None, []))
    assert (load.checks_per_s, load.denied_per_s, load.writes_per_s) == (60.0, 22.0, 1.0)
    assert list(load.verdicts_per_s) == ["sender-banned", "blacklisted"], "the most frequent first"
    assert (load.check_us, load.write_ack_ms) == (30.0, 4.0), "weighted by how much there was"


def test_a_node_lags_if_its_facts_are_old_or_it_does_not_answer() -> None:
    rows = rows_of(Overview("", 1.0, {"a": A, "b": B, "c": None}, None, []))
    assert [(row.name, row.is_behind) for row in rows] == [("one", False), ("two", True), ("c", True)]
    assert NodeRow("d", NodeReport(node="d", state="reloading")).is_behind


async def test_the_latest_acts_are_listed_with_their_reason(place: Place) -> None:
    world, visitor = place.world, await place.visitor("viewer")
    await world.store.bans.impose(world.app.key, [b"m<b>"], now_ms() + 60_000, now_ms(), "spam & <i>worse</i>", "joe")
    shown = await visitor.app("overview")
    assert "m<b> banned until 20" in shown.text and "spam & <i>worse</i>" in shown.text and "<i>worse" not in shown.page
    assert f'href="/console/{world.app.key}/user?user=m%3Cb%3E"' in shown.page


async def test_an_operator_of_some_apps_sees_who_lags_and_no_rate_of_all_apps(place: Place) -> None:
    visitor = await place.visitor()
    assert "Checks a second" in (await visitor.app("overview")).text
    await place.world.store.operators.change(
        visitor.name, lambda one: msgspec.structs.replace(one, apps=(place.world.app.key,))
    )
    for shown in (await visitor.app("overview"), await visitor.get("/console/overview")):
        assert "Nodes that lag" in shown.text
        assert "Checks a second" not in shown.text and "Denials by reason" not in shown.text
        assert "/console/nodes" not in shown.page
    assert (await visitor.get("/console/nodes")).status == 403


async def test_a_node_that_does_not_answer_delays_no_page(place: Place) -> None:
    """The node of these tests answers no reports."""
    visitor = await place.visitor()
    shown = await visitor.get("/console/nodes")
    assert "no answer" in shown.text and "It holds a lease and does not answer" in shown.text


@pytest.mark.parametrize("page", ["overview", "nodes", "apps"])
async def test_with_redis_away_the_deployments_pages_say_so(place: Place, page: str) -> None:
    assert page in OF_ALL
    visitor = await place.visitor("viewer")
    await visitor.get(f"/console/{page}")
    async with place.redis_away():
        shown = await visitor.get(f"/console/{page}")
        assert (shown.status, "Redis can not be reached." in shown.text) == (200, True)


async def test_nodes_of_one_name_have_a_line_each(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    at_ms = now_ms() // SAMPLE_EVERY_MS * SAMPLE_EVERY_MS

    def report(node: str, name: str, check_us: float) -> NodeReport:
        return NodeReport(node=node, name=name, samples=(NodeSample(at_ms, {"allowed": 1.0}, 0, 0, check_us),))

    async def looked(*_: object, **__: object) -> Overview:
        nodes = {"a": report("a", "vm", 20.0), "b": report("b", "vm", 50.0), "c": report("c", "other", 30.0)}
        return Overview("", 1.0, nodes, None, [])

    monkeypatch.setattr(overview, "read_overview", looked)
    visitor = await place.visitor("viewer")
    times = (
        (await visitor.get("/console/overview")).page.partition('data-kind="times"')[2].partition("</svg>\n</svg>")[0]
    )
    assert re.findall(r'data-name="([^"]+)"', times) == ["vm (b)", "vm (a)", "other"]


def test_a_report_of_an_older_version_can_be_read() -> None:
    old = msgspec.msgpack.encode({"node": "a", "name": "one", "checks_per_s": 2.5})
    assert msgspec.msgpack.decode(old, type=NodeReport).verdicts_per_s == {}
    sample = NodeSample(15_000, {"allowed": 1.0}, 0, 0, None)
    new = msgspec.msgpack.encode(NodeReport(node="a", samples=(sample,)))
    assert msgspec.msgpack.decode(new, type=NodeReport).samples == (sample,)
