"""Users: registration, profiles, deletion, and the facts that no other noun owns.

A name and a portrait affect no verdict: they exist only in Redis, and changing them costs neither a Change nor a wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from gate.core.model import AppFacts, ListKind, UserFacts
from gate.errors import TokensHeld, UserDeactivated, UserUnknown
from gate.store import keys, scripts
from gate.store.link import Command, Reply
from gate.store.places import Place, entries_behind, fields_of
from gate.store.quota import Quota
from gate.store.scripts import Call
from gate.store.user_index import Row, UserIndex
from gate.store.writer import Attribution, Step, Writer, WriteReceipt

# The fields of a User's hash that a verdict needs, in the order of `facts_of`.
FACT_FIELDS = (
    keys.REGISTERED_AT,
    keys.DEACTIVATED_AT,
    keys.WHITELIST_ON,
    keys.BANNED_UNTIL,
    keys.MUTED_UNTIL,
    keys.TOKENS_VALID_FROM,
)


UNEXPLAINED = Attribution()
# A caller's clock may be this far ahead of this node's when it revokes all Tokens minted until now.
HOLD_FROM_MS = 5_000
# Of one User in one call: each time it may have been deleted again before its Token was minted.
MAX_ENROLMENTS = 3


class Registration(NamedTuple):
    """A User to register. A name or portrait of None leaves the present one."""

    user: bytes
    at_ms: int
    name: str | None = None
    portrait: str | None = None


class Profile(NamedTuple):
    """The profile of a registered User, for people; "" for a value that was never given."""

    user: bytes
    registered_at_ms: int
    name: str
    portrait: str


class Enrolment(NamedTuple):
    """A User that may have a Token. `written` is None if nothing changed that affects a verdict."""

    written: WriteReceipt | None
    mint_at_ms: int
    """The moment of its Token: now, but never before the moment from which its Tokens are valid."""


class Users:
    """Writes and reads Users' facts. Every method may raise `StoreUnavailable`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.quota = Quota(writer)

    async def enrol_for_token(
        self, app: AppFacts, user: bytes, now_ms: int, name: str | None = None, portrait: str | None = None
    ) -> Enrolment:
        """As `enrol`, for a User that gets a Token. Every Token that is minted at the returned moment is valid.

        The moment is recorded, so that a revocation covers the Token whatever the clocks show. Also raises `TokensHeld`.
        """
        facts = keys.user(self._writer.partition_of(app.key, user), app.key, user)
        call = Call(scripts.TOKEN_MINT, [facts], [now_ms, _profile_arg(name), _profile_arg(portrait)])
        written = None
        for _ in range(MAX_ENROLMENTS):
            ((word, *moment),) = await self._writer.client.write([call])
            if word == b"ok":
                return Enrolment(written, int(moment[0]))
            if word == b"deactivated":
                raise UserDeactivated([user])
            if word == b"held":
                raise _held(user, int(moment[0]))
            # Unknown to the script: register, then try again.
            written = await self.enrol(app, user, now_ms, name, portrait)
        raise UserUnknown(user)

    async def enrol(
        self,
        app: AppFacts,
        user: bytes,
        now_ms: int,
        name: str | None = None,
        portrait: str | None = None,
        attribution: Attribution | None = None,
    ) -> WriteReceipt | None:
        """Register a User if necessary; a given name or portrait replaces the old one. Returns None if it is registered.

        It is in the audit only with an attribution. Costs one read if the User is registered and nothing changes. Raises
        `UserDeactivated`, `UserLimitReached`.
        """
        facts = keys.user(self._writer.partition_of(app.key, user), app.key, user)
        asked = (keys.REGISTERED_AT, keys.DEACTIVATED_AT, keys.NAME, keys.PORTRAIT)
        ((registered_at, deactivated_at, old_name, old_portrait),) = await self._writer.client.read(
            ("HMGET", facts, *asked)
        )
        if deactivated_at is not None:
            raise UserDeactivated([user])
        if registered_at is None:
            # Before the registration, so that the limit is never exceeded.
            await self.quota.reserve(app, user, now_ms)
            row = Registration(user, now_ms, name, portrait)
            return await self.register_all(app.key, [row], now_ms, attribution=attribution)
        if _is_change(name, old_name) or _is_change(portrait, old_portrait):
            await self.refresh(app.key, user, name, portrait)
        return None

    async def register(self, app_key: str, users: Sequence[bytes], now_ms: int) -> WriteReceipt:
        """Register Users; those registered already stay so. The caller checks the App's limit."""
        return await self.register_all(app_key, [Registration(user, now_ms) for user in users], now_ms)

    async def register_all(
        self,
        app_key: str,
        registrations: Sequence[Registration],
        now_ms: int,
        *,
        refuse_deactivated: bool = True,
        attribution: Attribution | None = None,
    ) -> WriteReceipt:
        """As `register`, with profiles. Raises `UserDeactivated`; then none of that User's Partition was registered."""
        by_user = {registration.user: registration for registration in registrations}
        steps = [
            self.registering(
                partition, app_key, [by_user[user] for user in group], refuse_deactivated=refuse_deactivated
            )._replace(attribution=attribution)
            for partition, group in self._writer.by_partition(app_key, by_user).items()
        ]
        written, replies = await self._writer.write(app_key, steps, now_ms)
        _refuse_deactivated(replies)
        return written

    def registering(
        self, partition: int, app_key: str, group: Sequence[Registration], *, refuse_deactivated: bool
    ) -> Step:
        """Return the step that registers Users of one Partition; also used by imports."""
        args: list[bytes | str | int] = [int(refuse_deactivated)]
        for user, at_ms, name, portrait in group:
            args += (user, at_ms, _profile_arg(name), _profile_arg(portrait))
        facts = [keys.user(partition, app_key, registration.user) for registration in group]
        return Step(partition, scripts.REGISTER, [keys.users(partition, app_key), *facts], args)

    async def refresh(self, app_key: str, user: bytes, name: str | None, portrait: str | None) -> None:
        """Change a registered User's name or portrait; None leaves it. Raises `UserUnknown`, `UserDeactivated`."""
        facts = keys.user(self._writer.partition_of(app_key, user), app_key, user)
        (word,) = await self._writer.client.write(
            [Call(scripts.REFRESH, [facts], [_profile_arg(name), _profile_arg(portrait)])]
        )
        if word == b"unknown":
            raise UserUnknown(user)
        if word == b"deactivated":
            raise UserDeactivated([user])

    async def profiles(self, app_key: str, users: Sequence[bytes]) -> list[Profile | None]:
        """Return each User's profile; None for one that is not registered."""
        found = await fields_of(self._writer, app_key, users, keys.REGISTERED_AT, keys.NAME, keys.PORTRAIT)
        return [
            None if not at_ms else Profile(user, int(at_ms), (name or b"").decode(), (portrait or b"").decode())
            for user, (at_ms, name, portrait) in zip(users, found, strict=True)
        ]

    async def page(self, app_key: str, offset: int, count: int, *, newest_first: bool = False) -> list[Profile]:
        """Return registered Users in the order of their registration. One that is deleted meanwhile is omitted."""
        rows: list[Row] = await self._index(app_key, newest_first).page(offset, count)
        return [one for one in await self.profiles(app_key, [user for user, _ in rows]) if one is not None]

    async def behind(
        self, app_key: str, place: Place | None, count: int, *, newest_first: bool = False
    ) -> tuple[list[Profile], Place | None]:
        """Return the next registered Users by moment, then id, and the position of the last one; None if none follow."""
        sets = [keys.users(partition, app_key) for partition in range(self._writer.partitions)]
        # One more, to see whether a next page exists.
        found = await entries_behind(self._writer.client, sets, place, count + 1, reverse=newest_first)
        follows, found = len(found) > count, found[:count]
        profiles = await self.profiles(app_key, [user for _, user in found]) if found else []
        # From the index, not from the last profile: that User may be deleted meanwhile.
        return [one for one in profiles if one is not None], Place(*found[-1]) if follows else None

    async def count(self, app_key: str) -> int:
        """Return the number of registered Users."""
        return await self._index(app_key, newest_first=False).count()

    async def erase(
        self, app_key: str, users: Sequence[bytes], now_ms: int, attribution: Attribution = UNEXPLAINED
    ) -> WriteReceipt:
        """Delete Users, registered or not: all of their own facts, and their places under the App's limit.

        Their Tokens are revoked. Raises `UserDeactivated`; then nothing of that User's Partition was deleted.
        """
        steps = [
            self._erasing(partition, app_key, group, now_ms + 1, attribution)
            for partition, group in self._writer.by_partition(app_key, users).items()
        ]
        written, replies = await self._writer.write(app_key, steps, now_ms)
        _refuse_deactivated(replies)
        # After the deletion: an interrupted call keeps a place too many, never one too few.
        await self.quota.release(app_key, list(users))
        return written

    async def revoke_tokens(
        self, app_key: str, users: Sequence[bytes], before_ms: int, now_ms: int, attribution: Attribution = UNEXPLAINED
    ) -> WriteReceipt:
        """Revoke Tokens minted before a moment. Earlier revocations stay in force.

        A moment after now covers every Token that was issued, including those of a clock that was ahead. A moment more than
        `HOLD_FROM_MS` ahead also prevents new Tokens from being minted until then (`TokensHeld`).
        """
        steps = [
            Step(
                partition,
                scripts.REVOKE_TOKENS,
                [keys.user(partition, app_key, user) for user in group],
                [before_ms, HOLD_FROM_MS, *group],
                attribution,
            )
            for partition, group in self._writer.by_partition(app_key, users).items()
        ]
        return (await self._writer.write(app_key, steps, now_ms))[0]

    async def facts(self, app_key: str, users: Sequence[bytes]) -> list[UserFacts]:
        """Return each User's facts as stored: ends in the past are included, ended entries count in the sizes."""
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

    def _index(self, app_key: str, newest_first: bool) -> UserIndex:
        return UserIndex(self._writer.client, self._writer.partitions, app_key, newest_first=newest_first)

    def _erasing(
        self, partition: int, app_key: str, users: Sequence[bytes], valid_from_ms: int, attribution: Attribution
    ) -> Step:
        own = [keys.users(partition, app_key), keys.bans(partition, app_key), keys.mutes(partition, app_key)]
        for user in users:
            own.append(keys.user(partition, app_key, user))
            for kind in ListKind:
                own += (keys.entries(partition, kind, app_key, user), keys.ends(partition, kind, app_key, user))
        return Step(partition, scripts.ERASE, own, [valid_from_ms, *users], attribution)


def _profile_arg(text: str | None) -> str:
    """A name or portrait as scripts take it: "" if it was not given."""
    # The prefix distinguishes an empty value from a missing one.
    return "" if text is None else "=" + text


def _held(user: bytes, until_ms: int) -> TokensHeld:
    shown = datetime.fromtimestamp(until_ms // 1_000 + 1, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return TokensHeld(user, until_ms, shown)


def _is_change(given: str | None, known: bytes | None) -> bool:
    return given is not None and given.encode() != (known or b"")


def _refuse_deactivated(replies: Sequence[Reply]) -> None:
    if deactivated := [user for reply in replies if reply[0] == b"deactivated" for user in reply[1:]]:
        raise UserDeactivated(deactivated)


def facts_of(fields: Sequence[bytes | None], blacklist_size: int = 0, whitelist_size: int = 0) -> UserFacts:
    """Parse the values of `FACT_FIELDS` in a User's hash."""
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
