"""The sample configurations of proxies: each checked by its program, and real requests through it to a real `gate serve`."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

import pytest
import redis
import yaml
from aiohttp import ClientSession, TCPConnector

from gate.http.bodies import MAX_BATCH_BYTES
from harness.ports import LOOPBACK
from harness.service import GateService, Services
from harness.signing import signature_headers
from tests.deploy.files import DEPLOY, REPOSITORY
from tests.deploy.proxies import Proxy, running_proxy
from tests.http.event_stream import EventStream

CLIENT = "127.0.0.2"
"""The address that the tests connect from; the proxy connects to Gate from 127.0.0.1."""
PROXIES = ("nginx", "haproxy")
SOON_S = 10.0
REFUSED = (
    "/",
    "/metrics",
    "//metrics",
    "/%6detrics",
    "/%2Fmetrics",
    "/./metrics",
    "/client/../metrics",
    "/client/./../metrics",
    "/user/../metrics",
    "//user/../metrics",
    "/client//../metrics",
    "/client/..",
    "/console",
    "/console/",
    "/console/sign-in",
    "//console/",
    "/Console/",
    "/docs",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/v1",
    "/v1/",
    "/v1/apps",
    "/v1/apps/",
    "/v1/apps?a=/v1/check",
    "/v1/apps/default/rotate-secret",
    "/v1/%61pps",
    "/v1/check/../apps",
    "/v1//apps",
    "//v1/apps",
    "/v1/deployment-audit",
    "/nowhere?/client/",
    "/xclient/",
    "/user",
)
"""As they are sent, byte by byte."""
PUBLIC = (
    "/v1/check?from=a&to=b",
    "/v1/users/a%2Fb/dossier",
    "/v1/events",
    "/client/",
    "/client/v1/connect",
    "/client/v1/presence",
    "/user/getToken.json",
    "//user/getToken.json",
    "/user//getToken.json",
)


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    return start_module_service.start("--trusted-proxies", LOOPBACK)


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, service: GateService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with running_proxy(request.param, tmp_path_factory.mktemp(request.param), service) as running:
        yield running


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[ClientSession]:
    """Of the proxy, from another address than the proxy's own; any certificate is accepted."""
    connector = TCPConnector(ssl=False, local_addr=(CLIENT, 0))
    async with ClientSession(f"https://{LOOPBACK}:{proxy.https}", connector=connector) as session:
        yield session


def basic(service: GateService) -> dict[str, str]:
    pair = f"{service.credentials.app_key}:{service.credentials.app_secret}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


async def token(client: ClientSession, service: GateService, user: str) -> str:
    known = service.credentials
    headers = signature_headers(known.app_key, known.app_secret)
    reply = await client.post("/user/getToken.json", data={"userId": user, "name": user}, headers=headers)
    body = await reply.json(content_type=None)
    assert (reply.status, body["code"]) == (200, 200), body
    return str(body["token"])


async def test_a_check_and_a_signed_call_pass(client: ClientSession, service: GateService) -> None:
    assert await token(client, service, "ann")
    reply = await client.get("/v1/check?from=ann&to=bob", headers=basic(service))
    assert reply.status == 200 and (await reply.json())["allowed"] is True
    assert reply.headers["Strict-Transport-Security"]


async def test_a_websocket_opens_and_a_session_has_the_clients_address(
    client: ClientSession, service: GateService
) -> None:
    headers = {"Authorization": f"Bearer {await token(client, service, 'ann')}"}
    forged = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Forwarded-User": "root"}
    async with client.ws_connect("/client/v1/connect?platform=Web", headers=headers | forged) as websocket:
        welcome = await asyncio.wait_for(websocket.receive_json(), SOON_S)
        reply = await client.get("/v1/users/ann/sessions", headers=basic(service))
        [session] = (await reply.json())["sessions"]
        assert (session["session"], session["ip"]) == (welcome["session"], CLIENT)


async def test_events_arrive_one_by_one(client: ClientSession, service: GateService) -> None:
    headers = {"Authorization": f"Bearer {await token(client, service, 'eve')}"}
    async with client.get("/v1/events", headers=basic(service)) as response:
        stream = EventStream(response)
        await stream.frame()
        async with client.ws_connect("/client/v1/connect?platform=Web", headers=headers):
            assert await kind_of_next(stream, "eve") == "online"
        assert await kind_of_next(stream, "eve") == "offline"


async def kind_of_next(stream: EventStream, user: str) -> str:
    """The next event about this User; clients of other tests may have just left."""
    while (event := await stream.event()).data.get("user") != user:
        pass
    return event.event


