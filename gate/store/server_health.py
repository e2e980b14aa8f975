"""The server's state as it affects Gate's promises: version, persistence, eviction, memory, clock, distance.

Read by `gate doctor`. A hosted Redis may refuse CONFIG; a refused value is None, and the caller shows "unknown".
"""

from __future__ import annotations

import re
import time
from typing import NamedTuple

from gate.errors import StoreUnavailable
from gate.store.client import Client
from gate.store.link import LinkLost, ReplyError

PINGS = 3
_ONLINE = re.compile(rb"^slave\d+:.*\bstate=online,offset=(\d+)", re.MULTILINE)
_SETTINGS = ("appendfsync", "maxmemory-policy", "min-replicas-to-write")


class ServerHealth(NamedTuple):
    """The server's state at one moment. Settings are None if the server does not disclose them."""

    name: str
    version: str
    role: str
    is_append_only: bool
    last_write_failed: bool
    used_memory_bytes: int
    max_memory_bytes: int
    evicted_keys: int
    append_fsync: str | None
    eviction_policy: str | None
    min_replicas_to_write: str | None
    online_replicas: int
    """Connected, and past their first synchronization."""
    replica_lag_bytes: int
    """Of the online replica that is furthest behind; 0 without any."""
    now_ms: int
    connect_ms: float
    """Time to open a separate connection: TCP, TLS if used, and the handshake."""
    round_trip_ms: float
    """The fastest of a few answers."""


async def read_server_health(client: Client) -> ServerHealth:
    """Read the server's state. Raises `StoreUnavailable`."""
    connect_ms, round_trip_ms = await measure_distance(client)
    info_text, (seconds, micros) = await client.read(("INFO",), ("TIME",))
    info = dict(line.split(":", 1) for line in info_text.decode().splitlines() if ":" in line)
    settings = {name: await _setting(client, name) for name in _SETTINGS}
    offsets = [int(offset) for offset in _ONLINE.findall(info_text)]
    name = "Valkey" if "valkey_version" in info else "Redis"
    return ServerHealth(
        name=name,
        version=info.get("valkey_version") or info.get("redis_version", "unknown"),
        role=info.get("role", "unknown"),
        is_append_only=info.get("aof_enabled") == "1",
        last_write_failed="err" in (info.get("aof_last_write_status", "ok"), info.get("rdb_last_bgsave_status", "ok")),
        used_memory_bytes=int(info.get("used_memory", "0")),
        max_memory_bytes=int(info.get("maxmemory", "0")),
        evicted_keys=int(info.get("evicted_keys", "0")),
        append_fsync=settings["appendfsync"],
        eviction_policy=settings["maxmemory-policy"] or info.get("maxmemory_policy"),
        min_replicas_to_write=settings["min-replicas-to-write"],
        online_replicas=len(offsets),
        replica_lag_bytes=max(0, int(info.get("master_repl_offset", "0")) - min(offsets)) if offsets else 0,
        now_ms=int(seconds) * 1_000 + int(micros) // 1_000,
        connect_ms=connect_ms,
        round_trip_ms=round_trip_ms,
    )


async def measure_distance(client: Client) -> tuple[float, float]:
    """Return the time to connect and the time of one answer, ms. Raises `StoreUnavailable`."""
    began_s = time.monotonic()
    link = await client.open_dedicated()
    # In fractions of a millisecond, so not by `clock.monotonic_ms`.
    connect_ms = (time.monotonic() - began_s) * 1_000
    trips_ms = []
    try:
        for _ in range(PINGS):
            began_s = time.monotonic()
            await link.exchange([("PING",)], client.deadline_ms)
            trips_ms.append((time.monotonic() - began_s) * 1_000)
    except LinkLost as loss:
        raise StoreUnavailable(str(loss)) from None
    finally:
        await link.aclose()
    return connect_ms, min(trips_ms)


async def _setting(client: Client, name: str) -> str | None:
    try:
        ((*_, value),) = await client.read(("CONFIG", "GET", name))
    except (ReplyError, StoreUnavailable, ValueError):  # unknown command, no permission, or no such setting
        return None
    return str(value.decode())
