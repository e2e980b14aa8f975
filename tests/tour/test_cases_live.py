"""The case files on every live surface of one node: the Replica, RESP and HTTP must say what the core says.

All facts are written once for the module, each question in an App of its own; see `tests.cases.storing`. Exact milliseconds
are asked of the Replica's own facts with the moment as an argument, since a live surface can't be asked about 2030.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest
import redis

from gate import Replica
from gate.clock import wall_ms
from gate.core.revision import Revision
from gate.replica.layout import replica_dir
from gate.replica.reading import Reading
from gate.store.store import Store
from harness.ports import LOOPBACK
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cases.loading import Case, load_cases
from tests.cases.storing import moved, put, unmoved
from tests.replica.node import reached

CASES = load_cases()
EFFECT_TIMEOUT_S = 20.0
HTTP_TIMEOUT_S = 10.0
each_case = pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])


class Stage(NamedTuple):
    """A node that holds every case."""

    service: GateService
    live: list[list[Case]]
    """By case and question: moved to the present, one question each."""
    exact: list[Case]


@pytest.fixture(scope="module")
def stage(start_module_service: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    server = RedisServer.start("valkey-9", tmp_path_factory.mktemp("store"))
    service = start_module_service.start(redis_url=server.url)
    now_ms = wall_ms()
    exact = [unmoved(case, f"exact-{number}") for number, case in enumerate(CASES)]
    live = [
        [moved(case, asked, now_ms, f"live-{number}-{nth}") for nth, asked in enumerate(case.questions)]
        for number, case in enumerate(CASES)
    ]
    revisions = asyncio.run(put_all(server.url, [*exact, *(one for several in live for one in several)]))
    replica = Reading(service.data)
    wait_until(lambda: reached(replica, revisions), EFFECT_TIMEOUT_S, "the Replica to hold every case")
    replica.close()
    yield Stage(service, live, exact)
    service.stop()
    server.stop()


async def put_all(url: str, cases: list[Case]) -> list[Revision]:
    store = await Store.connect(url)
    newest: dict[int, Revision] = {}
    for case in cases:
        newest.update((revision.partition, revision) for revision in await put(store, case))
    await store.aclose()
    return list(newest.values())


@each_case
def test_the_replica_decides_at_the_exact_millisecond(stage: Stage, number: int) -> None:
    case = stage.exact[number]
    reading = Reading(replica_dir(stage.service.data))
    reading.refresh()
    app = reading.app(case.app.key)
    assert app is not None
    answers = [app.decide(asked.sender, asked.recipient, asked.at_ms) for asked in case.questions]
    reading.close()
    assert answers == [asked.expected for asked in case.questions]


@each_case
def test_a_python_program_gets_the_verdict(stage: Stage, number: int) -> None:
    for case in stage.live[number]:
        asked = case.questions[0]
        with Replica.open(stage.service.data, app=case.app.key) as replica:
            assert replica.verdict(asked.sender, asked.recipient) == asked.expected
            assert replica.may_send(asked.sender, asked.recipient) is asked.expected.allowed
            assert replica.may_send_many(asked.sender, [asked.recipient]) == [asked.expected.allowed]


@each_case
def test_resp_gives_the_verdict(stage: Stage, number: int) -> None:
    for case in stage.live[number]:
        asked = case.questions[0]
        allowed = int(asked.expected.allowed)
        with resp(stage.service, case) as client:
            assert client.execute_command("GATE.CHECK", asked.sender, asked.recipient) == allowed
            assert client.execute_command("GATE.MCHECK", asked.sender, asked.recipient) == [allowed]
            assert client.execute_command("GATE.VERDICT", asked.sender, asked.recipient) == asked.expected.word.encode()
            explained = pairs(client.execute_command("GATE.EXPLAIN", asked.sender, asked.recipient))
            assert explained[b"verdict"] == asked.expected.word.encode()
            assert explained[b"until"] == asked.expected.until_ms


@each_case
def test_http_gives_the_verdict(stage: Stage, number: int) -> None:
    for case in stage.live[number]:
        asked = case.questions[0]
        query = f"from={quote(asked.sender)}&to={quote(asked.recipient)}"
        single = call(stage.service, case, "GET", f"/v1/check?{query}")
        assert single["verdict"] == asked.expected.word
        assert single["allowed"] is asked.expected.allowed
        assert single["until"] == asked.expected.until_ms
        batch = call(stage.service, case, "POST", "/v1/check", {"pairs": [[shaped(one) for one in asked[:2]]]})
        assert batch["verdicts"] == [asked.expected.word]
        fan_out = {"from": shaped(asked.sender), "to": [shaped(asked.recipient)]}
        assert call(stage.service, case, "POST", "/v1/check", fan_out)["verdicts"] == [asked.expected.word]
        explained = call(stage.service, case, "GET", f"/v1/explain?{query}")
        assert (explained["verdict"], explained["until"]) == asked.expected


def resp(service: GateService, case: Case) -> redis.Redis:
    key, secret = case.app.key, case.app.secrets[0]
    return redis.Redis(host=LOOPBACK, port=service.resp_port, username=key, password=secret, protocol=2)


def pairs(flat: list[Any]) -> dict[bytes, Any]:
    """A map as RESP2 has it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def call(service: GateService, case: Case, method: str, path: str, body: object = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection(urlsplit(service.http).netloc, timeout=HTTP_TIMEOUT_S)
    secret = base64.b64encode(f"{case.app.key}:{case.app.secrets[0]}".encode()).decode()
    headers = {"Authorization": f"Basic {secret}", "Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    connection.close()
    assert response.status == 200, answer
    return answer


def shaped(raw: bytes) -> str | dict[str, str]:
    """An id as JSON has it."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(raw).decode()}
