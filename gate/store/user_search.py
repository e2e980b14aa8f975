"""Search for Users by a part of their id or name, in an index of Redis: registered, banned, muted or deactivated Users.

There is no index of parts: each step looks at some entries of one Partition, in a millisecond of the server, and the caller
goes on until it has enough or its time is over. A position is stable, so the steps together look at every entry that stays in
the index, once.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from gate.errors import InvalidInput
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.places import Place

Noun = Literal["users", "bans", "mutes", "gone"]

MAX_PART_BYTES = 256
"""Of what is searched for: longer than any name."""

# One script, 1 to 3 ms of the server: the upper bound of the delay of other commands.
LOOKED_AT_A_STEP = 500


class SearchPlace(NamedTuple):
    """Where a search goes on: in a Partition, after a position in its index; None for the beginning of the index."""

    partition: int = 0
    behind: Place | None = None


class SearchStep(NamedTuple):
    """What one step found, how many entries it looked at, and where the next one begins; None at the end."""

    users: list[Place]
    looked_at: int
    following: SearchPlace | None


def checked_part(part: str) -> str:
    """Return what to search for. Raises `InvalidInput` unless it is 1 to `MAX_PART_BYTES` bytes."""
    if not part or len(part.encode("utf-8", "surrogatepass")) > MAX_PART_BYTES:
        raise InvalidInput("match", f"must be 1 to {MAX_PART_BYTES} bytes")
    return part


def lua_patterns(part: str) -> list[bytes]:
    """Return Lua patterns that find the part in a text, one for each spelling.

    A pattern ignores the case of ASCII letters. For other alphabets the usual forms of a name are tried as well.
    """
    forms = [part] if part.isascii() else [part, part.lower(), part.upper(), part.title()]
    return list(dict.fromkeys(_lua_pattern(form.encode("utf-8", "surrogatepass")) for form in forms))


def _lua_pattern(raw: bytes) -> bytes:
    return b"".join(map(_lua_class, raw))


def _lua_class(byte: int) -> bytes:
    one = bytes((byte,))
    if one.isalpha():  # an ASCII letter: lowering each text instead takes twice as long
        return b"[%b%b]" % (one.lower(), one.upper())
    if byte == 0:
        return b"%z"
    return b"%%%b" % one if 32 < byte < 127 and not one.isalnum() else one


class UserSearch:
    """Searches the indexes of one deployment. Every method may raise `StoreUnavailable`."""

    def __init__(self, client: Client, partitions: int) -> None:
        self._client = client
        self._partitions = partitions

    async def step(
        self, app_key: str, noun: Noun, part: str, place: SearchPlace, wanted: int, *, latest_first: bool = True
    ) -> SearchStep:
        """Look at the next entries of an index, `LOOKED_AT_A_STEP` at most; stop at `wanted` matches."""
        partition, behind = place
        if partition >= self._partitions:  # a place of a deployment with more Partitions
            return SearchStep([], 0, None)
        index, facts = keys.index(partition, noun, app_key), keys.facts_prefix(partition, app_key)
        score, member = ("", b"") if behind is None else behind
        order = "REV" if latest_first else ""
        call = scripts.Call(
            scripts.INDEX_SEARCH, [index], [order, score, member, LOOKED_AT_A_STEP, wanted, facts, *lua_patterns(part)]
        )
        looked_at, last, last_score, *rows = await self._client.query(call)
        users = [Place(int(at), user) for user, at in zip(rows[::2], rows[1::2], strict=True)]
        # Fewer entries than a step looks at, without as many matches as wanted: the index is over.
        if len(users) < wanted and looked_at < LOOKED_AT_A_STEP:
            is_last = partition + 1 == self._partitions
            return SearchStep(users, looked_at, None if is_last else SearchPlace(partition + 1))
        return SearchStep(users, looked_at, SearchPlace(partition, Place(int(last_score), last)))
