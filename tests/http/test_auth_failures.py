"""Failed attempts to sign in over HTTP: each is counted and logged by surface and reason, never with what was presented."""

from __future__ import annotations

import base64

import msgspec
import pytest
from prometheus_client import REGISTRY

from gate.auth_failures import AuthFailures
from gate.core.operators import Operator
from gate.http import auth
from gate.store.passwords import hash_password
from tests.http.world import World, basic, now_ms, signed

WORD = "never-shown"
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"x" * 16).decode(),
}


def pair(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


CASES: list[tuple[str, str, str, dict[str, str], bool]] = [
    ("http", "missing", "/v1/check?from=a&to=b", {}, False),
    ("http", "malformed", "/v1/check?from=a&to=b", {"Authorization": f"Basic {WORD}!"}, False),
    ("http", "malformed", "/v1/bans", bearer(WORD), False),
    ("http", "unknown-app", "/v1/bans", pair("stranger", WORD), False),
    ("http", "wrong-secret", "/v1/bans", pair("APP", WORD), True),
    ("http", "wrong-secret", "/v1/check?from=a&to=b", pair("APP", WORD), True),
    ("client", "missing", "/client/v1/blacklist", {}, False),
    ("client", "malformed", "/client/v1/blacklist", pair("APP", WORD), False),
    ("client", "bad-token", "/client/v1/blacklist", bearer(WORD), False),
    ("websocket", "missing", "/client/v1/connect", WEBSOCKET, False),
    ("websocket", "bad-token", f"/client/v1/connect?token={WORD}", WEBSOCKET, False),
    ("operator", "missing", "/v1/apps", {}, False),
    ("operator", "wrong-password", "/v1/apps", pair("root", WORD), False),
]


def counted(surface: str, reason: str) -> float:
    return REGISTRY.get_sample_value("gate_auth_failures_total", {"surface": surface, "reason": reason}) or 0.0


@pytest.mark.parametrize(("surface", "reason", "target", "headers", "is_of_app"), CASES)
async def test_each_is_counted_and_logged(
    world: World,
    surface: str,
    reason: str,
    target: str,
    headers: dict[str, str],
    is_of_app: bool,
    capsys: pytest.CaptureFixture[str],
    fresh: None,
) -> None:
    if headers == pair("APP", WORD):
        headers = pair(world.app.key, WORD)
    before = counted(surface, reason)
    capsys.readouterr()
    reply = await world.send("GET", target, headers=headers)
    assert reply.status == 401
    assert counted(surface, reason) == before + 1
    logged = "".join(capsys.readouterr())
    [line] = [line for line in logged.splitlines() if "auth-failed" in line]
    assert f"surface={surface}" in line and f"reason={reason}" in line and "peer=127.0.0.1" in line
    assert (f"app={world.app.key}" in line) == is_of_app
    assert WORD not in logged and headers.get("Authorization", "Bearer ~~").partition(" ")[2] not in line


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("missing", {"App-Key": ""}),
        ("unknown-app", {"App-Key": "stranger"}),
        ("wrong-signature", {"Signature": "0" * 40}),
        ("expired", {}),
        ("replayed", {}),
    ],
)
async def test_signatures(world: World, reason: str, change: dict[str, str], fresh: None) -> None:
    headers = {**signed(world.app, nonce=f"n-{reason}"), **change}
    if reason in ("expired", "replayed"):
        await world.set_app(msgspec.structs.replace(world.app, strict_signature=True, signature_window_s=60))
    if reason == "expired":
        headers = signed(world.app, timestamp=str(now_ms() - 3_600_000))
    before = counted("rongcloud", reason)
    for _ in range(1 + (reason == "replayed")):
        reply = await world.send("POST", "/user/block.json", b"", headers)
    assert reply.status in (400, 401)
    assert counted("rongcloud", reason) == before + 1


async def test_the_sign_in_page_and_the_throttle(world: World, fresh: None) -> None:
    wrong, throttled = counted("operator", "wrong-password"), counted("operator", "throttled")
    statuses = [(await world.send("GET", "/v1/apps", headers=pair("guessed", WORD))).status for _ in range(8)]
    assert set(statuses) == {401, 429}
    assert counted("operator", "wrong-password") == wrong + statuses.count(401)
    assert counted("operator", "throttled") == throttled + statuses.count(429)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second without lines so far."""
    monkeypatch.setattr(auth, "auth_failed", AuthFailures().note)


async def test_an_access_line_says_who_called(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await world.store.operators.add(
        Operator(name="rita", role="viewer", password_hash=hash_password(WORD), created_at_ms=now_ms())
    )
    token = (await world.v1("POST", "tokens", {"user": "carol-hidden"})).body["token"]
    capsys.readouterr()
    await world.v1("GET", "users/alice-hidden/dossier")
    await world.v1("GET", "users/carol-hidden")
    await world.user("block/query.json")
    await world.send("GET", "/v1/check?from=a&to=b", headers=basic(world.app))
    await world.send("GET", "/client/v1/blacklist", headers=bearer(token))
    await world.send("GET", "/v1/apps", headers=pair("rita", WORD))
    await world.send("GET", "/hidden/path")
    await world.send("POST", "/message/hidden.json", headers=signed(world.app))
    await world.send("GET", "/console/hidden/online")
    logged = "".join(capsys.readouterr())
    lines = [line for line in logged.splitlines() if "request_id=" in line]
    app = f"app={world.app.key} "
    expected = [
        (app, "path=/v1/users/{user}/dossier "),
        (app, "path=/v1/users/{user} "),
        (app, "path=/user/block/query.json "),
        (app, "path=/v1/check "),
        (app, "path=/client/v1/blacklist "),
        ("operator=rita ", "path=/v1/apps "),
        ("", "path=unknown "),
        (app, "path=unsupported "),
        ("", "path=/console/{app}/online "),
        ("", "path=/console/sign-in "),
    ]
    assert len(lines) == len(expected)
    for line, (who, path) in zip(lines, expected, strict=True):
        assert who in f"{line} " and path in f"{line} " and "peer=127.0.0.1" in line, line
        assert who or ("app=" not in line and "operator=" not in line), line
    assert "hidden" not in logged
