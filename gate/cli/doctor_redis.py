"""The checks of `gate doctor` on Redis: does it answer, does it keep written data, does its clock agree with this machine's.

If Presence has a Redis of its own, the same checks are made on it, under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from gate.cli import doctor_servers
from gate.cli.findings import Finding, fail, ok, warn
from gate.cli.options import Target
from gate.cli.output import counted
from gate.cli.store_connection import StoreConnection, run, run_with
from gate.cli.time_format import shown_duration
from gate.clock import wall_ms
from gate.errors import GateError
from gate.store.server_health import ServerHealth, read_server_health

if TYPE_CHECKING:
    from gate.store.address import Address
    from gate.store.client import Client
    from gate.store.clocks import ClockLook
    from gate.store.durability import Durability
    from gate.store.rights import Needs

NEARLY_FULL_PERCENT = 90
# Of a limit: past it one lost packet, which is sent again after some 200 ms, is an outage.
FAR_SHARE = 0.5
# How long the doctor tries to connect where the limit was too short.
PATIENT_MS = 10_000
# Up to here a node's facts stay fresh all the time; at 250 ms they show as stale now and then (measured, 2 busy cores).
FRESH_TRIP_MS = 200

# What to do, by a word of what Redis answered; a server that does not answer is another matter.
_ADVICE = {
    "WRONGPASS": "it answers, and the name or the password in {option} is wrong: was it changed?",
    "invalid password": "it answers, and the password in {option} is wrong: was it changed?",
    "without any password configured": "it answers, and has no password: leave it out of {option}",
    "NOAUTH": "it answers, and wants a password: {option} redis://[USER:]PASSWORD@HOST:PORT/DB",
    "NOPERM": "it answers, and this user lacks a right: grant what docs/operations.md lists (ACL SETUSER)",
    "is a Sentinel,": "it answers, and knows where Redis is: {option} redis+sentinel://HOST:PORT,HOST:PORT/MASTER-NAME",
    "not a Sentinel": "it answers, and is the server itself: {option} redis://[USER:]PASSWORD@HOST:PORT/DB",
    "is a node of a Redis Cluster": "it answers, and is one of several servers: {option} redis+cluster://HOST:PORT,HOST:PORT",
    "no node of a Redis Cluster": "it answers, and is one server: {option} redis://[USER:]PASSWORD@HOST:PORT/DB",
    "said where the slots are": "checks go on without them: start one of those that {option} names",
    "no master of that name": "they answer: the name behind the hosts in {option} is that of `sentinel monitor NAME`",
    "no Sentinel of": "checks go on without them: start one of those that {option} names",
    "MISCONF": "it answers, and can't write its snapshots: look at its disk and its log",
    "OOM": "it answers, and its memory is full: raise maxmemory, or free some",
    "READONLY": "it answers, and is a replica: name the primary with {option}",
    "is a replica of": "it answers, and is a replica: name the primary with {option}",
    "MASTERDOWN": "it answers, and is a replica without its primary: name the primary with {option}",
    "LOADING": "it answers, and is reading its data: wait",
    "BUSY": "it answers, and a script holds it: SCRIPT KILL ends one that has written nothing",
    "CLUSTERDOWN": "it answers, and its cluster lacks slots: CLUSTER INFO says which",
    "max number of clients": "it answers, and has as many clients as it may: raise maxclients",
    "protected mode": "it answers, and takes local clients only: set a password, or bind",
    "CERTIFICATE": "it answers, and its certificate is not trusted: ?ssl_ca_certs=FILE in {option} names the authority",
}


_OF_RIGHTS = ("NOPERM", "ACL failure", "executing the script can't")


def advice_on(problem: str, option: str) -> str:
    """What to do about a server that answered with this; empty if it did not answer."""
    # The first that fits: words of one answer are ordered from the special to the general.
    return next((advice.format(option=option) for word, advice in _ADVICE.items() if word in problem), "")


def _facts_needs(target: Target) -> Needs:
    from gate.store.rights import ALL, FACTS

    return FACTS if target.has_presence_redis() else ALL


def _advice(fault: GateError, url: Callable[[], str], option: str, needs: Needs) -> str:
    # Tried once more with more patience: so a server that is far away differs from one that is down.
    if "connect_timeout_ms" in str(fault) and (connect_ms := _connects_in_ms(url())):
        return (
            f"it answers after {connect_ms:,.0f} ms: give it longer, with connect_timeout_ms={2 * connect_ms:.0f} "
            f"behind ? in the URL of {option}"
        )
    missing = _missing_rights(url(), needs) if any(word in str(fault) for word in _OF_RIGHTS) else ""
    return missing or advice_on(str(fault), option)


def _missing_rights(url: str, needs: Needs) -> str:
    """One line; "" where nothing is missing, or where nothing can be tried."""
    from gate.store.address import parse_address
    from gate.store.cluster import client_of
    from gate.store.rights import missing_rights, shown_missing

    async def looked() -> str:
        client = client_of(parse_address(url))
        try:
            missing = await missing_rights(client, needs)
            return shown_missing(client, missing) if missing else ""
        finally:
            await client.aclose()

    try:
        return run(looked())
    except GateError:
        return ""


def _connects_in_ms(url: str) -> float | None:
    """How long it takes to connect where there is time; None if it does not come about."""
    from gate.store.address import parse_address
    from gate.store.cluster import client_of
    from gate.store.server_health import measure_distance

    async def measured() -> float:
        client = client_of(parse_address(url), PATIENT_MS, PATIENT_MS)
        try:
            return (await measure_distance(client))[0]
        finally:
            await client.aclose()

    try:
        return run(measured())
    except GateError:
        return None


def findings(target: Target, allow_eviction: bool = False) -> Iterator[Finding]:
    """One finding if Redis can't be reached, else several."""
    yield from _sentinels("Redis Sentinels", target.redis_url, "--redis")
    try:
        # One connection for all of it, as a node has one.
        vitals, address, apps, clocks = run_with(target, _looked)
    except GateError as fault:
        start = "checks go on without it, writes do not: start it, or say --redis URL"
        yield fail("Redis", str(fault), _advice(fault, target.redis_url, "--redis", _facts_needs(target)) or start)
        # Also where the whole can't be reached: which server is away is what helps.
        yield from doctor_servers.findings("Redis", target.redis_url, "--redis", allow_eviction)
        return
    nodes = counted(len(clocks.offsets_ms), "live node")
    yield ok("Redis", f"{vitals.name} {vitals.version} answers, {counted(apps, 'App')}, {nodes}")
    yield _rights("Redis rights", target.redis_url(), _facts_needs(target))
    yield from _of_server("Redis", vitals, address, clocks.own_offset_ms, "--redis", "Bans", allow_eviction)
    yield from doctor_servers.findings("Redis", target.redis_url, "--redis", allow_eviction)
    yield _durability(target, vitals)
    yield from _node_clocks(clocks.offsets_ms)


