"""`gate --url`: the same command on a node and from elsewhere prints the same, and what goes wrong is said in words."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gate.cli.online import pairs_of
from gate.cli.remote import PASSWORD, PASSWORD_FILE
from gate.service.embedded import socket_path, socket_url
from harness.ports import free_port
from harness.service import GateService, Services
from harness.tls import Authority
from tests.cli.command import Command, Result
from tests.cli.test_presence import LONG_LEASE, Edges
from tests.cli.test_presence import edges as edges

OF_THE_CALL = {"revision", "now", "stale_ms", "age_ms", "applied", "at", "by", "request_id", "address", "expires_at"}
"""Members that differ between any two calls."""


class Tls(NamedTuple):
    """The authority of the service's certificate, and where it is reached over TLS."""

    authority: Authority
    url: str


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(Authority(tmp_path_factory.mktemp("tls")), f"https://127.0.0.1:{free_port()}")


@pytest.fixture(scope="module")
def service(start_module_service: Services, tls: Tls) -> GateService:
    shown = tls.authority.issue("node")
    return start_module_service.start(
        *LONG_LEASE,
        *("--http-tls", tls.url.removeprefix("https://")),
        *("--tls-cert", str(shown.certificate), "--tls-key", str(shown.key)),
    )


class Afar(Command):
    """The command with nothing but an address, a name, a password and an App."""

    def __init__(self, url: str, operator: str, password: str, app: str, nowhere: Path) -> None:
        super().__init__(nowhere, app)
        self.env |= {"GATE_URL": url, "GATE_OPERATOR": operator, PASSWORD: password}


@pytest.fixture
def afar(service: GateService, gate: Command, tmp_path: Path) -> Afar:
    """The same App as `gate`, from elsewhere."""
    known = service.credentials
    assert gate.app is not None
    return Afar(service.http, known.operator, known.operator_password, gate.app, tmp_path / "none")


def shown(value: Any) -> Any:
    """The document without what differs between two calls."""
    if isinstance(value, dict):
        return {name: shown(one) for name, one in value.items() if name not in OF_THE_CALL}
    return [shown(one) for one in value] if isinstance(value, list) else value


def both(gate: Command, afar: Command, *call: str, status: int = 0) -> Any:
    """One call at both: the exit status, the document and the text are the same."""
    here, there = (one(*call, "--json", status=status) for one in (gate, afar))
    documents = [shown(one.json) if one.out else None for one in (here, there)]
    assert documents[0] == documents[1]
    return documents[1]


def same_text(gate: Command, afar: Command, *call: str, status: int = 0) -> str:
    here, there = (one(*call, status=status) for one in (gate, afar))
    assert (here.out, here.err) == (there.out, there.err)
    return there.out


def test_checks(gate: Command, afar: Command) -> None:
    assert same_text(gate, afar, "check", "ann", "bob") == "allowed\n"
    gate("ban", "ann", "--until", "2099-01-01T00:00:00Z")
    assert both(gate, afar, "check", "ann", "bob", status=1)["verdict"] == "sender-banned"
    assert "sender-banned" in same_text(gate, afar, "explain", "ann", "bob", status=1)
    assert both(gate, afar, "explain", "bob", "ann")["allowed"] is True
    assert "Revision" in afar("check", "a", "b", "--min", "0:0123456789abcdef:1", status=3).err


@pytest.mark.parametrize(("ban", "unban", "bans"), [("ban", "unban", "bans"), ("mute", "unmute", "mutes")])
def test_bans_and_mutes(gate: Command, afar: Command, ban: str, unban: str, bans: str) -> None:
    assert same_text(gate, afar, bans).startswith("no User is ")
    end = ("--until", "2099-01-01T00:00:00Z", "--reason", "spam", "--actor", "joe")
    assert both(gate, afar, ban, "ann", "été", *end)["users"] == ["ann", "été"]
    assert "without end" in same_text(gate, afar, ban, "eve", "--permanent")
    assert len(both(gate, afar, bans)[bans]) == 3
    assert both(gate, afar, bans, "--limit", "2")["cut"] is True
    assert "never" in same_text(gate, afar, bans)
    gone = afar.json(unban, "ann", "zoe")
    assert (gone["users"], gone["applied"]) == (["ann", "zoe"], "all")
    assert [one for name, one in gone.items() if name.startswith("not_")] == [["zoe"]]
    assert both(gate, afar, unban, "ann")["users"] == ["ann"]


