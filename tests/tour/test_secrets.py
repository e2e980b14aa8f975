"""No output holds a secret: after a tour of the whole product, all its output is searched for every secret of the tour.

Searched: the log at its most talkative, the metrics, the probes, the titles of all processes, what RESP says of the service,
the audit, every answer over HTTP and of the command line but the few that hand out something new.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gate.core.app_secrets import digest_of
from gate.core.token import signing_key
from harness.ports import LOOPBACK
from harness.processes import family
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.signing import signature_headers
from harness.waiting import wait_until
from harness.websocket import PATH as CONNECT
from harness.websocket import Refused, connect
from tests.cli.command import Command
from tests.service.running import is_ready, kill

REDIS_PASSWORD = "redis-password-" + secrets.token_hex(8)
FORM = "application/x-www-form-urlencoded"
MIN_SECRET_CHARS = 8


class Tour:
    """The outputs so far, with their places; and the secrets that none of them may hold."""

    def __init__(self, service: GateService) -> None:
        self.service = service
        self.outputs: list[tuple[str, str]] = []
        self.secrets: dict[str, str] = {}

    def met(self, what: str, secret: str) -> str:
        """Note a secret."""
        assert len(secret) >= MIN_SECRET_CHARS, what
        self.secrets[secret] = what
        return secret

    def http(
        self,
        method: str,
        path: str,
        body: str | None = None,
        headers: Mapping[str, str] = {},
        *,
        hands_out: bool = False,
    ) -> Any:
        """One call; its answer is searched unless it is one that hands out something new."""
        request = urllib.request.Request(
            self.service.http + path, None if body is None else body.encode(), dict(headers), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                text, shown = response.read().decode(), str(response.headers)
        except urllib.error.HTTPError as error:
            text, shown = error.read().decode(), str(error.headers)
        self.outputs.append((f"{method} {path}", shown if hands_out else shown + text))
        return json.loads(text) if text.startswith(("{", "[")) else text

    def signed(self, path: str, body: str, key: str, secret: str, *, hands_out: bool = False) -> Any:
        """A call of RongCloud's API. The signature is a secret too: without `strict_signature` it can be used again."""
        headers = signature_headers(key, secret)
        self.met("a signature", headers["Signature"])
        return self.http("POST", path, body, headers, hands_out=hands_out)

    def basic(self, method: str, path: str, pair: str, body: Any = None, *, hands_out: bool = False) -> Any:
        """A call with HTTP Basic."""
        encoded = self.met("Basic credentials", base64.b64encode(pair.encode()).decode())
        headers = {"Authorization": f"Basic {encoded}", "Content-Type": "application/json"}
        return self.http(method, path, None if body is None else json.dumps(body), headers, hands_out=hands_out)

    def leaks(self) -> Iterator[str]:
        """Where a secret stands, by what it is."""
        for place, text in self.outputs:
            for secret, what in self.secrets.items():
                if secret in text or urllib.parse.quote(secret, safe="") in text:
                    yield f"{what} in {place}: {text[:400]!r}"


@pytest.fixture
def service(private_redis: RedisServer, start_service: Services) -> GateService:
    """A node whose Redis takes a password, and that logs all it can."""
    private_redis.client.execute_command("ACL", "SETUSER", "gate", "on", f">{REDIS_PASSWORD}", "~*", "&*", "+@all")
    address = f"redis://gate:{REDIS_PASSWORD}@{LOOPBACK}:{private_redis.port}/0"
    return start_service.start(env={"GATE_REDIS": address, "GATE_LOG_LEVEL": "debug"}, workers=1)


def test_no_output_holds_a_secret(service: GateService) -> None:
    tour = Tour(service)
    tour.met("Redis's password", REDIS_PASSWORD)
    credentials = service.credentials
    key = credentials.app_key
    first = tour.met("the App's first secret", credentials.app_secret)
    admin = f"{credentials.operator}:{tour.met('the operator password', credentials.operator_password)}"
    current = apps_over_http(tour, key, first, admin)
    keys_with_scopes(tour, key, admin)
    users_over_http(tour, key, current, f"{key}:{current}")
    asyncio.run(on_the_websocket(tour, f"{key}:{current}"))
    that_is_no_http(tour)
    on_resp(tour, key, current)
    on_the_command_line(tour, key, current)
    kill(service, "http")
    kill(service, "replicator")
    wait_until(lambda: is_ready(service), 30, "the service to be whole again")
    everything_it_says_of_itself(tour, f"{key}:{current}")
    assert len(tour.secrets) > 20 and len(tour.outputs) > 50
    assert list(tour.leaks()) == []