def presence_findings(target: Target, allow_eviction: bool = False) -> Iterator[Finding]:
    """As `findings`, of the Redis that only Presence uses; none where it shares the other one."""
    if not target.has_presence_redis():
        return
    # Late, as in `open_store`: the help page should not pay for what talks to Redis.
    from gate.store.address import parse_address
    from gate.store.rights import PRESENCE

    yield from _sentinels("Presence Redis Sentinels", target.presence_url, "--presence-redis")
    try:
        url = target.presence_url()
        vitals, skew_ms = run(_looked_at(url))
    except GateError as fault:
        start = "no client connects without it: start it, or say --presence-redis URL"
        yield fail(
            "Presence Redis", str(fault), _advice(fault, target.presence_url, "--presence-redis", PRESENCE) or start
        )
        yield from doctor_servers.findings("Presence Redis", target.presence_url, "--presence-redis", allow_eviction)
        return
    yield ok("Presence Redis", f"{vitals.name} {vitals.version} answers")
    address = parse_address(url)
    yield from _of_server("Presence Redis", vitals, address, skew_ms, "--presence-redis", "Sessions", allow_eviction)
    yield from doctor_servers.findings("Presence Redis", target.presence_url, "--presence-redis", allow_eviction)


def _of_server(
    name: str, vitals: ServerHealth, address: Address, skew_ms: int, option: str, lost: str, allow_eviction: bool
) -> Iterator[Finding]:
    yield _distance(f"{name} distance", vitals, address, option)
    if not address.seeds:  # every server of a Cluster has a line of its own
        yield _role(f"{name} role", vitals, option)
        if address.sentinels:
            yield _replicas(f"{name} replicas", vitals)
        yield _persistence(f"{name} persistence", vitals)
        yield _eviction(f"{name} eviction", vitals, lost, allow_eviction)
        yield _memory(f"{name} memory", vitals)
    yield _clock("clock" if name == "Redis" else f"{name} clock", skew_ms)


