"""Keys with scopes from the command line: added, listed, rotated, removed, and what they open."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.ports import LOOPBACK
from harness.service import GateService
from tests.cli.command import Command
from tests.cli.test_apps import may_log_in

SECRET = "the-secret-of-the-router"


def test_a_key_opens_what_its_scopes_say_until_it_is_removed(service: GateService, gate: Command) -> None:
    assert gate.app
    made = gate.json("app", "key", "add", gate.app, "--name", "router-1", "--scope", "check")
    assert made == made | {"app_key": gate.app, "name": "router-1", "scopes": ["check"], "applied": "all"}
    client = redis.Redis(
        host=LOOPBACK,
        port=service.resp_port,
        username=gate.app,
        password=made["secret"],
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
    )
    assert client.execute_command("GATE.CHECK", "a", "b") == 1
    refused = answer_of(client, "GATE.ONLINE", "a")
    assert refused == "this key has no scope 'presence': the key 'router-1' has check; use a key with that scope"
    gate("app", "key", "remove", gate.app, "router-1")
    assert "no longer accepted" in answer_of(client, "GATE.CHECK", "a", "b"), (
        "an open connection, with its next command"
    )
    client.close()
    assert not may_log_in(service, gate.app, made["secret"])


def answer_of(client: redis.Redis, *words: str) -> str:
    try:
        return str(client.execute_command(*words))
    except redis.RedisError as refusal:
        return str(refusal)


def test_a_secret_is_shown_once_and_no_digest_ever(gate: Command) -> None:
    assert gate.app
    shown = gate("app", "key", "add", gate.app, "edge", "--scope", "check, presence", "--secret", SECRET).out
    assert shown.count(SECRET) == 1 and "edge (check, presence)" in shown
    listed = gate("app", "key", "list", gate.app).out
    assert "edge" in listed and "check, presence" in listed and SECRET not in listed
    (key,) = gate.json("app", "key", "list", gate.app)["keys"]
    assert (key["name"], key["scopes"], key["secret_count"]) == ("edge", ["check", "presence"], 1)
    assert gate.json("app", "show", gate.app, "--show-secret")["keys"] == [key]
    assert "edge (check presence)" in gate("app", "show", gate.app).out
    audit = str(gate.json("audit", "--deployment"))
    assert "keys.edge" in audit and SECRET not in audit and "digest" not in audit


def test_a_rotation_keeps_the_previous_secret_until_it_is_finished(service: GateService, gate: Command) -> None:
    assert gate.app
    gate("app", "key", "add", gate.app, "edge", "--scope", "admin", "--secret", SECRET)
    new = gate.json("app", "key", "rotate", gate.app, "--name", "edge", "--reason", "a test", "--actor", "me")
    assert new["secret_count"] == 2
    assert may_log_in(service, gate.app, SECRET) and may_log_in(service, gate.app, new["secret"])
    assert "--finish" in gate("app", "key", "rotate", gate.app, "edge", status=1).err
    done = gate.json("app", "key", "rotate", gate.app, "edge", "--finish")
    assert done["secret_count"] == 1 and "secret" not in done
    assert may_log_in(service, gate.app, new["secret"]) and not may_log_in(service, gate.app, SECRET)


def test_mistakes_are_named_at_once(gate: Command) -> None:
    assert gate.app
    assert "no keys yet" in gate("app", "key", "list", gate.app).out
    wrong = gate("app", "key", "add", "no good", "a b", "--scope", "all", "--secret", "a-short-secret", status=2).err
    assert [line.split(":")[1].strip() for line in wrong.splitlines()] == ["app key", "name", "scope", "secret"]
    assert "a-short-secret" not in wrong
    for both in ((), ("edge", "--name", "edge")):
        assert "NAME: say one" in gate("app", "key", "remove", gate.app, *both, status=2).err
    gate("app", "key", "add", gate.app, "edge", "--scope", "check", "--secret", SECRET)
    assert "'edge' already" in gate("app", "key", "add", gate.app, "edge", "--scope", "check", status=1).err
    again = gate("app", "key", "add", gate.app, "two", "--scope", "check", "--secret", SECRET, status=1).err
    assert "choose another" in again and SECRET not in again
    assert "has no key 'two'" in gate("app", "key", "rotate", gate.app, "two", status=1).err
    assert "has no key 'two'" in gate("app", "key", "remove", gate.app, "two", status=1).err
    assert "no App" in gate("app", "key", "list", "unknown", status=1).err