def apps_over_http(tour: Tour, key: str, first: str, admin: str) -> str:
    """Apps and their secrets by an operator, right and wrong; the secret that is current in the end."""
    made = tour.basic("POST", "/v1/apps", admin, {"name": "another"}, hands_out=True)
    tour.met("another App's secret", made["app_secret"])
    rotated = tour.basic("POST", f"/v1/apps/{key}/rotate-secret", admin, {"reason": "a tour"}, hands_out=True)
    current = tour.met("the App's new secret", rotated["app_secret"])
    for secret in (first, current):
        tour.met("a Token key", signing_key(secret).hex())
    given = tour.met("a secret that is refused", "a secret with spaces")
    for body in (
        {"name": "x", "secret": given},
        {"name": "x", "secrets": [given]},
        {"name": "x", "key": 7, "secret": [given]},
    ):
        tour.basic("POST", "/v1/apps", admin, body)
    tour.basic("POST", f"/v1/apps/{key}/rotate-secret", admin, {"secret": given})
    tour.basic("PATCH", f"/v1/apps/{key}", admin, {"secrets": [given], "token_keys": [given]})
    tour.basic("PATCH", f"/v1/apps/{key}", admin, {"webhook_url": f"https://user:{given.replace(' ', '-')}@a.example/"})
    tour.basic("POST", f"/v1/apps/{key}/drop-secret", admin, {"keep_tokens": True})
    tour.basic("GET", "/v1/apps", admin)
    tour.basic("GET", f"/v1/apps/{key}", admin)
    for pair in (f"admin:{tour.met('a mistyped password', 'mistyped-password')}", f"{key}:{current}"):
        tour.basic("GET", "/v1/apps", pair)
    tour.basic("DELETE", f"/v1/apps/{made['app_key']}", admin)
    return current


def keys_with_scopes(tour: Tour, key: str, admin: str) -> None:
    """A key that is made, used where it may and may not be, rotated, shown and removed."""
    at = f"/v1/apps/{key}/keys"
    body = {"name": "router-1", "scopes": ["check"], "secret": tour.met("a key's own secret", "own-secret-of-the-key")}
    tour.basic("POST", at, admin, body, hands_out=True)
    tour.basic("POST", at, admin, body)
    made = tour.basic("POST", f"{at}/router-1/rotate", admin, {}, hands_out=True)
    for secret in (body["secret"], tour.met("a key's new secret", made["secret"])):
        tour.met("a key's digest", digest_of(str(secret).encode()))
        for path in ("/v1/check?from=ann&to=bob", "/v1/bans", "/v1/apps"):
            tour.basic("GET", path, f"{key}:{secret}")
        tour.signed("/user/info.json", "userId=ann", key, str(secret))
        on_resp(tour, key, str(secret), "GATE.ONLINE", "ann")
    tour.basic("GET", at, admin)
    tour.basic("GET", f"/v1/apps/{key}", admin)
    tour.basic("POST", f"{at}/router-1/rotate", admin, {"finish": True})
    gate = Command(tour.service.data, key, redis_address(tour))
    for arguments in (("list", key), ("list", key, "--json"), ("remove", key, "router-1"), ("remove", key, "router-1")):
        result = gate("app", "key", *arguments, status=None)
        tour.outputs.append((f"app key {arguments[0]}", result.out + result.err))
    tour.basic("GET", "/v1/deployment-audit", admin)


def users_over_http(tour: Tour, key: str, secret: str, app: str) -> None:
    """User management with all three kinds of credentials, right and wrong."""
    answer = tour.signed("/user/getToken.json", "userId=ann&name=Ann", key, secret, hands_out=True)
    token = tour.met("a Token", answer["token"])
    calls = (
        ("block.json", "userId=bob&minute=1"),
        ("info.json", "userId=ann"),
        ("token/expire.json", "userId=ann&time=1"),
    )
    for path, body in calls:
        tour.signed(f"/user/{path}", body, key, secret)
        tour.signed(f"/user/{path}", body, key, tour.met("a mistyped secret", "mistyped-secret"))
        tour.signed(f"/user/{path}", body + f"&secret={secret}&userId={token}", key, secret)
    for path in ("tag/set.json", "nothing.json", f"nothing.json?token={token}"):
        tour.signed(f"/user/{path}", "userId=ann", key, secret)
    for pair in (app, f"{key}:mistyped-secret", f"{key}x:{secret}"):
        for path in ("check?from=ann&to=bob", "users/ann", "users/ann/dossier", "audit", "bans"):
            tour.basic("GET", f"/v1/{path}", pair)
        tour.basic("POST", "/v1/bans", pair, {"users": ["bob"], "seconds": 60, "reason": "a tour", "actor": "me"})
    for shown in (token, token[:-2], token + "x", "gt1." + token[4:][::-1]):
        tour.met("a Token, or nearly", shown)
        tour.http("GET", "/client/v1/blacklist", headers={"Authorization": f"Bearer {shown}"})
        tour.http("GET", f"{CONNECT}?token={shown}")
        tour.http("GET", f"/client/v1/blacklist?token={shown}&x=1", headers={"Authorization": shown})