async def _looked(connection: StoreConnection) -> tuple[ServerHealth, Address, int, ClockLook]:
    from gate.store.clocks import look_at_clocks

    client = connection.store.client
    return (
        await read_server_health(client),
        client.address,
        len(await connection.store.apps.list()),
        await look_at_clocks(client),
    )


async def _looked_at(url: str) -> tuple[ServerHealth, int]:
    # Late, as in `open_store`: the help page should not pay for what talks to Redis.
    from gate.store.address import parse_address
    from gate.store.bootstrap import refuse_old_server
    from gate.store.cluster import client_of

    client = client_of(parse_address(url))
    try:
        await refuse_old_server(client)
        return await _vitals(client)
    finally:
        await client.aclose()


async def _vitals(client: Client) -> tuple[ServerHealth, int]:
    before_ms = wall_ms()
    vitals = await read_server_health(client)
    after_ms = wall_ms()
    # Redis replied at some moment between the two; a difference within that interval is not skew.
    # Ahead or behind; 0 for a clock that may agree.
    return vitals, min(0, after_ms - vitals.now_ms) or max(0, before_ms - vitals.now_ms)


def _rights(subject: str, url: str, needs: Needs) -> Finding:
    if missing := _missing_rights(url, needs):
        # The text has what is missing and the command that grants it.
        return fail(subject, *missing.split(": ", 1))
    return ok(subject, "every command, key and channel that Gate uses")


def _distance(subject: str, vitals: ServerHealth, address: Address, option: str) -> Finding:
    found = (
        f"connecting takes {vitals.connect_ms:.0f} ms of {address.connect_timeout_ms:,}, "
        f"an answer {vitals.round_trip_ms:.1f} ms of {address.timeout_ms:,}"
    )
    if vitals.connect_ms > FAR_SHARE * address.connect_timeout_ms:
        return warn(subject, found, f"give it longer: connect_timeout_ms=MS behind ? in the URL of {option}")
    if vitals.round_trip_ms > FAR_SHARE * address.timeout_ms:
        return warn(subject, found, f"give it longer: timeout_ms=MS behind ? in the URL of {option}")
    # Not a fault: checks are right, and shown as some milliseconds old now and then.
    if vitals.round_trip_ms > FRESH_TRIP_MS:
        return warn(subject, found, "this is too far for facts that are always fresh: run Redis nearer to this node")
    return ok(subject, found)


def _role(subject: str, vitals: ServerHealth, option: str) -> Finding:
    if vitals.role == "master":
        return ok(subject, "primary")
    return fail(subject, vitals.role, f"name the primary with {option}: a replica refuses writes")


def _sentinels(subject: str, url: Callable[[], str], option: str) -> Iterator[Finding]:
    """One finding, where the URL names Sentinels."""
    # Late, as in `open_store`: the help page should not pay for what talks to Redis.
    from gate.store.address import parse_address
    from gate.store.sentinel import look_at_each

    try:
        address = parse_address(url())
    except GateError:
        return  # said by what needs the server
    if not address.sentinels:
        return
    looks = run(look_at_each(address, address.connect_timeout_ms))
    primaries = sorted({look.primary for look in looks if look.primary})
    problems = [look.problem for look in looks if look.problem]
    answering = f"{sum(bool(look.primary) for look in looks)} of {len(looks)} answer"
    found = f"{answering}, the primary is {' or '.join(primaries)}" if primaries else answering
    if problems:
        found += f": {'; '.join(problems)}"
    if not primaries or any("NOQUORUM" in problem for problem in problems):
        yield fail(subject, found, f"no failover would happen: start the Sentinels that {option} names")
    elif len(primaries) > 1:
        yield warn(subject, found, "a failover is under way, or a Sentinel is cut off from the others: look again")
    elif problems:
        yield warn(subject, found, f"start what does not answer, or correct {option}")
    else:
        yield ok(subject, found)


def _replicas(subject: str, vitals: ServerHealth) -> Finding:
    found = f"{counted(vitals.online_replicas, 'replica')}, {vitals.replica_lag_bytes:,} bytes behind at the most"
    if not vitals.online_replicas:
        return warn(subject, "none follows the primary", "start one: without it no failover can happen")
    # A primary that lost its network goes on taking writes that the failover then drops.
    if vitals.min_replicas_to_write == "0":
        advice = "set min-replicas-to-write 1 on every server: else a primary that is cut off goes on taking writes"
        return warn(subject, f"{found}; min-replicas-to-write 0", advice)
    return ok(subject, f"{found}; min-replicas-to-write {vitals.min_replicas_to_write or 'not known'}")


