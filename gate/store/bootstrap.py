"""Initialization of Partitions: each gets its epoch, the deployment its number of Partitions. An old server is refused."""

from __future__ import annotations

from collections.abc import Iterable

from gate.core.revision import APPS_PARTITION, MAX_PARTITIONS
from gate.errors import InvalidConfig, StoreUnavailable
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.scripts import Call
from gate.store.writer import Step, logged_call

OLDEST_SERVER = (6, 2)


async def open_partitions(client: Client, which: Iterable[int], wanted: int) -> int:
    """Initialize Partitions of a deployment of `wanted`, among them Partition 0. Returns the number of Partitions present.

    Raises `InvalidConfig` if this Redis holds a deployment of another number or schema, `StoreUnavailable`, also while a backup
    is restored.
    """
    if not 1 <= wanted <= MAX_PARTITIONS:
        raise InvalidConfig([f"the number of Partitions must be 1 to {MAX_PARTITIONS}, got {wanted}"])
    # The script sets values only if they are missing, and returns those present.
    first, *_ = await client.write([_opening(partition, wanted) for partition in which])
    present, schema = int(first[2]), first[3]
    if schema.startswith(keys.RESTORING_SCHEMA):
        # Not a wrong configuration: a node waits for the end, and serves what it has until then.
        raise StoreUnavailable(f"a backup is being restored into {client.address.shown}, or its restore was interrupted: "
                               "repeat `gate restore` with the same file")  # fmt: skip
    if schema != keys.SCHEMA_VERSION:
        raise InvalidConfig([f"{client.address.shown} holds facts of schema {schema.decode()}, this is schema "
                             f"{keys.SCHEMA_VERSION.decode()}: use the matching version of Gate"])  # fmt: skip
    if present != wanted:
        raise InvalidConfig([f"{client.address.shown} holds a deployment of {present} Partitions, not {wanted}: "
                             "omit the number, it can never change"])  # fmt: skip
    return present


async def partitions_present(client: Client) -> int | None:
    """Return the number of Partitions of the deployment in this Redis; None without a deployment. Raises `StoreUnavailable`."""
    (count,) = await client.read(("HGET", keys.meta(APPS_PARTITION), keys.META_PARTITIONS))
    return None if count is None else int(count)


async def refuse_old_server(client: Client) -> None:
    """Raise `InvalidConfig` for a server older than `OLDEST_SERVER`, `StoreUnavailable` if it does not answer.

    An unavailable master of a Cluster is skipped: calls to the other masters must continue.
    """
    for server in await client.masters():
        try:
            (text,) = await server.read(("INFO", "server"))
        except StoreUnavailable:
            if not client.is_partly_away:
                raise
            continue
        facts = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
        # Valkey reports the Redis version with which it is compatible.
        version = facts.get("redis_version", "0.0")
        # Major and minor only: a patch level may have a suffix.
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
            raise InvalidConfig([f"{server.address.shown} is Redis {version}: 6.2 or later, or Valkey, is needed"])


def _opening(partition: int, wanted: int) -> Call:
    is_first = partition == APPS_PARTITION
    step = Step(partition, scripts.OPEN, [], [wanted if is_first else "", keys.SCHEMA_VERSION])
    return logged_call("", step, now_ms=0)
