"""The checks of `gate doctor` behind Sentinels or a Cluster: one line for each server, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gate.cli.findings import Finding, fail, ok, warn
from gate.cli.output import counted
from gate.cli.store_connection import run
from gate.errors import GateError

if TYPE_CHECKING:
    from gate.store.servers import ServerLook, Servers

# Some 5,000 writes.
FAR_BEHIND_BYTES = 1 << 20
NEARLY_FULL_SHARE = 0.9


def findings(subject: str, url: Callable[[], str], option: str, allow_eviction: bool) -> Iterator[Finding]:
    """One line for the whole of a Cluster, and one for each server; none where the URL names a single server."""
    # Late, as in `open_store`: the help page should not pay for what talks to Redis.
    from gate.store.address import parse_address
    from gate.store.link import LinkLost
    from gate.store.servers import look_at_servers

    try:
        address = parse_address(url())
    except GateError:
        return  # said by what needs the server
    # A single server has its lines already.
    if not address.sentinels and not address.seeds:
        return
    try:
        servers = run(look_at_servers(address))
    except LinkLost as loss:
        yield fail(f"{subject} servers", str(loss), f"start one of those that {option} names")
        return
    if servers.covered is not None:
        yield _coverage(f"{subject} Cluster", servers)
    for look in servers.looks:
        yield _server(f"{subject} server {look.shown}", look, servers, allow_eviction)


def _coverage(subject: str, servers: Servers) -> Finding:
    from gate.store.servers import SLOTS

    masters = sum(look.slots > 0 for look in servers.looks)
    replicas = sum(bool(look.primary) for look in servers.looks)
    found = (
        f"{counted(masters, 'master')}, {counted(replicas, 'replica')}, {servers.covered:,} of {SLOTS:,} slots covered"
    )
    if servers.covered != SLOTS:
        return fail(subject, found, "start the master that is away, or let its replica take over (CLUSTER FAILOVER)")
    if masters < 3:
        return warn(subject, found, "run three masters or more: fewer elect no replica when one of them dies")
    return ok(subject, found)


def _server(subject: str, look: ServerLook, servers: Servers, allow_eviction: bool) -> Finding:
    if look.problem:
        return fail(subject, look.problem, "start it, or take it out of the deployment")
    failures: list[str] = []
    warnings: list[str] = []
    if look.eviction_policy not in ("", "noeviction"):
        gone = f": {look.evicted_keys:,} keys were evicted" if look.evicted_keys else ""
        (warnings if allow_eviction else failures).append(f"set maxmemory-policy noeviction{gone}")
    # Of each server: a Cluster's slots are never even.
    if look.max_memory_bytes and look.used_memory_bytes > NEARLY_FULL_SHARE * look.max_memory_bytes:
        warnings.append("raise maxmemory: writes are refused when it is full")
    if not look.is_linked:
        failures.append(f"it does not follow {look.primary}: look at its log and at the network between the two")
    elif servers.lag_bytes(look) > FAR_BEHIND_BYTES and not look.is_primary:
        warnings.append("it is far behind: look at its processor, its disk and the network")
    if not look.is_append_only:
        warnings.append("set appendonly yes, or a restart loses what came after a snapshot")
    if look.min_replicas_to_write == "0":
        warnings.append("set min-replicas-to-write 1, or a primary that is cut off goes on taking writes")
    # A master without slots holds nothing that a failover could lose.
    if look.is_primary and not look.online_replicas and (look.slots or servers.covered is None):
        warnings.append("start a replica: without it no failover can happen")
    primaries = [other for other in servers.looks if other.shown == look.primary]
    # A replica of an older version can't read what a newer primary sends it after a failover.
    if primaries and primaries[0].version not in ("", look.version):
        warnings.append(f"run the version of its primary, {primaries[0].version}")
    found = ", ".join(_parts(look, servers))
    if failures:
        return fail(subject, found, "; ".join([*failures, *warnings]))
    return warn(subject, found, "; ".join(warnings)) if warnings else ok(subject, found)


def _parts(look: ServerLook, servers: Servers) -> Iterator[str]:
    if look.is_primary:
        yield f"primary of {look.slots:,} slots" if look.slots else "primary"
        yield counted(look.online_replicas, "replica")
    else:
        yield f"replica of {look.primary}"
        yield f"{servers.lag_bytes(look):,} bytes behind" if look.is_linked else "link down"
    yield f"{look.name} {look.version}"
    limit = f" of {look.max_memory_bytes / (1 << 20):.0f}" if look.max_memory_bytes else ""
    yield f"{look.used_memory_bytes / (1 << 20):.0f}{limit} MiB used"
    fsync = f" (fsync {look.append_fsync})" if look.append_fsync else ""
    yield f"append-only file on{fsync}" if look.is_append_only else "append-only file off"
    yield f"maxmemory-policy {look.eviction_policy or 'not known'}"
    yield f"min-replicas-to-write {look.min_replicas_to_write or 'not known'}"
