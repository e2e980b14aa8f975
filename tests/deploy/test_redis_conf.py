"""redis.conf is taken by every supported server, and each of its lines is in force there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.service import embedded
from harness.ports import LOOPBACK
from harness.servers import Flavor, RedisServer, server_binary
from tests.deploy.files import REDIS_CONF, redis_settings

# A test listens on the loopback only, on a free port, in its own directory.
OVERRIDDEN = {"bind", "port", "dir"}
UNITS = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


class ConfiguredServer(RedisServer):
    """A server that is given the file and nothing else but its place."""

    def command(self, aof: bool) -> list[str]:
        place = ["--bind", LOOPBACK, "--port", str(self.port), "--dir", str(self.directory)]
        return [str(server_binary(self.flavor)), str(REDIS_CONF), *place]


@pytest.fixture
def configured(redis_flavor: Flavor, tmp_path: Path) -> Iterator[RedisServer]:
    server = ConfiguredServer.start(redis_flavor, tmp_path / "server")
    yield server
    server.stop()


def in_bytes(text: str) -> str:
    """`64mb` as CONFIG GET words it."""
    return re.sub(r"\b(\d+)(kb|mb|gb)\b", lambda found: str(int(found[1]) * UNITS[found[2]]), text)


def test_every_line_is_in_force(configured: RedisServer) -> None:
    asked = [(name, in_bytes(value)) for name, value in redis_settings() if name not in OVERRIDDEN]
    assert len(asked) > 20
    for name, value in asked:
        answered = str(configured.client.config_get(name)[name])
        # Three classes of client come in one value.
        wanted = value.replace("replica ", "slave ") if name == "client-output-buffer-limit" else value
        assert wanted in answered if name == "client-output-buffer-limit" else wanted == answered, (name, answered)


def test_it_is_as_durable_as_the_embedded_server() -> None:
    conf = dict(redis_settings())
    shared = ("appendonly", "appendfsync", "save", "maxmemory-policy")
    assert {name: conf[name] for name in shared} == {name: embedded.OPTIONS[name] for name in shared}