def _persistence(subject: str, vitals: ServerHealth) -> Finding:
    # Before the append-only file: with `stop-writes-on-bgsave-error` the server refuses writes already.
    if vitals.last_write_failed:
        return fail(subject, "the last write to disk failed", "look at its disk and its log: writes may be refused")
    if not vitals.is_append_only:
        return warn(
            subject, "append-only file off", "set appendonly yes, or a restart loses what came after a snapshot"
        )
    fsync = vitals.append_fsync or "not known"
    if fsync == "no":
        return warn(subject, "append-only file on, fsync no", "set appendfsync everysec, or always")
    return ok(subject, f"append-only file on, fsync {fsync}")


def _durability(target: Target, vitals: ServerHealth) -> Finding:
    """What an acknowledged write outlives, and whether this server can confirm it now."""
    try:
        durability = target.durability()
        refusal = run(_refusal(target.redis_url(), durability))
    except GateError as fault:
        return fail("durability", str(fault), "write one of local, fsync, replica")
    least = vitals.min_replicas_to_write or "not known"
    fsync = vitals.append_fsync or "not known"
    found = (
        f"{durability.shown}; {counted(vitals.online_replicas, 'replica')} connected, "
        f"min-replicas-to-write {least}, appendfsync {fsync}"
    )
    if refusal:
        return fail("durability", found, refusal)
    if durability.level == "replica" and vitals.online_replicas < durability.replicas:
        return fail("durability", found, "every write is pending: start the replicas, or lower --durability-replicas")
    # Not refused: it is right, and a second slow.
    if durability.level == "fsync" and fsync == "everysec":
        return warn("durability", found, "a write waits up to 1 s for its fsync: set appendfsync always")
    return ok("durability", found)


async def _refusal(url: str, durability: Durability) -> str:
    """Why `gate serve` would not start with it on this server; "" if it would."""
    from gate.errors import CannotStart
    from gate.store.address import parse_address
    from gate.store.cluster import client_of
    from gate.store.durability import require

    client = client_of(parse_address(url))
    try:
        await require(client, durability)
    except CannotStart as refusal:
        return str(refusal)
    finally:
        await client.aclose()
    return ""


def _eviction(subject: str, vitals: ServerHealth, lost: str, allow_eviction: bool) -> Finding:
    policy = vitals.eviction_policy
    if vitals.evicted_keys and policy != "noeviction":
        return fail(
            subject, f"{vitals.evicted_keys:,} keys were evicted: {lost} may be lost", "set maxmemory-policy noeviction"
        )
    # Managed services often hide CONFIG.
    if policy is None:
        return warn(subject, "the server does not tell", "make sure that maxmemory-policy is noeviction")
    if policy != "noeviction":
        return (warn if allow_eviction else fail)(
            subject, f"maxmemory-policy {policy}: a full memory would drop {lost}", "set it to noeviction"
        )
    return ok(subject, "none (noeviction)")


def _memory(subject: str, vitals: ServerHealth) -> Finding:
    used = f"{vitals.used_memory_bytes / (1 << 20):.0f} MiB used"
    if not vitals.max_memory_bytes:
        return ok(subject, f"{used}, no limit")
    percent = 100 * vitals.used_memory_bytes // vitals.max_memory_bytes
    found = f"{used}, {percent} % of maxmemory"
    if percent >= NEARLY_FULL_PERCENT:
        return warn(subject, found, "raise maxmemory: writes are refused when it is full")
    return ok(subject, found)


def _node_clocks(offsets_ms: Mapping[str, int]) -> Iterator[Finding]:
    """Each node's clock as the node itself found it with its last beat: this machine may be none of theirs."""
    for node, offset_ms in sorted(offsets_ms.items()):
        yield _clock(f"clock of node {node}", offset_ms)


def _clock(subject: str, offset_ms: int) -> Finding:
    from gate.store.clocks import MOST_APART_MS, WARN_APART_MS

    way = "ahead of" if offset_ms > 0 else "behind" if offset_ms else "from"
    found = f"{shown_duration(abs(offset_ms))} {way} Redis's"
    advice = "run NTP on both machines: Bans end by the wall clock"
    if abs(offset_ms) > MOST_APART_MS:
        return fail(subject, found, f"{advice}, and where they differ so much nothing that has ended is removed")
    return warn(subject, found, advice) if abs(offset_ms) >= WARN_APART_MS else ok(subject, found)
