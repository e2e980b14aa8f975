"""`/v1/users`: who is registered, and what is known of one User, in full and from Redis itself.

    POST /v1/users             register a User, or change what it is called; GET lists, DELETE deletes (development only)
    GET /v1/users/{user}       its profile, and every fact that bears on it; PATCH changes the profile
    POST /v1/tokens            mint a Token, as `/user/getToken.json`; DELETE revokes Tokens

An id in a path is percent-encoded bytes of any kind. What may be registered is `core.registration`'s to say.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from gate.core.model import FOREVER_MS, NO_FACTS, AppFacts
from gate.core.registration import (
    MAX_NAME_CHARS,
    MAX_PORTRAIT_BYTES,
    name_is_too_long,
    portrait_is_too_long,
    registrable,
)
from gate.core.token import NONCE_BYTES, expiry_ms, mint
from gate.errors import InvalidInput, NotInProduction, UserUnknown
from gate.http.context import AppRequest
from gate.http.fields import FIRST_UNTIL_MS, IdJson, check_reason, id_bytes, id_json, ids_bytes
from gate.http.forms import TooLong
from gate.http.paging import place_of, place_token
from gate.http.v1.endpoint import Done, Endpoint, read_as, refuse_if_any
from gate.store.penalties import Penalties
from gate.store.users import Profile
from gate.store.writer import Attribution, WriteReceipt

MAX_USERS = 1_000
"""That one call may name."""
MAX_OFFSET = 1_000_000_000
MAX_AHEAD_MS = 86_400_000
"""How far ahead Tokens may be revoked: until then the User gets none."""


class Profiled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A User to register; a name or portrait that is not said stays as it is."""

    user: IdJson
    name: str | None = None
    portrait: str | None = None


class ProfileChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a User is called from now on; what is not said stays."""

    name: str | None = None
    portrait: str | None = None


class Deleting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom, why and by whom."""

    users: list[IdJson]
    reason: str = ""
    actor: str = ""


class Revoking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose Tokens, and minted before when, in ms: without a moment, all that there are."""

    users: list[IdJson]
    before: int | None = None
    reason: str = ""
    actor: str = ""


async def register(call: AppRequest) -> Done:
    """→ user, created. Registering again is fine, and changes the name and portrait that are said."""
    return await _enrolled(call, enrol)


async def mint_token(call: AppRequest) -> Done:
    """→ user, token, expires (ms, null for never), created. Registers the User if it is not."""
    return await _enrolled(call, enrol_and_mint)


async def revoke(call: AppRequest) -> WriteReceipt:
    """Refuse Tokens of before; those revoked before stay revoked."""
    body = await read_as(call, Revoking)
    problems: list[InvalidInput] = []
    users = ids_bytes(body.users, "users", MAX_USERS, problems)
    before_ms = revoked_before_ms(body.before, call.now_ms, problems)
    check_reason(body.reason, body.actor, problems)
    refuse_if_any(problems)
    because = Attribution(body.actor, body.reason)
    return await call.deps.store.users.revoke_tokens(call.app_key, users, before_ms, call.now_ms, because)


async def roll(call: AppRequest) -> dict[str, object]:
    """`?count=&order=oldest|newest&token=` → total, users, in the order of their registration; next, where more follow."""
    query = call.query()
    offset = query.whole("offset", 0, MAX_OFFSET, default=0)
    count = query.whole("count", 1, MAX_USERS, default=MAX_USERS)
    order = query.text("order") or "oldest"
    if order not in ("oldest", "newest"):
        raise InvalidInput("order", "must be oldest or newest, whichever comes first")
    users = call.deps.store.users
    token, newest_first, place = query.text("token"), order == "newest", None
    if offset:
        page = await users.page(call.app_key, offset, count, newest_first=newest_first)
    else:
        before = place_of(token) if token else None
        page, place = await users.behind(call.app_key, before, count, newest_first=newest_first)
    following = {"next": place_token(place)} if place else {}
    return {"total": await users.count(call.app_key), "users": [_profile_json(one) for one in page], **following}


async def delete(call: AppRequest) -> WriteReceipt:
    """Delete Users with everything of their own, registered or not; their Tokens die. In development only."""
    body = await read_as(call, Deleting)
    problems: list[InvalidInput] = []
    users = ids_bytes(body.users, "users", MAX_USERS, problems)
    check_reason(body.reason, body.actor, problems)
    refuse_if_any(problems)
    refuse_in_production(call.facts)
    because = Attribution(body.actor, body.reason)
    return await call.deps.store.users.erase(call.app_key, users, call.now_ms, because)


async def show(call: AppRequest) -> dict[str, object]:
    """Everything about one User but its lists and its audit, which the dossier adds."""
    return (await known_of(call, call.path_user())).fields


async def change(call: AppRequest) -> dict[str, object]:
    """Change a registered User's profile → the same as GET."""
    user = call.path_user()
    body = await read_as(call, ProfileChange)
    refuse_if_any(profile_problems(body.name, body.portrait))
    await call.deps.store.users.refresh(call.app_key, user, body.name, body.portrait)
    return (await known_of(call, user)).fields


