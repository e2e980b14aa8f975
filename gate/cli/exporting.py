"""`gate export`: all facts of an App's Users as NDJSON that `gate import` reads, on stdout or into a file.

Users are found by a scan of the keyspace; each list is then read whole by the store's own page script, which leaves
out what has ended and keeps ends and order, so that an import makes the same lists again. Facts written meanwhile
may be in or not. A file appears under its name only when it is complete; see `gate.cli.outfile`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Annotated, Any

import orjson
import typer

from gate.cli.command import Command, takes
from gate.cli.outfile import opened_for_writing
from gate.cli.output import counted, json_id, warn
from gate.cli.store_connection import StoreConnection
from gate.clock import wall_ms
from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.core.snapshot import ListPart, UserPart

if TYPE_CHECKING:
    from gate.store.users import Profile

# Entries asked of the store at a time, and members a line: some 70 KB.
PAGE_ROWS = 1_000
# Lists requested concurrently, so that Redis does not wait while a reply is written to the file.
LISTS_AT_ONCE = 64

_WORDS = {ListKind.BLACKLIST: "blacklist", ListKind.WHITELIST: "whitelist"}

Fact = dict[str, Any]


@takes("app", "redis", prints_json=False)
def export_facts(
    command: Command,
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where to, .gz to compress; default: stdout.")] = "-",
) -> None:
    """Write an App's facts as NDJSON."""

    async def work(connection: StoreConnection, app: AppFacts, stream: IO[bytes]) -> int:
        count = 0
        async for fact in _facts(connection, app.key, wall_ms()):
            stream.write(orjson.dumps(fact, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
        return count

    # Opened before anything connects: a FIFO waits here for its reader, where Ctrl-C ends the wait.
    with opened_for_writing(file) as stream:
        count = command.ask_app(lambda connection, app: work(connection, app, stream))
    warn(f"gate: {counted(count, 'line')} written")


async def _facts(connection: StoreConnection, key: str, now_ms: int) -> AsyncIterator[Fact]:
    async for parts in connection.store.snapshot():
        # The snapshot has all Apps: a scan of one App's keys would take as long.
        users = [part for part in parts if isinstance(part, UserPart) and part.app == key]
        for fact in await _facts_of_users(connection, key, users, now_ms):
            yield fact
        # A list whose entries end comes a second time, with the ends; the page script gives both together.
        lists = [
            (part.kind, part.owner)
            for part in parts
            if isinstance(part, ListPart) and part.app == key and part.until_ms == FOREVER_MS
        ]
        for first in range(0, len(lists), LISTS_AT_ONCE):
            some = lists[first : first + LISTS_AT_ONCE]
            for found in await asyncio.gather(*(_list(connection, key, kind, owner, now_ms) for kind, owner in some)):
                for fact in found:
                    yield fact


async def _facts_of_users(connection: StoreConnection, key: str, parts: Sequence[UserPart], now_ms: int) -> list[Fact]:
    facts: list[Fact] = []
    for word, restraints in (("ban", connection.store.bans), ("mute", connection.store.mutes)):
        held = [(part.user, _until(word, part)) for part in parts if _until(word, part) > now_ms]
        # Not part of the snapshot, which holds what Verdicts need: asked for those that are banned alone.
        reasons = await restraints.reasons(key, [user for user, _ in held])
        for (user, until_ms), (why, by) in zip(held, reasons, strict=True):
            attribution = {name: text for name, text in (("reason", why), ("actor", by)) if text}
            facts.append({"kind": word, "user": json_id(user), **_end(until_ms, required=True), **attribution})
    registered = [part.user for part in parts if part.facts.registered]
    facts += [_profile(one) for one in await connection.store.users.profiles(key, registered) if one is not None]
    for part in parts:
        if part.facts.whitelist_on:
            facts.append({"kind": "whitelist-switch", "user": json_id(part.user), "on": True})
    return facts


def _profile(profile: Profile) -> Fact:
    texts = {name: text for name, text in (("name", profile.name), ("portrait", profile.portrait)) if text}
    return {"kind": "user", "user": json_id(profile.user), "registered": profile.registered_at_ms, **texts}


def _until(word: str, part: UserPart) -> int:
    return part.facts.banned_until_ms if word == "ban" else part.facts.muted_until_ms


def _end(until_ms: int, *, required: bool) -> Fact:
    if until_ms < FOREVER_MS:
        return {"until": until_ms}
    return {"permanent": True} if required else {}


async def _list(connection: StoreConnection, key: str, kind: ListKind, owner: bytes, now_ms: int) -> list[Fact]:
    entries: list[tuple[bytes, int]] = []
    before: int | None = None
    while True:
        page, before = await connection.store.lists.page(key, kind, owner, now_ms, before, PAGE_ROWS)
        entries.extend((entry.member, entry.until_ms) for entry in page)
        if before is None:
            break
    entries.reverse()  # the store answers newest first; written oldest first, an import keeps the order
    return list(_lines(_WORDS[kind], owner, entries))


def _lines(word: str, owner: bytes, entries: Sequence[tuple[bytes, int]]) -> Iterator[Fact]:
    """One line for each run of entries that share an end."""
    members: list[bytes] = []
    for index, (member, until_ms) in enumerate(entries):
        members.append(member)
        is_last = index + 1 == len(entries)
        if is_last or entries[index + 1][1] != until_ms or len(members) == PAGE_ROWS:
            named = [json_id(one) for one in members]
            yield {"kind": word, "owner": json_id(owner), "members": named, **_end(until_ms, required=False)}
            members = []
