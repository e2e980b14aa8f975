"""The clients, each as a program that its users could have written: connect, check, pipeline 100 checks, transact.

A program gets the port, the App key and the secret as its last arguments, and prints lines of a word and values: `check`,
`pipeline`, `transaction`, and `version` where the client knows its own. `scripts/install-clients` installs what they run on,
from three sources; what it could not install, it says why, and the clients of that source are skipped with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / ".venv" / "clients"
NODE_MODULES = INSTALLED / "node" / "node_modules"

RUN_TIMEOUT_S = 30.0
BUILD_TIMEOUT_S = 60.0

Source = Literal["here", "python", "node", "debian", "headers"]
"""What brings the client. `here` are redis-py and redis-cli, which the tests can't do without.

`headers` are Node-API's, for the example in Node: see tests/native/test_in_process.py.
"""


@dataclass(frozen=True, slots=True)
class Client:
    """`name` is its row in docs/clients.md; `command` runs the program, without port, key and secret.

    A `command` that is a source file is compiled first. `package` is Debian's, which not every release of Debian has.
    """

    name: str
    source: Source
    command: tuple[str, ...]
    package: str | None = None

    @property
    def is_pinned(self) -> bool:
        """Whether its version is the same wherever the tests run; Debian's releases bring different ones."""
        return self.source != "debian" and self.name != "redis-cli"


def _python(name: str, program: str, *options: str, source: Source = "python") -> Client:
    return Client(name, source, (sys.executable, str(HERE / "python" / program), *options))


def _node(name: str, program: str, *options: str) -> Client:
    return Client(name, "node", ("node", str(HERE / "node" / program), *options))


def _debian(name: str, package: str, *command: str) -> Client:
    return Client(name, "debian", command, package)


CLIENTS = (
    _python("redis-py", "redis_py.py", "redis", "default", source="here"),
    _python("redis-py, RESP2", "redis_py.py", "redis", "2", source="here"),
    _python("redis-py, asyncio", "redis_py_asyncio.py", "redis", source="here"),
    _python("valkey-py", "redis_py.py", "valkey", "default"),
    _python("valkey-py, RESP3", "redis_py.py", "valkey", "3"),
    _python("valkey-py, asyncio", "redis_py_asyncio.py", "valkey"),
    _python("coredis", "coredis_client.py"),
    _python("valkey-glide (Python)", "glide_asyncio.py"),
    _python("valkey-glide-sync", "glide_sync_client.py"),
    _node("node-redis 6", "node-redis.js", "redis"),
    _node("node-redis 5", "node-redis.js", "redis-5"),
    _node("node-redis 4", "node-redis.js", "redis-4"),
    _node("ioredis 6", "ioredis.js", "ioredis"),
    _node("ioredis 5", "ioredis.js", "ioredis-5"),
    _node("iovalkey", "ioredis.js", "iovalkey"),
    _node("valkey-glide (Node)", "glide.js"),
    Client("Bun", "node", ("bun", str(HERE / "node" / "bun.js"))),
    _debian("phpredis", "php-redis", "php", str(HERE / "php" / "phpredis.php")),
    _debian("predis", "php-predis", "php", str(HERE / "php" / "predis.php")),
    _debian("redis-rb", "ruby-redis", "ruby", str(HERE / "ruby" / "redis_rb.rb"), "ruby"),
    _debian("redis-rb, hiredis-rb", "ruby-hiredis", "ruby", str(HERE / "ruby" / "redis_rb.rb"), "hiredis"),
    _debian("Redis.pm (Perl)", "libredis-perl", "perl", str(HERE / "perl" / "redis.pl")),
    _debian("redis-lua", "lua-redis", "lua5.1", str(HERE / "lua" / "redis_lua.lua")),
    _debian("redigo", "golang-github-gomodule-redigo-dev", "redigo.go"),
    _debian("hiredis (C)", "libhiredis-dev", "hiredis.c"),
    _python("redis-cli", "redis_cli.py", source="here"),
)


def run(client: Client, port: int, key: str, secret: str, scratch: Path) -> dict[str, list[str]]:
    """What the client's program printed: the values of each line, by its first word. It must end with 0."""
    skip_unless_installed(client.source)
    if client.package is not None and not _has_package(client.package):
        pytest.skip(f"this Debian has no package {client.package}")
    command = [*_executable(client.command, scratch), str(port), key, secret]
    env = {**os.environ, "PYTHONPATH": str(INSTALLED / "python"), "NODE_PATH": str(NODE_MODULES)}
    ended = subprocess.run(command, capture_output=True, text=True, env=env, timeout=RUN_TIMEOUT_S)
    assert ended.returncode == 0, f"{command[:2]} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
    lines = [line.split() for line in ended.stdout.splitlines()]
    return {words[0]: words[1:] for words in lines if words}


def skip_unless_installed(source: Source) -> None:
    """Skip the test, with the reason that the installation left, if its source could not be installed here."""
    if source == "here" or (INSTALLED / f"{source}.installed").exists():
        return
    why = INSTALLED / f"{source}.absent"
    pytest.skip(why.read_text().strip() if why.exists() else "not installed: run scripts/install-clients")


def _has_package(name: str) -> bool:
    state = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", name], capture_output=True, text=True)
    return state.stdout == "installed"


def _executable(command: tuple[str, ...], scratch: Path) -> list[str]:
    program, *arguments = command
    if program == "bun":
        # npm brings it as a package of the platform; the link to it is made by an install script, which none may run here.
        program = str(next(NODE_MODULES.glob("@oven/bun-*/bin/bun")))
    elif program.endswith(".c"):
        program = _compiled(scratch, "cc", "-Wall", "-Werror", "-o", "{out}", str(HERE / "c" / program), "-lhiredis")
    elif program.endswith(".go"):
        program = _compiled(scratch, "go", "build", "-o", "{out}", str(HERE / "go" / program))
    return [program, *arguments]


def _compiled(scratch: Path, compiler: str, *options: str) -> str:
    """The program that the compiler made, in `scratch`. Debian has Go's packages where a GOPATH has them."""
    found, program = shutil.which(compiler), str(scratch / "program")
    if found is None:
        pytest.skip(f"no {compiler} here")
    built = subprocess.run(
        [found, *(option.format(out=program) for option in options)],
        env={**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
    )
    assert built.returncode == 0, built.stderr
    return program