class Known(NamedTuple):
    """A User's profile and facts, as answers show them: null is what is not so, or has no end."""

    user: bytes
    is_anything: bool
    shown: dict[str, object]

    @property
    def fields(self) -> dict[str, object]:
        """What to show; `UserUnknown` if nothing is known."""
        if not self.is_anything:
            raise UserUnknown(self.user)
        return self.shown


async def known_of(call: AppRequest, user: bytes) -> Known:
    """What Redis has of one User, but for its lists and its audit."""
    store, app_key = call.deps.store, call.app_key
    (profile,) = await store.users.profiles(app_key, [user])
    (facts,) = await store.users.facts(app_key, [user])
    shown = {
        **_profile_json(profile or Profile(user, 0, "", "")),
        "deactivated": facts.deactivated,
        "ban": await _restraint(call, store.bans, user, facts.banned_until_ms),
        "mute": await _restraint(call, store.mutes, user, facts.muted_until_ms),
        "whitelist_on": facts.whitelist_on,
        "blacklist_size": facts.blacklist_size,
        "whitelist_size": facts.whitelist_size,
        "tokens_valid_from": facts.tokens_valid_from_ms or None,
        "online": await call.deps.presence.is_online(app_key, user),
    }
    return Known(user, profile is not None or facts != NO_FACTS, shown)


async def enrol(call: AppRequest, user: bytes, name: str | None, portrait: str | None) -> Done:
    """Register a User unless it is registered → created."""
    written = await call.deps.store.users.enrol(call.facts, user, call.now_ms, name, portrait)
    return Done({"created": written is not None}, written)


async def enrol_and_mint(call: AppRequest, user: bytes, name: str | None, portrait: str | None) -> Done:
    """As `enrol`, with a new Token → created, token, expires."""
    app, now_ms = call.facts, call.now_ms
    written, mint_at_ms = await call.deps.store.users.enrol_for_token(app, user, now_ms, name, portrait)
    token = mint(app, user, mint_at_ms, os.urandom(NONCE_BYTES), now_ms)
    fields = {"created": written is not None, "token": token, "expires": expiry_ms(app, now_ms) or None}
    return Done(fields, written)


def profile_problems(name: str | None, portrait: str | None) -> list[InvalidInput]:
    """What is too long of a profile."""
    problems: list[InvalidInput] = []
    if name is not None and name_is_too_long(name):
        problems.append(TooLong("name", f"must be at most {MAX_NAME_CHARS} characters, {len(name)} were sent"))
    if portrait is not None and portrait_is_too_long(portrait):
        size = len(portrait.encode())
        problems.append(TooLong("portrait", f"must be at most {MAX_PORTRAIT_BYTES} bytes, {size} were sent"))
    return problems


def revoked_before_ms(before: int | None, now_ms: int, problems: list[InvalidInput]) -> int:
    """The moment before which Tokens die; without one it is past now, which covers every Token that was handed out."""
    if before is None:
        return now_ms + 1
    if not FIRST_UNTIL_MS <= before <= now_ms + MAX_AHEAD_MS:
        problems.append(InvalidInput("before", f"must be Unix time in ms, at most a day ahead: {before} was sent"))
    return before


def refuse_in_production(app: AppFacts) -> None:
    """`NotInProduction` where Users may not be deleted."""
    if app.environment == "production":
        raise NotInProduction("Users can be deleted in the development environment only; deactivate them instead")


async def _enrolled(
    call: AppRequest, enrolling: Callable[[AppRequest, bytes, str | None, str | None], Awaitable[Done]]
) -> Done:
    body = await read_as(call, Profiled)
    problems = profile_problems(body.name, body.portrait)
    user = b""
    try:
        user = registrable(id_bytes(body.user, "user"), "user")
    except InvalidInput as problem:
        problems.append(problem)
    refuse_if_any(problems)
    fields, written = await enrolling(call, user, body.name, body.portrait)
    return Done({"user": id_json(user), **fields}, written)


async def _restraint(call: AppRequest, family: Penalties, user: bytes, until_ms: int) -> dict[str, object] | None:
    if until_ms <= call.now_ms:
        return None
    ((why, by),) = await family.reasons(call.app_key, [user])
    return {"until": until_ms if until_ms < FOREVER_MS else None, "reason": why, "actor": by}


def _profile_json(profile: Profile) -> dict[str, object]:
    """As every answer shows one; since when is null for a User that was never registered."""
    return {
        "user": id_json(profile.user),
        "registered_at": profile.registered_at_ms or None,
        "name": profile.name,
        "portrait": profile.portrait,
    }


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("/v1/users", "POST"): register,
    ("/v1/users", "GET"): roll,
    ("/v1/users", "DELETE"): delete,
    ("/v1/users/{user}", "GET"): show,
    ("/v1/users/{user}", "PATCH"): change,
    ("/v1/tokens", "POST"): mint_token,
    ("/v1/tokens", "DELETE"): revoke,
}
