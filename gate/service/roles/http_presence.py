"""What the HTTP process has of Presence: reads, feeds to follow, and the Gateway that it is itself, for WebSockets.

Each connects to Redis when it is first used, and again whenever it must: Presence holds up no start. Opening Sessions has a
connection of its own, so that a storm of connects holds up no read. No Session is opened before that Redis is known to be the
one that the deployment keeps Presence in: two would split it.
"""

from __future__ import annotations

import asyncio
import resource

from gate.errors import StoreUnavailable
from gate.http.pushing import Pushing
from gate.presence.local_gateway import LocalGateway
from gate.presence.session_service import SessionService
from gate.presence.shared_feeds import SharedFeeds
from gate.replica.authorization import Admission
from gate.service.limits import most_clients
from gate.service.role import RoleContext
from gate.service.stores import agreed_on_presence
from gate.store.address import parse_address
from gate.store.cluster import client_of
from gate.store.presence import PresenceStore

# Of those that a process may open: requests, event streams, the Replica, Redis.
FILES_FOR_OTHERS = 512
# Of the node's id in the name of one of several Gateways. Gate makes ids of 16; a file with a longer one is a person's.
MAX_NODE_CHARS = 48
# Connects come one by one here, not many in one chunk as from a Gateway: those that come while a batch is under way make the
# next one, instead of a batch each. Ten thousand that came back cost this role a quarter less so, and Redis half.
BATCHES_UNDER_WAY = 1
# How long the first client of an App waits for the look at that Redis, which takes milliseconds where it answers.
AGREED_WITHIN_S = 1.0


class HttpPresence:
    """One a process; `aclose` it when the server has drained."""

    def __init__(self, context: RoleContext, admission: Admission) -> None:
        address = parse_address(context.config.presence_redis or context.role_config.redis_url)
        self._reading = client_of(address)
        self._opening = client_of(address)
        self.store = PresenceStore(self._reading)
        self.feeds = SharedFeeds(self._reading)
        self.pinging = Pushing()
        service = SessionService(
            PresenceStore(self._opening), context.config.lease_ttl_ms, admission, BATCHES_UNDER_WAY
        )
        self._agreeing = asyncio.create_task(agreed_on_presence(context, self._opening))
        self.gateway = LocalGateway(_place(context), service, self.feeds, self._agreed, context.config.http_workers)

    async def aclose(self) -> None:
        """End the leases, then everything else."""
        self._agreeing.cancel()
        await asyncio.wait([self._agreeing])
        await self.pinging.aclose()
        await self.gateway.aclose()
        await self.feeds.aclose()
        await self._reading.aclose()
        await self._opening.aclose()

    async def _agreed(self) -> None:
        await asyncio.wait([self._agreeing], timeout=AGREED_WITHIN_S)
        if not (self._agreeing.done() and self._agreeing.result()):
            raise StoreUnavailable("Presence has not been reached yet, or is not the one that other nodes use")


def _place(context: RoleContext) -> str:
    """Each HTTP process of the node is a Gateway of its own."""
    node = context.role_config.node_id
    return node if context.config.http_workers == 1 else f"{node[:MAX_NODE_CHARS]}/{context.role_config.index}"


def most_websockets() -> int:
    """As many as there are files for."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(most - FILES_FOR_OTHERS, most_clients(most) // 2)