async def test_other_paths_are_refused_by_the_proxy(proxy: Proxy) -> None:
    for target in REFUSED:
        status, headers, _ = await asyncio.to_thread(sent, proxy.https, target)
        assert status in (400, 404), (target, status)
        assert "x-request-id" not in headers, (target, "reached Gate")


async def test_public_paths_reach_gate(proxy: Proxy) -> None:
    for target in PUBLIC:
        _, headers, _ = await asyncio.to_thread(sent, proxy.https, target)
        assert "x-request-id" in headers, target


async def test_no_body_is_larger_than_gate_accepts(proxy: Proxy) -> None:
    most = await asyncio.to_thread(sent, proxy.https, "/v1/check", f"Content-Length: {MAX_BATCH_BYTES + 1}", "POST")
    assert most[0] == 413 and "x-request-id" not in most[1]


async def test_plain_text_is_refused(proxy: Proxy) -> None:
    status, headers, _ = await asyncio.to_thread(sent, proxy.plain, "/v1/check", is_tls=False)
    assert status == 403 and "x-request-id" not in headers


async def test_a_token_in_an_address_is_not_logged(client: ClientSession, proxy: Proxy) -> None:
    async with client.get("/client/v1/connect?token=t0ken-in-the-query") as response:
        assert response.status == 426
    status, _, _ = await asyncio.to_thread(sent, proxy.https, "/client/marked-path")
    logged = "".join(
        file.read_text() for file in proxy.log.parent.iterdir() if file.name == "output" or file.suffix == ".log"
    )
    assert status == 404 and "/client/marked-path" in logged and "t0ken" not in logged


@pytest.mark.parametrize("proxy", ["haproxy"], indirect=True)
async def test_haproxy_serves_resp_over_tls(proxy: Proxy, service: GateService) -> None:
    assert proxy.resp is not None
    known = service.credentials
    with redis.Redis(
        host=LOOPBACK, port=proxy.resp, username=known.app_key, password=known.app_secret, ssl=True,
        ssl_cert_reqs="none", ssl_check_hostname=False, socket_timeout=SOON_S,
    ) as router:  # fmt: skip
        assert router.execute_command("GATE.CHECK", "ann", "bob") == 1


def envoy_route(target: str) -> str:
    """What Envoy does with a path: the cluster, or the status of its own answer. It matches without the query."""
    conf = yaml.safe_load((DEPLOY / "proxies" / "envoy.yaml").read_text())
    [http] = conf["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
    settings = http["typed_config"]
    assert (settings["normalize_path"], settings["merge_slashes"]) == (False, False)
    assert settings["path_with_escaped_slashes_action"] == "KEEP_UNCHANGED"
    path = target.partition("?")[0]
    for route in settings["route_config"]["virtual_hosts"][0]["routes"]:
        match = route["match"]
        pattern = match.get("safe_regex", {}).get("regex") or re.escape(match.get("path") or match["prefix"])
        if re.fullmatch(pattern + (".*" if "prefix" in match else ""), path):
            return str(route["route"]["cluster"] if "route" in route else route["direct_response"]["status"])
    return "none"


def test_envoy_routes_the_same_paths() -> None:
    """Debian has no Envoy to run: its routes are read as it reads them, the first match first."""
    assert {target: envoy_route(target) for target in REFUSED} == dict.fromkeys(REFUSED, "404")
    assert {target: envoy_route(target) for target in PUBLIC} == dict.fromkeys(PUBLIC, "gate")


def test_every_sample_strips_the_headers_that_gate_believes() -> None:
    for file in (DEPLOY / "proxies").iterdir():
        text = file.read_text().lower()
        assert all(name in text for name in ("x-forwarded-for", "forwarded", "x-forwarded-user", "x-forwarded-groups"))


def test_the_page_names_every_sample_and_every_refused_part() -> None:
    page = (REPOSITORY / "docs" / "reverse-proxies.md").read_text()
    assert all(f"deploy/proxies/{file.name}" in page for file in (DEPLOY / "proxies").iterdir())
    assert all(f"`{path}`" in page for path in ("/user/", "/client/", "/v1/apps", "/console/", "/metrics"))


def sent(
    port: int, target: str, header: str = "Accept: */*", method: str = "GET", *, is_tls: bool = True
) -> tuple[int, dict[str, str], str]:
    """Status, headers and the beginning of the body, for a request target that no client library changes."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((LOOPBACK, port), SOON_S) as plain:
        line = plain if not is_tls else context.wrap_socket(plain)
        with line:
            line.sendall(f"{method} {target} HTTP/1.1\r\nHost: im.example.com\r\n{header}\r\n\r\n".encode())
            answer = line.recv(65_536).decode("latin-1")
    head, _, body = answer.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
    return HTTPStatus(int(status.split()[1])), headers, body
