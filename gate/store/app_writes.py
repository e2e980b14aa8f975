"""Every write to the facts of an App's Users, with the rules that all callers share.

RongCloud's API, `/v1`, bulk calls, end users, the console and the command line write through this class, so that a rule
stands here alone: deactivated Users are not restrained, lists keep to the App's ceiling, Users are deleted in development
only, a User is back in use only after the App's delay, and the audit has who and why of each write. What a caller may name
in one request (how many Users, which spellings) is that caller's own limit. Imports write by `bulk`, in the same vocabulary.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.core.token import NONCE_BYTES, expiry_ms, mint
from gate.errors import NotInProduction, UserDeactivated, UserLimitReached
from gate.store.deactivation import Operation
from gate.store.penalties import Imposed, Penalty, left_out
from gate.store.store import Store
from gate.store.users import Registration
from gate.store.writer import UNEXPLAINED, Attribution, WriteReceipt

PenaltyKind = Literal["ban", "mute"]


class Minted(NamedTuple):
    """A new Token, and when it expires: 0 for never. `written` is None unless the User was registered for it."""

    token: str
    expires_at_ms: int
    written: WriteReceipt | None


@dataclass(frozen=True, slots=True)
class AppWrites:
    """The writes of one caller. Every method raises `StoreUnavailable`."""

    store: Store
    app: AppFacts
    now_ms: int
    attribution: Attribution = UNEXPLAINED

    async def impose(self, penalty: PenaltyKind, users: Sequence[bytes], until_ms: int) -> Imposed:
        """Ban or mute Users, in the place of an earlier Ban or Mute; deactivated ones are left out.

        Raises `UserDeactivated` if all of them are.
        """
        by, why = self.attribution
        penalties, key = self.store.bans if penalty == "ban" else self.store.mutes, self.app.key
        steps = [
            penalties.imposing(
                key, partition, [Penalty(user, until_ms, why, by) for user in group], "skip", self.attribution
            )
            for partition, group in self.store.writer.by_partition(key, users).items()
        ]
        written, replies = await self.store.writer.write(key, steps, self.now_ms)
        deactivated = left_out(replies)
        skipped = [user for user in dict.fromkeys(users) if user in deactivated]
        # Every Partition refused, so all Users are deactivated.
        if not written.revisions:
            raise UserDeactivated(skipped)
        return Imposed(written, skipped)

    async def lift(self, penalty: PenaltyKind, users: Sequence[bytes]) -> WriteReceipt:
        """End Bans or Mutes; one that was never imposed is fine."""
        by, why = self.attribution
        penalties = self.store.bans if penalty == "ban" else self.store.mutes
        return await penalties.lift(self.app.key, users, self.now_ms, why, by)

    async def add(
        self, kind: ListKind, owner: bytes, members: Sequence[bytes], until_ms: int = FOREVER_MS
    ) -> WriteReceipt:
        """Add entries to an owner's list; `ListFull`, with none added, past the App's ceiling."""
        by, why = self.attribution
        ceiling = self.app.list_ceiling
        return await self.store.lists.add(self.app.key, kind, owner, members, until_ms, self.now_ms, ceiling, why, by)

    async def remove(self, kind: ListKind, owner: bytes, members: Sequence[bytes]) -> WriteReceipt:
        """Take entries off an owner's list; one that is not on it is fine."""
        by, why = self.attribution
        return await self.store.lists.remove(self.app.key, kind, owner, members, self.now_ms, why, by)

    async def switch(self, users: Sequence[bytes], on: bool) -> WriteReceipt:
        """Enable or disable the Whitelists of Users."""
        by, why = self.attribution
        return await self.store.lists.switch(self.app.key, users, on, self.now_ms, why, by)

    async def register(self, user: bytes, name: str | None = None, portrait: str | None = None) -> WriteReceipt | None:
        """Register a User; None if it is registered. Raises `UserDeactivated`, `UserLimitReached`."""
        return await self.store.users.enrol(self.app, user, self.now_ms, name, portrait)

    async def register_by_operator(self, user: bytes, name: str | None, portrait: str | None) -> WriteReceipt | None:
        """As `register`, in the audit: one person's decision, not one of an app server's many."""
        return await self.store.users.enrol(self.app, user, self.now_ms, name, portrait, self.attribution)

    async def change_profile(self, user: bytes, name: str | None, portrait: str | None) -> None:
        """Change a registered User's name or portrait, in the audit. Raises `UserUnknown`, `UserDeactivated`."""
        await self.store.users.refresh(self.app.key, user, name, portrait)
        await self.store.audit.note_act(self.app.key, "profile-changed", user, self.attribution)

    async def mint_by_operator(self, user: bytes) -> Minted:
        """As `mint`, in the audit; no Token is returned that is not in it."""
        minted = await self.mint(user)
        await self.store.audit.note_act(self.app.key, "token-minted", user, self.attribution)
        return minted

    async def register_all(self, users: Sequence[bytes], name: str | None, portrait: str | None) -> WriteReceipt:
        """Register Users: all, or with `UserLimitReached` none of them."""
        quota = self.store.users.quota
        if await quota.reserve_all(self.app, users, self.now_ms):
            await quota.release_unused(self.app.key, users, self.now_ms)
            raise UserLimitReached(self.app.most_users or 0)
        registrations = [Registration(user, self.now_ms, name, portrait) for user in users]
        return await self.store.users.register_all(self.app.key, registrations, self.now_ms)

    async def mint(self, user: bytes, name: str | None = None, portrait: str | None = None) -> Minted:
        """A Token, for a User that is registered from now on. Raises `TokensHeld` too."""
        written, mint_at_ms = await self.store.users.enrol_for_token(self.app, user, self.now_ms, name, portrait)
        token = mint(self.app, user, mint_at_ms, os.urandom(NONCE_BYTES), self.now_ms)
        return Minted(token, expiry_ms(self.app, self.now_ms), written)

    async def revoke_tokens(self, users: Sequence[bytes], before_ms: int | None = None) -> WriteReceipt:
        """Revoke the Tokens that were minted before a moment; without one, every Token that was handed out."""
        # Past now, so that Tokens of this millisecond and of a clock that was ahead are revoked too.
        before_ms = self.now_ms + 1 if before_ms is None else before_ms
        return await self.store.users.revoke_tokens(self.app.key, users, before_ms, self.now_ms, self.attribution)

    async def erase(self, users: Sequence[bytes]) -> WriteReceipt:
        """Delete Users with everything of their own. Raises `NotInProduction`, `UserDeactivated`."""
        if self.app.environment == "production":
            raise NotInProduction("Users can be deleted in the development environment only; deactivate them instead")
        return await self.store.users.erase(self.app.key, users, self.now_ms, self.attribution)

    async def deactivate(self, users: Sequence[bytes]) -> Operation:
        """Take ids out of use, at once."""
        by, why = self.attribution
        return await self.store.deactivation.deactivate(self.app.key, users, self.now_ms, why, by)

    async def reactivate(self, users: Sequence[bytes], *, refuse_early: bool = True) -> Operation:
        """Give ids back, after the App's delay; as `Deactivation.reactivate`."""
        by, why = self.attribution
        after_ms = self.app.reactivate_after_s * 1_000
        return await self.store.deactivation.reactivate(
            self.app.key, users, self.now_ms, after_ms, why, by, refuse_early=refuse_early
        )
