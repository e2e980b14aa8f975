"""Facts of Users that no other noun owns: registered, deactivated, since when Tokens are valid."""

from __future__ import annotations

from collections.abc import Sequence

from gate.core.model import ListKind, UserFacts
from gate.store import keys, scripts
from gate.store.link import Command
from gate.store.writing import Step, Writer, Written

FACT_FIELDS = (
    keys.REGISTERED_AT,
    keys.DEACTIVATED_AT,
    keys.WHITELIST_ON,
    keys.BANNED_UNTIL,
    keys.MUTED_UNTIL,
    keys.TOKENS_VALID_FROM,
)
"""What a verdict asks of a User's hash, in the order that `facts_of` takes."""


_Field = tuple[bytes, str | int]
"""A field of a User's hash and its new value, "" to drop it."""


class Users:
    """Writes and reads Users' facts. Every method raises `StoreUnavailable`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def register(self, app_key: str, users: Sequence[bytes], now_ms: int) -> Written:
        """Users exist from now on; those that did already do still."""
        return await self._set(app_key, users, now_ms, "user-registered", "1", (keys.REGISTERED_AT, now_ms))

    async def deactivate(self, app_key: str, users: Sequence[bytes], now_ms: int) -> Written:
        """Users may neither send nor be sent to."""
        return await self._set(app_key, users, now_ms, "user-deactivated", "", (keys.DEACTIVATED_AT, now_ms))

    async def reactivate(self, app_key: str, users: Sequence[bytes], now_ms: int) -> Written:
        """As if never deactivated."""
        return await self._set(app_key, users, now_ms, "user-reactivated", "", (keys.DEACTIVATED_AT, ""))

    async def revoke_tokens(self, app_key: str, users: Sequence[bytes], before_ms: int, now_ms: int) -> Written:
        """Tokens minted before a moment are no longer valid."""
        return await self._set(app_key, users, now_ms, "tokens-revoked", before_ms, (keys.TOKENS_VALID_FROM, before_ms))

    async def facts(self, app_key: str, users: Sequence[bytes]) -> list[UserFacts]:
        """Each User's facts as stored: an end that has passed shows, entries that have ended count in the sizes."""
        asked: list[Command] = []
        for user in users:
            partition = self._writer.partition_of(app_key, user)
            asked.append(("HMGET", keys.user(partition, app_key, user), *FACT_FIELDS))
            asked += [("ZCARD", keys.entries(partition, kind, app_key, user)) for kind in ListKind]
        replies = await self._writer.client.read(*asked) if asked else []
        return [
            facts_of(fields, black, white)
            for fields, black, white in zip(replies[::3], replies[1::3], replies[2::3], strict=True)
        ]

    def registering(self, partition: int, app_key: str, users: Sequence[bytes], now_ms: int) -> Step:
        """The step that registers Users of one Partition; also what an import sends."""
        return _setting(partition, app_key, users, "user-registered", "1", (keys.REGISTERED_AT, now_ms))

    async def _set(
        self, app_key: str, users: Sequence[bytes], now_ms: int, kind: str, change_value: str | int, field: _Field
    ) -> Written:
        steps = [
            _setting(partition, app_key, group, kind, change_value, field)
            for partition, group in self._writer.by_partition(app_key, users).items()
        ]
        return (await self._writer.write(app_key, steps, now_ms))[0]


def _setting(
    partition: int, app_key: str, users: Sequence[bytes], kind: str, change_value: str | int, field: _Field
) -> Step:
    facts = [keys.user(partition, app_key, user) for user in users]
    return Step(partition, scripts.USER_SET, facts, [kind, change_value, *field, *users])


def facts_of(fields: Sequence[bytes | None], blacklist_size: int = 0, whitelist_size: int = 0) -> UserFacts:
    """The facts that `FACT_FIELDS` of a User's hash hold."""
    registered_at, deactivated_at, whitelist_on, banned_until, muted_until, tokens_valid_from = fields
    return UserFacts(
        registered=registered_at is not None,
        deactivated=deactivated_at is not None,
        whitelist_on=whitelist_on is not None,
        banned_until_ms=int(banned_until or 0),
        muted_until_ms=int(muted_until or 0),
        tokens_valid_from_ms=int(tokens_valid_from or 0),
        blacklist_size=blacklist_size,
        whitelist_size=whitelist_size,
    )
