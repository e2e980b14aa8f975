"""The Store: access to one deployment's facts in Redis, with one attribute for each noun.

Made by `Store.connect` in every process that writes or replicates; a check never needs it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from gate.core.revision import DEFAULT_PARTITIONS
from gate.core.snapshot import Part
from gate.store.address import parse_address
from gate.store.apps import Apps
from gate.store.audit import Audit
from gate.store.bootstrap import open_partitions, partitions_present, refuse_old_server
from gate.store.bulk import BulkWriter
from gate.store.changelog import Changelog
from gate.store.client import Client
from gate.store.cluster import client_of
from gate.store.console_sessions import ConsoleSessions
from gate.store.deactivation import Deactivation
from gate.store.jobs import Jobs
from gate.store.lists import Lists
from gate.store.nodes import NodeAnnouncer
from gate.store.nonces import Nonces
from gate.store.operators import Operators
from gate.store.penalties import BAN, MUTE, Penalties
from gate.store.rights import FACTS, require_rights
from gate.store.user_search import UserSearch
from gate.store.users import Users
from gate.store.webhook_queue import WebhookQueue
from gate.store.writer import Writer, WriteReceipt

__all__ = ["Store", "WriteReceipt"]


class Store:
    """A connected Store. Call `aclose` when done. Every call may raise `StoreUnavailable`, and none hangs."""

    def __init__(self, client: Client, partitions: int) -> None:
        self.client = client
        self.writer = Writer(client, partitions)
        self.apps = Apps(self.writer)
        self.bans = Penalties(self.writer, BAN)
        self.mutes = Penalties(self.writer, MUTE)
        self.lists = Lists(self.writer)
        self.users = Users(self.writer)
        self.search = UserSearch(client, partitions)
        self.deactivation = Deactivation(self.writer)
        self.jobs = Jobs(self.writer)
        self.webhooks = WebhookQueue(client, partitions)
        self.audit = Audit(self.writer)
        self.nonces = Nonces(client, partitions)
        self.operators = Operators(client)
        self.console_sessions = ConsoleSessions(client)
        self.changelog = Changelog(client, partitions)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        partitions: int | None = None,
        deadline_ms: int | None = None,
        connect_ms: int | None = None,
        tries_rights: bool = False,
    ) -> Store:
        """Connect, and initialize the deployment if this Redis holds none yet. Deadlines default to the URL's.

        `tries_rights`: first check that the user has every right that Gate needs. Raises `StoreUnavailable`; `InvalidConfig`
        for an invalid URL, a server that is too old, or a number of Partitions other than the deployment's.
        """
        client = client_of(parse_address(url), deadline_ms, connect_ms)
        try:
            await refuse_old_server(client)
            if tries_rights:
                await require_rights(client, FACTS)
            # The number present wins over the default, never over an explicit number.
            wanted = partitions or await partitions_present(client) or DEFAULT_PARTITIONS
            return cls(client, await open_partitions(client, [0], wanted))
        except BaseException:
            await client.aclose()
            raise

    @property
    def partitions(self) -> int:
        """Number of Partitions of the deployment."""
        return self.writer.partitions

    @property
    def url_shown(self) -> str:
        """The server's URL, with the password hidden."""
        return self.client.address.shown

    def announcer(self, node: str, place: str = "", *, owns_server: bool = False) -> NodeAnnouncer:
        """Return the announcer of one node, for its replicator; `place` and `owns_server` as for `NodeAnnouncer`."""
        return NodeAnnouncer(self.client, node, place, owns_server=owns_server, partitions=self.partitions)

    def snapshot(self) -> AsyncIterator[Sequence[Part]]:
        """Yield all facts in batches, as the Changelog does."""
        return self.changelog.snapshot()

    def bulk(self, app_key: str, now_ms: int, ceiling: int | None = None) -> BulkWriter:
        """Return a writer for many facts at once, as for an import."""
        return BulkWriter(self.writer, app_key, now_ms, ceiling)

    async def ping(self) -> None:
        """Raise `StoreUnavailable` if the server does not answer."""
        await self.client.read(("PING",))

    async def aclose(self) -> None:
        """Close every connection."""
        await self.changelog.aclose()
        await self.client.aclose()
