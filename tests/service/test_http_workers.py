"""`--http-workers N`: several HTTP processes on one port are one node to clients, operators, balancers and scrapers."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from urllib.parse import quote_plus

import pytest

from gate.http.limits import FREE_FAILURES
from harness.ports import LOOPBACK, free_port
from harness.service import GateService, Services
from harness.signing import signature_headers
from harness.waiting import wait_until, wait_until_async
from harness.websocket import Socket, connect
from tests.faults.calls import Resp
from tests.service.http_processes import Caller, caller_of_each, figure, http_pids
from tests.service.running import get, is_ready, readyz, restarts

MANY = 2
LIMITED_S = 6.0
"""Of one call a second: so many and one more pass, or twice as many where each process counts for itself."""
MOST_CONNECTS = 30
"""Development Apps register a hundred Users. With three processes one of them is missed once in 100,000 such runs."""
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    return start_module_service.start("--http-workers", str(MANY), "--health", f"{LOOPBACK}:{free_port()}")


@pytest.fixture
def callers(service: GateService) -> Iterator[list[Caller]]:
    wait_until(lambda: is_ready(service), PATIENCE_S, "the service to be whole")
    with caller_of_each(service, MANY) as each:
        yield each


def probed(service: GateService, path: str) -> tuple[int, str]:
    """Off the port of `--health`."""
    try:
        with urllib.request.urlopen(f"http://{probe_address(service)}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def probe_address(service: GateService) -> str:
    """What `--health` names."""
    found = re.search(r"--health (\S+)", next(one.command for one in service.processes() if one.pid == service.pid))
    assert found is not None
    return found[1]


def token(caller: Caller, user: str) -> str:
    reply = caller.v1("POST", "/v1/tokens", {"user": user})
    assert reply.status == 200, reply
    return str(reply.body["token"])


async def connected_to_each(service: GateService, name: str, many: int = MANY) -> list[Socket]:
    """A WebSocket on each process, in order, each of a User of its own."""
    caller, sockets = Caller(service), dict[str, Socket]()
    for number in range(MOST_CONNECTS):
        user = f"{name}-{number}"
        socket = await connect(service.http, token(caller, user), platform="Web")
        gateway = gateway_of(service, user)
        if gateway in sockets:
            await socket.leave()
        else:
            socket.welcome["user"] = user
            sockets[gateway] = socket
        if len(sockets) == many:
            break
    caller.close()
    assert len(sockets) == many, "the kernel never chose one of the processes"
    return [sockets[gateway] for gateway in sorted(sockets)]


def gateway_of(service: GateService, user: str) -> str:
    with Resp(service) as resp:
        (found,) = resp.ask("GATE.SESSIONS", user)
    return str(dict(zip(found[::2], found[1::2], strict=True))[b"gateway"].decode())


def test_each_process_has_its_name_and_answers(service: GateService, callers: list[Caller]) -> None:
    assert sorted(http_pids(service)) == list(range(MANY))
    for caller in callers:
        assert caller.send("GET", "/readyz").body["ready"] is True
        page = caller.send("GET", "/metrics").body
        assert all(f'gate_role_up{{role="http-{index}"}} 1.0' in page for index in range(MANY))
        assert caller.v1("GET", "/v1/check?from=a&to=b").body["allowed"] is True


def test_a_write_through_one_process_counts_at_every_other(callers: list[Caller]) -> None:
    for number, caller in enumerate(callers):
        reply = caller.v1("POST", "/v1/bans", {"users": [f"banned-{number}"], "seconds": 600})
        assert reply.headers["X-Gate-Applied"] == "all"
        assert [other.v1("GET", f"/v1/check?from=banned-{number}&to=b").body["verdict"] for other in callers] == [
            "sender-banned"
        ] * MANY


def test_an_apps_rate_limit_is_one_for_the_node(service: GateService, callers: list[Caller]) -> None:
    app = f"/v1/apps/{service.credentials.app_key}"
    assert callers[0].as_operator("PATCH", app, {"rate_limits": {"v1/audit": 1}}).status == 200
    try:
        wait_until(lambda: callers[0].v1("GET", "/v1/audit").status == 429, PATIENCE_S, "the limit to be in force")
        began_s, passed = time.monotonic(), 0
        while (took_s := time.monotonic() - began_s) < LIMITED_S:
            passed += sum(caller.v1("GET", "/v1/audit").status == 200 for caller in callers)
        assert passed >= LIMITED_S / 2
        assert passed <= 1 + took_s + 1, "each process gave the whole limit"
    finally:
        callers[0].as_operator("PATCH", app, {"rate_limits": {}})


def test_wrong_passwords_count_together(callers: list[Caller]) -> None:
    tries = [
        callers[number % MANY].as_operator("GET", "/v1/apps", name="guessed", password=f"guess {number}").status
        for number in range(FREE_FAILURES + MANY)
    ]
    assert tries == [401] * FREE_FAILURES + [429] * MANY
    assert callers[0].as_operator("GET", "/v1/apps").status == 200, "another name is not kept out"


def test_a_nonce_of_a_strict_app_is_used_once_on_the_node(callers: list[Caller]) -> None:
    made = callers[0].as_operator("POST", "/v1/apps", {"name": "strict"}).body
    key, secret = made["app_key"], made["app_secret"]
    assert callers[0].as_operator("PATCH", f"/v1/apps/{key}", {"strict_signature": True}).status == 200
    headers = signature_headers(key, secret)
    statuses = [caller.send("POST", "/user/block/query.json", b"", headers).status for caller in (*callers, *callers)]
    assert statuses == [200, 401, 401, 401]


def test_a_sign_in_holds_at_every_process_and_so_does_its_end(service: GateService, callers: list[Caller]) -> None:
    first, second = callers
    form = first.send("GET", "/console/sign-in")
    known, origin = service.credentials, {"Origin": service.http, "Host": service.http.removeprefix("http://")}
    fields = {
        "name": known.operator,
        "password": known.operator_password,
        "form_token": re.findall(r'name="form_token" value="([^"]+)"', form.body)[0],
    }
    sent = {**origin, "Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie(form.headers)}
    signed_in = second.send("POST", "/console/sign-in", encoded(fields), sent)
    assert signed_in.status == 303, signed_in
    signed_in_cookie = {"Cookie": cookie(signed_in.headers)}
    pages = [caller.send("GET", "/console/", headers=signed_in_cookie) for caller in callers]
    assert [page.status for page in pages] == [200, 200]
    leaving = {"form_token": re.findall(r'name="form_token" value="([^"]+)"', pages[0].body)[0]}
    assert first.send("POST", "/console/sign-out", encoded(leaving), {**sent, **signed_in_cookie}).status == 303
    places = [caller.send("GET", "/console/", headers=signed_in_cookie) for caller in callers]
    assert [(page.status, "sign-in" in page.headers["Location"]) for page in places] == [(303, True)] * 2


def cookie(headers: object) -> str:
    assert isinstance(headers, dict)
    return str(headers["Set-Cookie"]).partition(";")[0]


def encoded(fields: dict[str, str]) -> bytes:
    return "&".join(f"{name}={quote_plus(value)}" for name, value in fields.items()).encode()


def _shows(caller: Caller, metric: str, wanted: float) -> bool:
    return figure(caller.send("GET", "/metrics").body, metric) == wanted


def test_metrics_are_summed_whichever_process_is_scraped(service: GateService, callers: list[Caller]) -> None:
    name = "gate_checks_total"
    before = figure(callers[0].send("GET", "/metrics").body, name)
    for caller in callers:
        for _ in range(10):
            caller.v1("GET", "/v1/check?from=a&to=b")
    for caller in callers:
        wait_until(partial(_shows, caller, name, before + 10 * MANY), PATIENCE_S, "the checks of all processes")
    assert figure(probed(service, "/metrics")[1], name) == before + 10 * MANY


async def test_kicks_and_events_reach_websockets_on_each_process(service: GateService) -> None:
    sockets = await connected_to_each(service, "kicked")
    users = [socket.welcome["user"] for socket in sockets]
    node = (service.data / "node-id").read_text().strip()
    assert [gateway_of(service, user) for user in users] == [f"websocket@{node}/{index}" for index in range(MANY)]
    assert service.resp_client().execute_command("GATE.ONLINE", *users) == [1] * MANY
    open_now = wait_until(lambda: figure(get(service, "/metrics")[1], "gate_websockets"), PATIENCE_S, "the gauge")
    assert open_now >= MANY
    with caller_of_each(service, MANY) as callers:
        assert callers[0].v1("POST", "/v1/bans", {"users": users, "seconds": 600}).status == 200
    for socket in sockets:
        said = (await socket.closed()).said
        assert said is not None and said["reason"] == "banned"

    async def all_gone() -> bool:
        return list(service.resp_client().execute_command("GATE.ONLINE", *users)) == [0] * MANY

    await wait_until_async(all_gone, PATIENCE_S, "their Sessions to end")


async def test_a_killed_process_takes_its_own_websockets_alone(service: GateService) -> None:
    counted = restarts(service, "http")
    killed, other = await connected_to_each(service, "alone")
    before = http_pids(service)
    os.kill(before[0], signal.SIGKILL)
    said = await killed.closed()
    assert said.code is None
    assert (await other.ask("ping"))["type"] == "pong"
    wait_until(lambda: http_pids(service).get(0, before[0]) != before[0], PATIENCE_S, "another process")
    wait_until(lambda: is_ready(service), PATIENCE_S, "the service to be whole again")
    assert http_pids(service)[1] == before[1]
    wait_until(lambda: restarts(service, "http") == counted + 1, PATIENCE_S, "the restart to be counted")
    assert (await other.ask("ping"))["type"] == "pong"
    assert service.resp_client().execute_command("GATE.ONLINE", other.welcome["user"]) == [1]
    await other.leave()


def test_probes_answer_while_every_http_process_hangs(service: GateService) -> None:
    wait_until(lambda: is_ready(service), PATIENCE_S, "the service to be whole")
    assert json.loads(probed(service, "/readyz")[1])["ready"] is True
    stopped = http_pids(service)
    for pid in stopped.values():
        os.kill(pid, signal.SIGSTOP)
    try:
        assert probed(service, "/healthz") == (200, '{"status":"ok"}')
        status, page = probed(service, "/metrics")
        assert (status, figure(page, "gate_http_requests_total") > 0) == (200, True)
        all_hang = {"ready": False, "missing": [f"http-{index}" for index in range(MANY)]}
        wait_until(lambda: json.loads(probed(service, "/readyz")[1]) == all_hang, PATIENCE_S, "the silence of both")
        assert probed(service, "/readyz")[0] == 503
    finally:
        for pid in stopped.values():
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: probed(service, "/readyz")[0] == 200, PATIENCE_S, "them to be heard again")
    assert readyz(service)[0] == 200
    assert probed(service, "/v1/check")[0] == 404


def test_a_probe_says_when_to_ask_again_and_answers_head(service: GateService) -> None:
    stopped = http_pids(service)[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        wait_until(lambda: probed(service, "/readyz")[0] == 503, PATIENCE_S, "the silence to be noticed")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://{probe_address(service)}/readyz", timeout=10)
        assert refused.value.headers["Retry-After"] == "1"
        head = urllib.request.Request(f"http://{probe_address(service)}/metrics", method="HEAD")
        with urllib.request.urlopen(head, timeout=10) as answer:
            assert (answer.status, answer.read()) == (200, b"")
            assert int(answer.headers["Content-Length"]) > 1_000
    finally:
        os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: is_ready(service), PATIENCE_S, "the service to be whole again")


async def test_all_processes_drain_at_a_stop(start_service: Services) -> None:
    service = start_service.start("--http-workers", "3")
    sockets = await connected_to_each(service, "drained", many=3)
    assert len(sockets) == 3
    os.kill(service.pid, signal.SIGTERM)
    for socket in sockets:
        ended = await socket.closed()
        assert ended.said is not None and ended.said["reason"] == "shutting-down"
    assert service.wait_exit() == 0
    assert "killed: it did not stop in time" not in service.output
