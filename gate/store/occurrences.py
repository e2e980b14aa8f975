"""Redis's part of the erasure audit: every key is checked, and every place that holds the User's id is reported.

It walks over the whole keyspace, in bounded steps on a separate Link: it may take minutes and delays no other caller.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence

from gate.core.codec import unpack_app, unpack_members
from gate.core.ids import shown
from gate.core.occurrence import Occurrence, Tally
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.client import Client
from gate.store.link import Command, Link, LinkLost, Reply, raise_if_error

SCAN_COUNT = 1_000
STREAM_STEP = 1_000
STEP_DEADLINE_MS = 10_000

# Kept for an erased User: that it is deactivated, and from when Tokens of a later User may be valid. Also that it was
# registered, but not when.
_RECORD_FIELDS = {keys.DEACTIVATED_AT, keys.OPERATION, keys.TOKENS_VALID_FROM, keys.TOKENS_MINTED_TO}

_APP_SETS = re.compile(rb"gate:\{\d+\}:(bans|mutes|users|quota|gone):([A-Za-z0-9_-]+)")
_STREAMS = re.compile(rb"gate:\{\d+\}:(log|hooks|hooks-dead|audit:([A-Za-z0-9_-]+))")
_JOBS = re.compile(rb"gate:\{\d+\}:jobs")
_NOT_OF_USERS = re.compile(
    rb"gate:(\{\d+\}:(meta|apps|badges-ended|console-sessions|settings|nonces:.*|hook-last:.*)|nodes|registry|presence-id)",
    re.DOTALL,
)
_STREAM_NAMES = {b"log": "the Changelog, until it is trimmed", b"hooks": "results to be sent to a webhook",
                 b"hooks-dead": "dead letters of webhooks"}  # fmt: skip


async def occurrences(client: Client, app_key: str, user: bytes) -> list[Occurrence]:
    """Return every place in Redis that holds the id. Raises `StoreUnavailable`."""
    # One tally for all masters.
    tally = Tally()
    for server in await client.masters():
        link = await server.open_dedicated()
        try:
            search = _Search(link, app_key, user, tally)
            async for names in search.all_keys():
                await search.look_at(names)
        except LinkLost as loss:
            raise StoreUnavailable(str(loss)) from None
        finally:
            await link.aclose()
    # The App's own settings may name it.
    (packed,) = await client.read(("HGET", keys.apps(), app_key))
    if packed is not None and shown(user) in unpack_app(packed).exempt:
        tally.add("the App's exempt senders", False)
    return tally.all()


class _Search:
    def __init__(self, link: Link, app_key: str, user: bytes, tally: Tally) -> None:
        self._link = link
        self._app = app_key.encode()
        self._user = user
        self.tally = tally

    async def all_keys(self) -> AsyncIterator[list[bytes]]:
        cursor = b"0"
        while True:
            ((cursor, names),) = await self._ask([("SCAN", cursor, "COUNT", SCAN_COUNT)])
            yield names
            if cursor == b"0":
                return

    async def look_at(self, names: Sequence[bytes]) -> None:
        """Read streams one by one; of all other keys, one command each, in one pipeline."""
        questions: list[tuple[bytes, Command]] = []
        for name in names:
            if stream := _STREAMS.fullmatch(name):
                # The Changelog and webhooks of all Apps, but only this App's audit.
                if stream[2] in (None, self._app):
                    await self._look_into_stream(name, stream[1])
            elif question := self._question(name):
                questions.append((name, question))
        replies = await self._ask([question for _, question in questions])
        for (name, _), reply in zip(questions, replies, strict=True):
            if reply is not None and reply != []:
                self._note(name, reply)

    def _question(self, name: bytes) -> Command | None:
        """Return the command that checks for the id in this key; None for a key that can't hold it."""
        if _JOBS.fullmatch(name):
            return ("ZSCORE", name, keys.job(self._app.decode(), self._user))
        if sets := _APP_SETS.fullmatch(name):
            return ("ZSCORE", name, self._user) if sets[2] == self._app else None
        key = keys.parse(name)
        # An unknown key is reported if its name holds the id.
        if key is None:
            return None if _NOT_OF_USERS.fullmatch(name) else ("EXISTS", name)
        if key.app != self._app.decode():
            return None
        if key.user == self._user:
            return ("HGETALL", name) if key.noun == "user" else ("EXISTS", name)
        return None if key.noun == "user" else ("ZSCORE", name, self._user)

    def _note(self, name: bytes, reply: Reply) -> None:
        key = keys.parse(name)
        if _JOBS.fullmatch(name):
            self.tally.add("the jobs: its erasure is not done", False)
        elif sets := _APP_SETS.fullmatch(name):
            self.tally.add(f"the set of {sets[1].decode()}", sets[1] == b"gone")
        elif key is None:
            if self._user in name:
                self.tally.add(f"an unknown key: {shown(name)}", False)
        elif key.user != self._user:
            self.tally.add(
                f"{key.noun.removesuffix('-ends')}lists of others", True, int(not key.noun.endswith("-ends"))
            )
        elif key.noun == "user":
            fields = dict(zip(reply[::2], reply[1::2], strict=True))
            if fields.get(keys.REGISTERED_AT) == b"":
                del fields[keys.REGISTERED_AT]
            facts = sorted(shown(field) for field in fields.keys() - _RECORD_FIELDS)
            self.tally.add("its own record: that it is out of use, since when Tokens are valid", True)
            if facts:
                self.tally.add(f"its own record: facts {', '.join(facts)}", False)
        else:
            self.tally.add(f"its own {key.noun} list", False)

    async def _look_into_stream(self, name: bytes, noun: bytes) -> None:
        place, after = _STREAM_NAMES.get(noun, "the audit"), "-"
        while True:
            (entries,) = await self._ask([("XRANGE", name, after, "+", "COUNT", STREAM_STEP)])
            self.tally.add(place, True, sum(self._is_in(flat, noun) for _, flat in entries))
            if len(entries) < STREAM_STEP:
                return
            # Exclusive: continues after the last entry that was read.
            after = f"({entries[-1][0].decode()}"

    def _is_in(self, flat: Sequence[bytes], noun: bytes) -> bool:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if not noun.startswith(b"audit:") and fields.get(b"a") != self._app:
            return False
        return fields.get(b"u") == self._user or self._user in unpack_members(fields.get(b"m", b""))

    async def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        if not commands:
            return []
        replies = await self._link.exchange(commands, STEP_DEADLINE_MS)
        for reply in replies:
            raise_if_error(reply)
        return replies