def test_lists(gate: Command, afar: Command) -> None:
    for noun in ("blacklist", "whitelist"):
        both(gate, afar, noun, "add", "ann", "eve", "bob", "--until", "2099-01-01T00:00:00Z")
        same_text(gate, afar, noun, "add", "ann", "joe")
        assert len(both(gate, afar, noun, "list", "ann")["entries"]) == 3
        assert "2099" in same_text(gate, afar, noun, "list", "ann")
        both(gate, afar, noun, "contains", "ann", "eve", "zoe", status=1)
        assert afar.json(noun, "remove", "ann", "eve", "zoe")["not_listed"] == ["zoe"]
        assert both(gate, afar, noun, "remove", "ann", "eve")["not_listed"] == ["eve"]
    assert both(gate, afar, "whitelist", "on", "ann")["on"] is True
    same_text(gate, afar, "whitelist", "off", "ann")


def test_users(gate: Command, afar: Command) -> None:
    assert both(gate, afar, "user", "add", "ann", "bob", "--name", "Ann")["users"] == ["ann", "bob"]
    gate("ban", "ann", "--permanent")
    assert both(gate, afar, "user", "info", "ann")["banned_until"] is None
    assert "without end" in same_text(gate, afar, "user", "info", "ann")
    same_text(gate, afar, "user", "info", "zoe", status=1)
    assert both(gate, afar, "user", "refresh", "bob", "--portrait", "https://a.example/b")["user"] == "bob"
    assert both(gate, afar, "user", "list", "--newest", "--limit", "1")["cut"] is True
    assert "of 2 Users" in same_text(gate, afar, "user", "list", "--limit", "1")
    minted = afar.json("user", "token", "cid")
    assert minted["token"].startswith("gt1.") and minted["user"] == "cid"
    assert both(gate, afar, "user", "expire", "cid")["users"] == ["cid"]
    assert afar.json("user", "delete", "cid", "--yes")["users"] == ["cid"]
    assert both(gate, afar, "user", "list")["total"] == 2


def test_presence(gate: Command, afar: Command) -> None:
    both(gate, afar, "online")
    same_text(gate, afar, "online")
    both(gate, afar, "online", "ann", "bob", status=1)
    assert "never seen" in same_text(gate, afar, "online", "ann", status=1)
    assert both(gate, afar, "online", "--history")["every_ms"] == 15_000
    same_text(gate, afar, "sessions", "ann", status=1)
    both(gate, afar, "sessions", "ann", status=1)
    both(gate, afar, "gateways")
    assert both(gate, afar, "kick", "ann", status=1)["closed"] == 0


def test_presence_of_live_sessions(service: GateService, gate: Command, afar: Command, edges: Edges) -> None:
    redis = socket_url(socket_path(service.data / "redis"))
    first, second = edges(redis, gate.app), edges(redis, gate.app, b"edge-2")
    session = first.open(b"ann")
    first.open(b"ann", "Web")
    second.open(b"ann", "Web")
    second.open(b"bob")
    first.sample()
    assert both(gate, afar, "online")["by_platform"] == {"iOS": 2, "Web": 2}
    same_text(gate, afar, "online")
    assert len(both(gate, afar, "online", "ann", "bob")["presence"][0]["platforms"]) == 2
    same_text(gate, afar, "online", "ann", "bob")
    assert both(gate, afar, "online", "--history")["samples"]
    assert "edge-2" in same_text(gate, afar, "sessions", "ann")
    assert len(both(gate, afar, "sessions", "ann")["sessions"]) == 3
    assert [one["sessions"] for one in both(gate, afar, "gateways")["gateways"]] == [2, 2]
    assert "session: is of ann" in afar("kick", "bob", "--session", session, status=2).err
    assert afar.json("kick", "ann", "--session", session, "--reason", "test") == {"user": "ann", "closed": 1}
    assert afar("kick", "ann").out == "2 Sessions of ann closed\n"
    assert gate("audit").out == afar("audit").out