async def on_the_websocket(tour: Tour, app: str) -> None:
    """A browser's client with its Token in the query: accepted, asking, disconnected; and refused in every way."""
    url = tour.service.http
    token = tour.basic("POST", "/v1/tokens", app, {"user": "wes"}, hands_out=True)["token"]
    tour.met("a Token in a query", token)
    client = await connect(url, token_in_query=token, platform="Web")
    tour.outputs.append(("welcome", json.dumps(client.welcome)))
    for asked in (
        {"kind": "ping"},
        {"kind": "presence", "users": ["ann", ""]},
        {"kind": "blacklist"},
        {"kind": "shout"},
    ):
        tour.outputs.append((f"an answer to {asked}", json.dumps(await client.ask(**asked))))
    tour.basic("POST", "/v1/bans", app, {"users": ["wes"], "seconds": 60})
    tour.outputs.append(("the reason of the disconnect", str(await client.closed())))
    client.drop()
    for shown in (token, token[:-2], token + "x", token.replace("gt1.", "gt1.%")):
        tour.met("a Token, or nearly", shown)
        for more in ({}, {"platform": "a b"}, {"headers": {"Sec-WebSocket-Version": "9"}}):
            try:
                await connect(url, token_in_query=shown, **more)
            except Refused as refused:
                tour.outputs.append((f"a refusal of {more}", str(refused)))
            else:
                pytest.fail("none of these may connect")


def that_is_no_http(tour: Tour) -> None:
    """Requests that break off where the Token is, or that HTTP's parser refuses: it would quote them where it complains."""
    token = tour.met("a Token in a broken request", "gt1." + secrets.token_urlsafe(60))
    target = f"{CONNECT}?token={token}"
    port = int(tour.service.http.rpartition(":")[2])
    for text in (
        f"GET {target} HTTP/9.9\r\n\r\n",
        f"GET {target}\r\n\r\n",
        f"G@T {target} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET {target} and more HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer {token}\r\n\r\n",
        f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\0\r\n\r\n",
        f"GET {target}&more={'x' * 100_000} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET http://[{target} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {token}\r\n\r\n",
        f"GET {target}",
    ):
        with socket.create_connection((LOOPBACK, port), timeout=10) as peer:
            peer.sendall(text.encode())
            peer.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while piece := peer.recv(65_536):
                    answer += piece
            except ConnectionResetError:
                pass
        tour.outputs.append((f"the answer to {text[:4]}…{text[-40:]}", answer.decode(errors="replace")))


def on_resp(tour: Tour, key: str, secret: str, *more: str) -> None:
    """A router that logs in, and one that mistypes; with one more command."""
    for given in (secret, "mistyped-secret"):
        client = redis.Redis(host=LOOPBACK, port=tour.service.resp_port, protocol=3, retry=Retry(NoBackoff(), 0))
        for command in (
            ("AUTH", key, given),
            ("HELLO", "3", "AUTH", key, given),
            ("AUTH", key, given, given),
            ("INFO",),
            *([more] if more else []),
        ):
            try:
                tour.outputs.append((f"RESP {command[0]}", str(client.execute_command(*command))))
            except redis.RedisError as error:
                tour.outputs.append((f"RESP {command[0]}", str(error)))
        client.close()


def on_the_command_line(tour: Tour, key: str, secret: str) -> None:
    """An operator on the node. What hands out something new is not searched, and what it handed out is."""
    gate = Command(tour.service.data, key, redis_address(tour))
    password = gate.json("operator", "add", "olga", "--role", "viewer")["password"]
    tour.met("a made-up password", password)
    tour.basic("GET", "/v1/apps", f"olga:{password}")
    tour.met("a Token of the command line", gate("user", "token", "cleo").out.split()[-1])
    typed = tour.met("a typed password", "typed-password-1")
    for arguments in (
        ("operator", "passwd", "olga", "--password-stdin"),
        ("operator", "add", "no:good", "--password-stdin"),
        ("operator", "list"),
        ("app", "list", "--json"),
        ("app", "show", key, "--json"),
        ("app", "rotate-secret", key, "--drop-old"),
        ("ban", "bob", "--permanent", "--reason", "a tour"),
        ("export",),
        ("audit", "--json"),
        ("doctor",),
        ("replica", "status", "--json"),
    ):
        result = gate(*arguments, stdin=typed.encode() + b"\n", status=None)
        tour.outputs.append((" ".join(arguments), result.out + result.err))
    refused = gate("app", "create", "x", "--secret", "a secret with spaces", status=2)
    tour.outputs.append(("app create", refused.out + refused.err))


def redis_address(tour: Tour) -> str:
    """As the service was given it."""
    found = re.search(rb"GATE_REDIS=([^\0]+)", Path(f"/proc/{tour.service.pid}/environ").read_bytes())
    assert found is not None
    return found[1].decode()


def everything_it_says_of_itself(tour: Tour, app: str) -> None:
    """The log, the metrics, the probes, the titles of processes, the audit."""
    for path in ("/metrics", "/healthz", "/readyz", "/openapi.json", "/docs"):
        tour.http("GET", path)
    tour.basic("GET", "/v1/audit", app)
    for process in family(tour.service.pid):
        tour.outputs.append((f"the title of {process.pid}", process.command))
        tour.outputs.append((f"the name of {process.pid}", Path(f"/proc/{process.pid}/comm").read_text()))
    for log in [tour.service.output_path, *tour.service.data.rglob("*.log")]:
        tour.outputs.append((str(log), log.read_text(errors="replace")))
    assert "request" in tour.service.output
    assert re.search(rf"event=request .*path={CONNECT} status=101", tour.service.output)  # the log has these requests
