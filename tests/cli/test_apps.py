"""Apps from the command line: created, changed, rotated, removed."""

from __future__ import annotations

import secrets

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.ports import LOOPBACK
from harness.service import GateService, Services
from tests.cli.command import Command


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    """The first App gets another secret."""
    return start_module_service.start()


def may_log_in(service: GateService, key: str, secret: str) -> bool:
    client = redis.Redis(
        host=LOOPBACK, port=service.resp_port, username=key, password=secret, retry=Retry(NoBackoff(), 0)
    )
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        return False
    finally:
        client.close()


def test_an_app_can_be_used_when_create_returns(service: GateService) -> None:
    gate = Command(service.data)
    for _ in range(3):
        made = gate.json("app", "create", "Shop 店", "--environment", "production")
        assert made == made | {"name": "Shop 店", "environment": "production", "applied": "all"}
        assert may_log_in(service, made["app_key"], made["app_secret"])
        assert Command(service.data, made["app_key"])("check", "a", "b").out == "allowed\n"


def test_a_secret_is_shown_once_and_on_demand(service: GateService) -> None:
    gate, key = Command(service.data), secrets.token_hex(4)
    shown = gate("app", "create", "Shop", "--key", key, "--secret", "hush-hush", "--short-secret").out
    assert shown.count("hush-hush") == 1
    assert "hush-hush" not in gate("app", "show", key).out + gate("app", "list").out
    assert "hush-hush" not in str(gate.json("app", "show", key)) + str(gate.json("app", "list"))
    assert gate.json("app", "show", key, "--show-secret")["secrets"] == ["hush-hush"]
    assert f"the key '{key}' already" in gate("app", "create", "Shop", "--key", key, status=1).err


def test_settings(gate: Command) -> None:
    assert gate.app
    gate(
        "app",
        "set",
        gate.app,
        "--list-policy",
        "both",
        "--whitelists",
        "on",
        "--require-registered",
        "--utc-offset",
        "0",
    )
    gate(
        "app", "set", gate.app, "--exempt", "boss", "--exempt", "bot", "--strict-signature", "--signature-window", "60"
    )
    gate("app", "set", gate.app, "--unexempt", "bot", "--name", "New", "--no-require-registered", "--list-ceiling", "9")
    shown = gate.json("app", "show", gate.app)
    assert shown == shown | {
        "name": "New",
        "list_policy": "both",
        "whitelists": "on",
        "require_registered": False,
        "utc_offset_minutes": 0,
        "exempt": ["boss"],
        "strict_signature": True,
        "signature_window_s": 60,
        "list_ceiling": 9,
        "secret_count": 1,
    }
    assert gate("check", "ann", "bob", status=1).out == "not-whitelisted\n"
    assert gate.json("check", "boss", "bob")["allowed"]


def test_slices_of_presence_can_only_be_raised(gate: Command) -> None:
    assert gate.app
    gate("app", "set", gate.app, "--presence-slices", "3")
    assert (
        "--presence-slices: can only be raised: it is 3"
        in gate("app", "set", gate.app, "--presence-slices", "2", status=2).err
    )
    assert "must be 1 to 64" in gate("app", "set", gate.app, "--presence-slices", "65", status=2).err
    assert gate.json("app", "show", gate.app)["presence_slices"] == 3


def test_a_rotation_keeps_the_old_secret_until_it_is_dropped(service: GateService, gate: Command) -> None:
    assert gate.app
    (old,) = gate.json("app", "show", gate.app, "--show-secret")["secrets"]
    new = gate.json("app", "rotate-secret", gate.app)["app_secret"]
    assert may_log_in(service, gate.app, old) and may_log_in(service, gate.app, new)
    assert "--drop-old" in gate("app", "rotate-secret", gate.app, status=1).err
    gate("app", "rotate-secret", gate.app, "--drop-old")
    assert may_log_in(service, gate.app, new) and not may_log_in(service, gate.app, old)


def test_the_tokens_of_a_dropped_secret_live_on_only_if_asked_for(gate: Command) -> None:
    assert gate.app
    for choice, count in (["--keep-tokens"], 1), ([], 0):
        gate("app", "rotate-secret", gate.app, "--reason", "a test", "--actor", "me")
        said = gate("app", "rotate-secret", gate.app, "--drop-old", *choice).out
        assert ("live on" in said) is bool(count)
        assert gate.json("app", "show", gate.app, "--show-secret")["token_key_count"] == count
    gate("app", "rotate-secret", gate.app, "--keep-tokens", status=2)
    assert "differ" in gate("app", "rotate-secret", gate.app, "--secret", current(gate), status=2).err


def current(gate: Command) -> str:
    secret: str = gate.json("app", "show", gate.app or "", "--show-secret")["secrets"][0]
    return secret