def test_numbers_by_platform_and_gateway_are_kept() -> None:
    pairs = pairs_of({"by_platform": {"iOS": 5, "Web": 2}, "by_gateway": {"a": 4, "b": 3}})
    assert sum(many for (_, platform), many in pairs.items() if platform == "iOS") == 5
    assert sum(many for (gateway, _), many in pairs.items() if gateway == b"b") == 3
    assert sum(pairs.values()) == 7


def test_the_audit(gate: Command, afar: Command) -> None:
    afar("ban", "ann", "--permanent", "--reason", "spam", "--actor", "joe")
    gate("blacklist", "add", "ann", "eve", "bob", "--until", "2099-01-01T00:00:00Z")
    gate("whitelist", "on", "ann")
    gate("user", "expire", "ann")
    gate("kick", "ann", status=1)
    assert gate.app is not None
    afar("app", "set", gate.app, "--name", "Other", "--reason", "a test")
    assert gate.json("audit") == afar.json("audit")
    assert gate("audit", "--limit", "3").out == afar("audit", "--limit", "3").out
    assert gate.json("audit", "--user", "ann") == afar.json("audit", "--user", "ann")
    by = next(one for one in afar.json("audit")["entries"] if one["what"] == "ban-imposed")
    assert (by["by"]["kind"], by["actor"], by["reason"]) == ("operator", "joe", "spam")
    assert gate("audit", "--deployment", "--to", "1").out == afar("audit", "--deployment", "--to", "1").out
    assert afar.json("audit", "--deployment", "--limit", "2")["entries"]


def test_apps_and_keys(gate: Command, afar: Command) -> None:
    key = gate.app
    assert key is not None
    assert key in [one["key"] for one in both(gate, afar, "app", "list")["apps"]]
    assert key in same_text(gate, afar, "app", "list")
    assert both(gate, afar, "app", "set", key, "--exempt", "boss", "--user-limit", "default")["app_key"] == key
    same_text(gate, afar, "app", "set", key, "--exempt", "head", "--unexempt", "boss")
    assert both(gate, afar, "app", "show", key)["exempt"] == ["head"]
    same_text(gate, afar, "app", "show", key)
    made = afar.json("app", "key", "add", key, "router", "--scope", "check,presence")
    assert made["scopes"] == ["check", "presence"] and len(made["secret"]) >= 20
    assert both(gate, afar, "app", "key", "list", key)["keys"][0]["name"] == "router"
    assert afar.json("app", "key", "rotate", key, "router")["secret_count"] == 2
    assert both(gate, afar, "app", "key", "rotate", key, "router", "--finish")["secret_count"] == 1
    same_text(gate, afar, "app", "key", "list", key)
    assert "has 0 keys now" in afar("app", "key", "remove", key, "router", "--reason", "leaked & lost").out
    assert gate.json("audit", "--deployment", "--limit", "1")["entries"][0]["reason"] == "leaked & lost"


def refused(afar: Afar, *call: str, status: int, **env: str) -> str:
    """The line that a call ends with."""
    kept = dict(afar.env)
    afar.env |= env
    try:
        result: Result = afar(*call, status=status)
    finally:
        afar.env = kept
    assert result.out == "" and result.err.count("\n") == 1
    return result.err


def test_what_an_operator_may_not(service: GateService, gate: Command, afar: Afar, tmp_path: Path) -> None:
    assert "name or password is wrong" in refused(afar, "check", "a", "b", status=3, **{PASSWORD: "wrong password"})
    made = json.loads(gate("operator", "add", "eva", "--role", "viewer", "--app", str(gate.app), "--json").out)
    eva = Afar(service.http, "eva", made["password"], str(gate.app), tmp_path)
    assert eva("check", "a", "b").out == "allowed\n"
    assert "takes the role operator, and eva is viewer" in refused(eva, "ban", "a", "--permanent", status=3)
    assert "no App with the key" in refused(eva, "bans", status=1, GATE_APP=service.credentials.app_key)
    assert "no App with the key" in refused(eva, "unban", "a", "b", status=1, GATE_APP="no-such-app")


