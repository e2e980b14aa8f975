"""Settings that all nodes of a deployment share, stored in Redis. A node with a different value is refused, with the name.

    lease-ttl-ms  a Gateway's lease is watched by every node: the node with the shortest would end Sessions early
    presence      the id of the Redis with Presence, which is stored there too: two such servers would split Presence

The first node stores its settings. To change one, stop every node: the next start finds that no other node beats, and replaces
the old settings. Running nodes restore both every few seconds, in case a Redis lost its data.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from gate.clock import monotonic_ms
from gate.errors import InvalidConfig
from gate.store import keys, presence_keys, scripts
from gate.store.client import Client
from gate.store.registry import LEASE_TTL_MS, READ, parse_registry
from gate.store.scripts import Call

LOOK_EVERY_S = 0.1
PUT_BACK_EVERY_S = 2.0
# A Presence without an id is watched for this long: running nodes restore a lost id.
PRESENCE_LOST_S = 2 * PUT_BACK_EVERY_S

LEASE_TTL, PRESENCE = "lease-ttl-ms", "presence"


class Differing(NamedTuple):
    """A setting whose value in the deployment is another one."""

    name: str
    mine: str
    present: str


async def agree(facts: Client, node: str, mine: Mapping[str, str]) -> None:
    """Ensure that these are the deployment's settings. Raises `InvalidConfig`, `StoreUnavailable`.

    If one differs, look for another live node, which takes at most a lease.
    """
    differing = await _take(facts, mine, {})
    while differing:
        other = await _other_that_beats(facts, node)
        if other is not None:
            raise InvalidConfig([_refusal(one, other) for one in differing])
        # Replaces exactly the values seen, so two starting nodes can't both win.
        differing = await _take(facts, mine, {one.name: one.present for one in differing})


async def agree_on_presence(facts: Client, presence: Client, node: str) -> None:
    """Ensure that `presence` is the Redis that holds the deployment's Presence. Raises as `agree`."""
    (recorded,) = await facts.read(("HGET", keys.settings(), PRESENCE))
    found = await _presence_id(presence, "")
    deadline_ms = monotonic_ms() + int(PRESENCE_LOST_S * 1_000)
    while not found and recorded and (other := await _other_that_beats(facts, node)):
        if monotonic_ms() >= deadline_ms:
            raise InvalidConfig([_refusal(Differing(PRESENCE, "", recorded.decode()), other)])
        found = await _presence_id(presence, "")
    await agree(facts, node, {PRESENCE: found or await _presence_id(presence, secrets.token_hex(8))})


async def put_back(facts: Client, presence: Client | None, mine: Mapping[str, str]) -> list[Differing]:
    """Restore lost settings. Returns those that another node changed. Raises `StoreUnavailable`.

    `presence` None: that Redis is unavailable.
    """
    (recorded,) = await facts.read(("HGET", keys.settings(), PRESENCE))
    if presence is not None:
        found = await _presence_id(presence, recorded.decode() if recorded else secrets.token_hex(8))
        mine = {**mine, PRESENCE: found}
    return await _take(facts, mine, {})


def shown(differing: Differing) -> str:
    """Return the problem, for the log and `/readyz` of a running node."""
    return f"{_option(differing)} differs from the deployment's"


async def _take(facts: Client, mine: Mapping[str, str], replacing: Mapping[str, str]) -> list[Differing]:
    args = [part for name, value in mine.items() for part in (name, value, replacing.get(name, ""))]
    (flat,) = await facts.write([Call(scripts.SETTINGS_TAKE, [keys.settings()], args)])
    words = [word.decode() for word in flat]
    return [Differing(name, mine[name], present) for name, present in zip(words[::2], words[1::2], strict=True)]


async def _presence_id(presence: Client, given: str) -> str:
    (found,) = await presence.write([Call(scripts.PRESENCE_ID, [presence_keys.ID], [given])])
    return str(found.decode())


async def _other_that_beats(facts: Client, node: str) -> str | None:
    """Return another node that renews its lease, as soon as one does; None if none did for a lease."""
    seen: dict[str, tuple[str, int]] | None = None
    began_ms = monotonic_ms()
    while True:
        registry = parse_registry(await facts.query(READ))
        beats = {listed.node: (listed.run, listed.beat) for listed in registry.nodes if listed.node != node}
        if seen is not None:
            for other, beat in beats.items():
                if seen.get(other) != beat:
                    return other
        seen = beats
        # A live node would have renewed within its lease.
        if monotonic_ms() - began_ms >= LEASE_TTL_MS:
            return None
        await asyncio.sleep(LOOK_EVERY_S)


def _refusal(differing: Differing, other: str) -> str:
    if differing.name == PRESENCE:
        problem = f"--presence-redis leads to another server than node {other} keeps Presence in: name the same one"
    else:
        problem = f"{_option(differing)} differs from {differing.present}, which node {other} runs with: give it that"
    return f"{problem}. To change it for the deployment, stop every node, then start them with the new value"


def _option(differing: Differing) -> str:
    return "--presence-redis" if differing.name == PRESENCE else f"--{differing.name} {differing.mine}"