def test_the_first_apps_new_secret_is_written_to_the_credentials(service: GateService) -> None:
    gate, before = Command(service.data), service.credentials
    assert "credentials.json holds it too" in gate("app", "rotate-secret", before.app_key).out
    assert service.credentials.app_secret == current(Command(service.data, before.app_key)) != before.app_secret
    assert service.credentials.operator_password == before.operator_password
    gate("app", "rotate-secret", before.app_key, "--drop-old")
    assert may_log_in(service, before.app_key, service.credentials.app_secret)
    assert (service.data / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_removal_asks_first(gate: Command) -> None:
    assert gate.app
    gate("ban", "ann", "--permanent")
    gate("app", "remove", gate.app, stdin=b"n\n", status=1)
    gate("check", "ann", "bob", status=1)
    gate("app", "remove", gate.app, "--yes")
    assert "no App" in gate("check", "bob", "ann", status=1).err
    assert gate.app not in [app["key"] for app in gate.json("app", "list")["apps"]]


def test_mistakes_are_named_at_once(gate: Command) -> None:
    assert gate.app
    made = gate("app", "create", "", "--key", "no good", "--secret", "short", status=2).err
    assert [line.split(":")[1].strip() for line in made.splitlines()] == ["app key", "NAME", "secret"]
    short = gate("app", "create", "Shop", "--secret", "a-short-secret", status=2).err
    assert "must be 20 to 128" in short and "--short-secret allows 8 or more" in short
    assert "a-short-secret" not in short
    changed = gate(
        "app", "set", gate.app, "--list-ceiling", "0", "--utc-offset", "841", "--exempt", b"\xff", status=2
    ).err
    assert [line.split(":")[1].strip() for line in changed.splitlines()] == [
        "--list-ceiling",
        "--utc-offset",
        "--exempt",
    ]
    gate("app", "set", gate.app, status=2)
    gate("app", "set", gate.app, "--list-policy", "neither", status=2)
    gate("app", "create", status=2)


def test_settings_of_user_management_are_set_and_shown(service: GateService) -> None:
    gate, key = Command(service.data), secrets.token_hex(4)
    gate("app", "create", "Shop", "--key", key)
    gate("app", "set", key, "--user-limit", "7", "--token-ttl", "1h", "--close-sessions-on-expire", "--audit-days", "9")
    gate(
        "app",
        "set",
        key,
        "--reactivate-after",
        "60",
        "--webhook-url",
        "https://h.example/x?y=1",
        "--rate-limits",
        "rongcloud",
    )
    shown = gate.json("app", "show", key)
    assert shown == shown | {
        "user_limit": 7,
        "token_ttl_s": 3_600,
        "close_sessions_on_expire": True,
        "audit_days": 9,
        "reactivate_after_s": 60,
        "webhook_url": "https://h.example/x?y=1",
    }
    assert shown["rate_limits"]["user/getToken"] == 200
    gate("app", "set", key, "--user-limit", "default", "--webhook-url", "", "--rate-limits", "off")
    shown = gate.json("app", "show", key)
    assert (shown["user_limit"], shown["webhook_url"], shown["rate_limits"]) == (None, "", {})
    assert "user_limit" in gate("app", "show", key).out


def test_settings_of_presence_are_set_and_shown(service: GateService) -> None:
    gate, key = Command(service.data), secrets.token_hex(4)
    gate("app", "create", "Shop", "--key", key)
    plain = {"device_policy": "all", "hide_presence": False, "presence_webhook_url": ""}
    assert plain.items() <= gate.json("app", "show", key).items()
    gate("app", "set", key, "--device-policy", "one-per-platform", "--hide-presence")
    gate("app", "set", key, "--presence-webhook-url", "https://h.example/online")
    shown = gate.json("app", "show", key)
    wanted = {
        "device_policy": "one-per-platform",
        "hide_presence": True,
        "presence_webhook_url": "https://h.example/online",
    }
    assert wanted.items() <= shown.items()
    assert "https://h.example/online" in gate("app", "show", key).out
    gate("app", "set", key, "--device-policy", "all", "--no-hide-presence", "--presence-webhook-url", "")
    assert plain.items() <= gate.json("app", "show", key).items()
    assert "one-per-platform" in gate("app", "set", key, "--device-policy", "two", status=2).err


def test_all_wrong_settings_are_named_at_once(service: GateService) -> None:
    wrong = {
        "--user-limit": "-1",
        "--token-ttl": "-5",
        "--audit-days": "0",
        "--webhook-url": "ftp://x",
        "--presence-webhook-url": "http://user@x/",
        "--rate-limits": "x",
    }
    refused = Command(service.data)("app", "set", "any", *(word for pair in wrong.items() for word in pair), status=2)
    named = ("--user-limit", "--token-ttl", "--audit-days", " --webhook-url", "--presence-webhook-url", "rate limits")
    assert [option for option in named if option not in refused.err] == []