def test_passwords_come_from_the_environment_or_a_file(afar: Afar, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(afar.env.pop(PASSWORD) + "\n")
    assert "there is no terminal to ask at" in refused(afar, "bans", status=2)
    assert "can't be read" in refused(afar, "bans", status=2, **{PASSWORD_FILE: str(tmp_path / "none")})
    assert "give one of them" in refused(afar, "bans", status=2, **{PASSWORD: "a", PASSWORD_FILE: str(file)})
    afar.env[PASSWORD_FILE] = str(file)
    assert afar.json("bans") == {"bans": []}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gate.example", "write https://HOST[:PORT]"),
        ("http://gate.example", "would send the password unencrypted"),
        ("https://ann:secret@gate.example", "holds no name and no password"),
        ("https://gate.example/?a=b", "holds no query"),
        ("https://gate.example:port", "Port could not be cast"),
    ],
)
def test_addresses_that_are_refused(afar: Afar, url: str, said: str) -> None:
    assert said in refused(afar, "bans", status=2, GATE_URL=url)


def test_options_before_the_command(service: GateService, afar: Afar, gate: Command) -> None:
    password = afar.env[PASSWORD]
    options = ["--url", service.http, "--operator", service.credentials.operator, "--app", str(gate.app)]
    gate.env |= {PASSWORD: password}
    del gate.env["GATE_APP"]
    assert gate(*options, "bans").out == "no User is banned\n"
    assert "say which App" in gate(*options[:4], "bans", status=2).err
    assert "goes with --url" in gate("--operator", "ann", "bans", status=2).err
    assert "say whose name" in gate("--url", service.http, "bans", status=2).err


@pytest.mark.parametrize(
    "call",
    [
        ("serve",), ("status",), ("doctor",), ("backup", "file"), ("user", "deactivate", "ann"), ("events",),
        ("app", "remove", "a-key"), ("whitelist", "status", "ann"), ("operator", "list"), ("import", "file"), ("config",),
    ],
)  # fmt: skip
def test_other_commands_say_that_they_work_on_a_node_only(afar: Afar, call: tuple[str, ...]) -> None:
    assert refused(afar, *call, status=2) == (
        "gate: --url: this command works on a node only: run it there, without --url and GATE_URL\n"
    )


def test_a_server_that_is_away(afar: Afar) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert refused(afar, "ban", "a", "--permanent", status=3, GATE_URL=url) == (
        f"gate: {url} can't be reached: Connection refused\n"
    )


class Leading(BaseHTTPRequestHandler):
    """A proxy that leads to another address."""

    def do_GET(self) -> None:
        self.send_response(302 if self.path.startswith("/v1/bans") else 200)
        self.send_header("Location", "https://other.example/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_what_is_not_gate_is_named(afar: Afar) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Leading) as proxy:
        threading.Thread(target=proxy.serve_forever).start()
        url = f"http://127.0.0.1:{proxy.server_port}"
        try:
            said = refused(afar, "bans", status=3, GATE_URL=url)
            assert said == f"gate: {url} leads to https://other.example/: give that address with --url\n"
            assert "answered 200 without JSON: is it Gate?" in refused(afar, "check", "a", "b", status=3, GATE_URL=url)
        finally:
            proxy.shutdown()


def test_tls_with_a_known_and_an_unknown_authority(tls: Tls, gate: Command, afar: Afar, tmp_path: Path) -> None:
    assert "certificate that is not trusted" in refused(afar, "bans", status=3, GATE_URL=tls.url)
    assert afar("--ca", str(tls.authority.certificate), "--url", tls.url, "bans").out == "no User is banned\n"
    named_otherwise = tls.url.replace("127.0.0.1", "localhost")
    assert "not trusted" in refused(
        afar, "--ca", str(tls.authority.certificate), "--url", named_otherwise, "bans", status=3
    )
    empty = tmp_path / "empty.pem"
    empty.touch()
    assert "holds no certificate" in refused(afar, "--ca", str(empty), "--url", tls.url, "bans", status=2)
