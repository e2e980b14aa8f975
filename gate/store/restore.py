"""Writes the records of a backup file into an empty Redis: one server, Sentinel or a Cluster, with any number of Partitions.

    1  look: nothing may be there but what the first start of a deployment writes
    2  begin: the schema of the deployment becomes `restoring CHECKSUM`, so that no node loads facts that are incomplete
    3  write all records, in any Partition that the present number gives them
    4  end: each Partition begins a new history, so that every node loads a snapshot; the schema is the usual one again

An interrupted restore is repeated with the same file: every step may run twice. Another file is refused, since facts of both
would remain. The first start's App stays if the file has no App of that key; its operators are replaced by those of the file.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from gate.core.backup import Entries, Header, Record, Rows, UserKey, count_of
from gate.core.codec import unpack_app
from gate.core.revision import APPS_PARTITION, Revision, partition_of
from gate.core.shown import counted, shown_id
from gate.errors import NotEmpty
from gate.store import keys, scripts
from gate.store.backup import id_parts
from gate.store.client import Client
from gate.store.scripts import Call
from gate.store.snapshot import SCAN_COUNT, exchange_on

# Name of the App that the first start of a deployment creates.
FIRST_APP = "default"
# Calls that are sent together: 1 to 30 ms of the server's time, and some MB at most.
CALLS_AT_ONCE = 256
ROWS_AT_ONCE = 20_000
_FACT_INDEXES = tuple(keys.INDEXED_FIELDS)


class Restore:
    """One restore. Every method may raise `StoreUnavailable`; the restore may then be repeated."""

    def __init__(self, client: Client, header: Header, checksum: str, apps: frozenset[str], last_seq: int) -> None:
        """`apps` are those of the file, `last_seq` the highest number of a Change of any Partition."""
        self._client = client
        self._header = header
        self._schema = keys.RESTORING_SCHEMA + checksum[:16].encode()
        self._apps = apps
        # The order of a list's entries is seq * 128 and more (`list_add.lua`): those of later Changes must be higher.
        self._first_seq = last_seq
        self._waiting: list[Call] = []
        self._waiting_rows = 0
        self._sent: asyncio.Task[object] | None = None
        self._begun: set[bytes] = set()
        """Keys without a User that this run has written to: the first write empties the key."""
        self._last_id: dict[bytes, tuple[int, int]] = {}
        self.partitions = header.partitions
        self.count = 0
        """Entries so far."""
        self.is_repeated = False
        """Whether an earlier run of the same file was interrupted."""

    async def begin(self, partitions: int | None) -> None:
        """Reserve the deployment. Raises `NotEmpty`."""
        (present, count) = await self._client.read(
            ("HGET", keys.meta(APPS_PARTITION), keys.META_SCHEMA),
            ("HGET", keys.meta(APPS_PARTITION), keys.META_PARTITIONS),
        )
        if (count is not None) and partitions is not None and int(count) != partitions:
            raise NotEmpty(f"{self._client.address.shown} holds a deployment of {int(count)} Partitions, not "
                           f"{partitions}: omit the number, or empty this Redis")  # fmt: skip
        if present != self._schema:
            await _refuse_facts(self._client)
        wanted = partitions or self._header.partitions
        (reply,) = await self._client.write(
            [Call(scripts.RESTORE_BEGIN, [keys.meta(APPS_PARTITION)], [self._schema, keys.SCHEMA_VERSION, wanted])]
        )
        present, count = reply
        self.is_repeated = present == self._schema
        if present not in (b"", keys.SCHEMA_VERSION, self._schema):
            raise NotEmpty(
                f"{self._client.address.shown} holds part of another backup (schema {present.decode(errors='replace')!r}): "
                "repeat that restore, or empty this Redis"
            )
        self.partitions = int(count)

    async def put(self, records: Sequence[Record]) -> None:
        """Write records, in the order of the file. They are written at the latest with `finish`."""
        for record in records:
            self.count += count_of(record)
            for call, rows in self._calls(record):
                self._waiting.append(call)
                self._waiting_rows += rows
            if len(self._waiting) >= CALLS_AT_ONCE or self._waiting_rows >= ROWS_AT_ONCE:
                await self._send()

    async def finish(self) -> list[Revision]:
        """Give the deployment to its nodes. Returns where each Partition's history begins."""
        await self._send()
        await self._wait()
        epochs = [secrets.token_hex(8) for _ in range(self.partitions)]
        # Partition 0 last: with its schema, nodes may load the facts.
        order = [*range(1, self.partitions), APPS_PARTITION]
        for first in range(0, len(order), CALLS_AT_ONCE):
            await self._client.write(
                [
                    Call(
                        scripts.RESTORE_END,
                        [keys.meta(partition), keys.log(partition)],
                        [
                            epochs[partition],
                            self._first_seq,
                            "" if partition != APPS_PARTITION else keys.SCHEMA_VERSION,
                        ],
                    )
                    for partition in order[first : first + CALLS_AT_ONCE]
                ]
            )
        return [Revision(partition, epoch, self._first_seq) for partition, epoch in enumerate(epochs)]

    def _calls(self, record: Record) -> Sequence[tuple[Call, int]]:
        if isinstance(record, UserKey):
            # Facts of an App that was removed while the backup was made.
            return [self._user_key(record)] if record.app in self._apps else []
        if isinstance(record, Entries):
            return self._entries(record)
        return self._rows(record)

    def _user_key(self, record: UserKey) -> tuple[Call, int]:
        partition = partition_of(record.app, record.user, self.partitions)
        written = [keys.user_key(partition, record.noun, record.app, record.user)]
        is_hash = record.noun == "user"
        if is_hash:
            written += [keys.index(partition, noun, record.app) for noun in _FACT_INDEXES]
        first = "1" if record.replaces else ""
        args = ["hash" if is_hash else "zset", first, record.user, *record.flat]
        return Call(scripts.RESTORE, written, args), len(record.flat) // 2

    def _rows(self, record: Rows) -> list[tuple[Call, int]]:
        if record.noun == "jobs":
            grouped: dict[int, list[bytes]] = {}
            for job, claims in zip(record.flat[::2], record.flat[1::2], strict=True):
                app, _, user = job.partition(b":")
                if app.decode() in self._apps:
                    grouped.setdefault(partition_of(app.decode(), user, self.partitions), []).extend((job, claims))
            return [self._into(keys.jobs(partition), "zset", flat) for partition, flat in grouped.items()]
        if record.noun == "apps":  # the App of a first start may stay
            return [(Call(scripts.RESTORE, [keys.apps()], ["hash", "", "", *record.flat]), len(record.flat) // 2)]
        if record.noun == "operators":
            return [self._into(keys.operators(), "hash", record.flat)]
        return [self._into(keys.quota(record.app), "zset", record.flat)]

    def _entries(self, record: Entries) -> list[tuple[Call, int]]:
        grouped: dict[bytes, list[bytes]] = {}
        for entry_id, flat in record.entries:
            key = self._stream_of(record, flat)
            if key is None:
                continue
            parts = id_parts(entry_id)
            if key in self._last_id and parts <= self._last_id[key]:
                # Entries of two Partitions of the file had the same id.
                parts = (self._last_id[key][0], self._last_id[key][1] + 1)
            self._last_id[key] = parts
            row = (b"%d-%d" % parts, b"%d" % len(flat), *flat)
            grouped.setdefault(key, []).extend(row)
        return [self._into(key, "stream", rows) for key, rows in grouped.items()]

    def _stream_of(self, record: Entries, flat: Sequence[bytes]) -> bytes | None:
        if record.noun == "deployment-audit":
            return keys.deployment_audit()
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        app = record.app or fields.get(b"a", b"").decode()
        if app not in self._apps:
            return None
        user = fields.get(b"u", b"")
        # An action on the App itself has no User.
        at = partition_of(app, user, self.partitions) if user else APPS_PARTITION
        return {"audit": keys.audit(at, app), "hooks": keys.hooks(at), "hooks-dead": keys.dead_hooks(at)}[record.noun]

    def _into(self, key: bytes, kind: str, flat: Sequence[bytes]) -> tuple[Call, int]:
        first = "" if key in self._begun else "1"
        self._begun.add(key)
        return Call(scripts.RESTORE, [key], [kind, first, "", *flat]), len(flat) // 2

    async def _send(self) -> None:
        """Send what waits. One pipeline is under way while the next one is decoded."""
        calls, self._waiting, self._waiting_rows = self._waiting, [], 0
        await self._wait()
        if calls:
            self._sent = asyncio.create_task(self._client.write(calls))

    async def _wait(self) -> None:
        if self._sent is not None:
            sent, self._sent = self._sent, None
            await sent


async def _refuse_facts(client: Client) -> None:
    """Raise `NotEmpty`, which names some of what is there, unless only a first start wrote to this Redis."""
    (packed,) = await client.read(("HVALS", keys.apps()))
    apps = [unpack_app(one) for one in packed]
    example = ""
    for master in await client.masters():
        example = example or await _a_user_of(master)
    if not example and len(apps) < 2 and all(app.name == FIRST_APP for app in apps):
        return
    listed = [counted(len(apps), "App") + (f" ({', '.join([app.key for app in apps][:8])})" if apps else "")]
    if example:
        listed.append(f"facts of Users, such as {example}")
    raise NotEmpty(f"{client.address.shown} is not empty: it holds {' and '.join(listed)}. A restore needs an empty Redis; "
                   "nothing was written")  # fmt: skip


async def _a_user_of(server: Client) -> str:
    """Return the name of a User that has facts on this server, or ""."""
    link = await server.open_dedicated()
    try:
        cursor: bytes = b"0"
        while True:
            command = ("SCAN", cursor, "MATCH", keys.ALL_PARTITIONS_GLOB, "COUNT", SCAN_COUNT)
            ((cursor, names),) = await exchange_on(link, [command])
            for key in filter(None, map(keys.parse, names)):
                return f"{shown_id(key.user)} of App {key.app}"
            if cursor == b"0":
                return ""
    finally:
        await link.aclose()
