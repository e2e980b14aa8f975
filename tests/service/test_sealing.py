"""App secrets that are sealed: what Redis and the Replica hold, rotation of the key, and every start without it."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import redis
import requests

from gate import Replica
from gate.core.codec import unpack_app
from gate.core.model import AppFacts
from gate.core.token import mint
from gate.errors import InvalidConfig, SecretsSealed
from gate.sealing import (
    is_sealed,
    keys_in_use,
    opened,
    opened_or_without,
    read_key_file,
    sealed,
    sealing_of,
    use_key_file,
)
from gate.store import keys
from harness.servers import RedisServer
from harness.service import GateService, Services
from tests.cli.command import Command
from tests.presence.test_gateways import token_of
from tests.service.running import refused

SECRET = "a-secret-that-stays-a-secret"
FACTS = AppFacts(key="app", secrets=(SECRET, "the-one-before-it-of-this-app"), token_keys=("aa" * 32,))


def key_file(path: Path, *keys_of: bytes) -> Path:
    path.write_text("# the current key first\n" + "".join(base64.b64encode(key).decode() + "\n" for key in keys_of))
    path.chmod(0o600)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer.start("valkey-9", tmp_path / "redis")
    yield server
    server.stop()


@pytest.fixture
def of_this_process(tmp_path: Path) -> Iterator[Path]:
    path = key_file(tmp_path / "process.keys", b"p" * 32)
    use_key_file(str(path))
    yield path
    use_key_file(None)


def stored(server: RedisServer) -> list[AppFacts]:
    return [unpack_app(row) for row in server.client.hvals(keys.apps())]


def may(service: GateService) -> None:
    """Its secret opens the RESP port, HTTP by Basic and by signature, and mints a Token that is accepted."""
    known = service.credentials
    with service.resp_client() as client:
        assert client.execute_command("GATE.CHECK", "ann", "bob") == 1
    basic = requests.get(f"{service.http}/v1/check?from=ann&to=bob", auth=(known.app_key, known.app_secret), timeout=10)
    assert basic.json()["allowed"] is True
    bearer = {"Authorization": f"Bearer {token_of(service, 'ann')}"}
    assert requests.get(f"{service.http}/client/v1/blacklist", headers=bearer, timeout=10).status_code == 200


def test_no_secret_is_readable_in_redis_or_the_replica(
    start_service: Services, server: RedisServer, tmp_path: Path
) -> None:
    path = key_file(tmp_path / "keys", b"k" * 32)
    service = start_service.start("--secret-key-file", str(path), redis_url=server.url)
    gate = Command(service.data, redis=server.url)
    gate("app", "create", "shop", "--key", "shop", "--secret", SECRET)
    may(service)
    known = service.credentials
    assert all(is_sealed(secret) for facts in stored(server) for secret in facts.secrets)
    server.client.save()
    kept = [server.directory / "dump.rdb", *(service.data / "replica").glob("*.mdb")]
    for file in kept:
        raw = file.read_bytes()
        assert SECRET.encode() not in raw and known.app_secret.encode() not in raw, file
    assert b"shop" in kept[0].read_bytes()
    rotated = gate.json("app", "rotate-secret", "shop")
    with redis.Redis(port=service.resp_port, username="shop", password=rotated["app_secret"]) as client:
        assert client.execute_command("GATE.CHECK", "ann", "bob") == 1
    shop = next(facts for facts in stored(server) if facts.key == "shop")
    thief = redis.Redis(port=service.resp_port, username="shop", password=shop.secrets[0])
    with thief, pytest.raises(redis.AuthenticationError):
        thief.ping()
    assert "sealed with the key" in gate("doctor", status=None).out
    assert gate.json("replica", "verify")["equal"]
    replica = Replica.open(service.data, app="shop")
    assert replica.may_send("ann", "bob")


def test_existing_apps_are_sealed_rotated_and_unsealed(
    start_service: Services, server: RedisServer, tmp_path: Path
) -> None:
    plain = start_service.start(redis_url=server.url)
    known = plain.credentials
    assert "stored in plain text" in Command(plain.data, redis=server.url)("doctor", status=None).out
    plain.stop()
    path = key_file(tmp_path / "keys", b"1" * 32)
    option = ("--secret-key-file", str(path))
    service = start_service.start(*option, data=plain.data, redis_url=server.url)
    gate = Command(service.data, redis=server.url)
    assert gate.json("secrets", "status", status=1)["unsealed"] == 1
    assert "not sealed with the current key" in gate("doctor", status=None).out
    assert "sealed the secrets of 1 App" in gate("secrets", "seal").out
    assert gate.json("secrets", "seal") == {"apps": 0}
    may(service)
    first = sealing_of(stored(server)[0])
    service.stop()
    key_file(path, b"2" * 32, b"1" * 32)
    service = start_service.start(*option, data=plain.data, redis_url=server.url)
    may(service)
    assert gate.json("secrets", "rotate") == {"apps": 1}
    assert sealing_of(stored(server)[0]) not in ("", first)
    key_file(path, b"2" * 32)
    may(service)
    gate("secrets", "unseal")
    assert stored(server)[0].secrets == (known.app_secret,)
    service.stop()
    may(start_service.start(data=plain.data, redis_url=server.url))


@pytest.mark.parametrize("given", ["nothing", "another key"])
def test_a_start_without_the_key_is_refused(
    start_service: Services, server: RedisServer, tmp_path: Path, given: str
) -> None:
    path = key_file(tmp_path / "keys", b"k" * 32)
    service = start_service.start("--secret-key-file", str(path), redis_url=server.url)
    service.stop()
    other = ["--secret-key-file", str(key_file(tmp_path / "other", b"o" * 32))] if given == "another key" else []
    refusal = refused(service.data, "--redis", server.url, *other)
    assert refusal.status == 1 and len(refusal.lines) >= 1
    assert "are sealed" in refusal.lines[-1] and "App" in refusal.lines[-1]
    assert "gate ready" not in refusal.out


def test_other_settings_change_without_the_key(start_service: Services, server: RedisServer, tmp_path: Path) -> None:
    path = key_file(tmp_path / "keys", b"k" * 32)
    service = start_service.start("--secret-key-file", str(path), redis_url=server.url)
    key = service.credentials.app_key
    before = stored(server)[0].secrets
    away = Command(tmp_path / "no-node", redis=server.url)
    away("app", "set", key, "--name", "renamed")
    assert stored(server)[0].secrets == before and stored(server)[0].name == "renamed"
    assert "sealed" in away("app", "rotate-secret", key, status=None).err
    assert stored(server)[0].secrets == before
    may(service)


# Values


def test_each_value_is_sealed_apart_and_stays_as_it_is(of_this_process: Path) -> None:
    once = sealed(FACTS)
    assert SECRET not in str(once) and len({*once.secrets, *once.token_keys}) == 3
    assert opened(once) == FACTS
    assert sealed(FACTS, once) == once != sealed(FACTS)


def test_a_value_belongs_to_its_app(of_this_process: Path) -> None:
    moved = msgspec.structs.replace(sealed(FACTS), key="other")
    with pytest.raises(SecretsSealed, match="damaged, or belongs to another App"):
        opened(moved)
    assert opened_or_without(moved).secrets == opened_or_without(moved).token_keys == ()


def test_no_bent_character_is_accepted(of_this_process: Path) -> None:
    value = sealed(FACTS).secrets[0]
    for at in range(len("enc:1:"), len(value)):
        bent = value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]
        with pytest.raises(SecretsSealed):
            opened(msgspec.structs.replace(FACTS, secrets=(bent,), token_keys=()))


def test_without_keys_nothing_signs_in_by_the_sealed_value(of_this_process: Path) -> None:
    once = sealed(FACTS)
    use_key_file(None)
    assert keys_in_use() is None and sealed(FACTS) == FACTS
    assert opened_or_without(once).secrets == ()
    with pytest.raises(SecretsSealed, match="give --secret-key-file"):
        opened(once)
    for unusable in (once, opened_or_without(once)):
        with pytest.raises(SecretsSealed, match="nothing can be signed"):
            mint(unusable, b"ann", 1, b"12345678")


@pytest.mark.parametrize("text", ["", "# nothing\n", "no base64!\n", base64.b64encode(b"k" * 31).decode(), "\xff"])
def test_a_key_file_with_another_content_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidConfig, match="--secret-key-file") as caught:
        read_key_file(str(path))
    assert "kkk" not in str(caught.value)
    with pytest.raises(InvalidConfig, match="can't be read"):
        read_key_file(os.fspath(tmp_path / "absent"))
