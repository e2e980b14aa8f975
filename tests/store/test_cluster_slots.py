"""All keys of a script lie in one slot: shown by a server in cluster mode, which refuses any script where they don't.

Such a server also refuses a script that touches a key it was not given, if that key is elsewhere. One node owns all slots here,
so nothing is redirected.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from gate.store.store import Store
from tests.harness.ports import free_port
from tests.harness.servers import Flavor, RedisServer
from tests.harness.waiting import wait_until
from tests.store.touring import tour


def is_serving(server: RedisServer) -> bool:
    return bool(server.client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def low_port() -> int:
    """The cluster's own port is 10,000 higher, and must be one."""
    while (port := free_port()) > 55_000:
        pass
    return port


async def test_every_script_runs_in_cluster_mode(redis_flavor: Flavor, tmp_path: Path) -> None:
    server = RedisServer.start(redis_flavor, tmp_path, low_port(), extra=["--cluster-enabled", "yes"])
    try:
        server.client.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
        wait_until(lambda: is_serving(server), 10, "the cluster to serve")
        with pytest.raises(redis.ResponseError, match="slot"):
            server.client.eval("return 1", 2, "gate:{1}:meta", "gate:{2}:meta")
        store = await Store.connect(server.url)
        await tour(store)
        await store.aclose()
    finally:
        server.stop()
