"""`gate user …`: who is registered, and as what; their Tokens.

A Token is printed alone on stdout, so that a script can hold it without it passing through a log. `delete` is for
development Apps; in production a User is deactivated.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gate.cli.deactivated import deactivate, deactivated, erasure_proof, reactivate
from gate.cli.options import (
    DEFAULT_DATA,
    ActorOption,
    AppOption,
    DataOption,
    JsonOption,
    Mistakes,
    ReasonOption,
    RedisOption,
    Target,
    all_mistakes,
    given_id,
    given_ids,
)
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id
from gate.cli.paging import DEFAULT_LIMIT, PAGE_ROWS, LimitOption, cut_at
from gate.cli.penalties import given_because
from gate.cli.store_connection import Settled, StoreConnection, run_with
from gate.cli.time_format import json_moment, parse_moment, shown_moment
from gate.clock import wall_ms
from gate.core.model import UserFacts
from gate.core.registration import name_is_too_long, portrait_is_too_long, registrable
from gate.core.token import NONCE_BYTES, expiry_ms, mint
from gate.errors import InvalidInput, NotInProduction, UserLimitReached, UserUnknown

if TYPE_CHECKING:
    from gate.store.places import Place
    from gate.store.users import Profile

user = typer.Typer(
    help="Users: register, show, list and delete them; their Tokens.", no_args_is_help=True, add_completion=False
)

_Users = Annotated[list[str], typer.Argument(metavar="USER", help="Ids of Users.")]
_User = Annotated[str, typer.Argument(metavar="USER", help="The User's id.")]
_Name = Annotated[str | None, typer.Option("--name", help="What people call the User.")]
_Portrait = Annotated[str | None, typer.Option("--portrait", metavar="URL", help="Address of the User's picture.")]


@user.command()
def add(
    users: _Users,
    name: _Name = None,
    portrait: _Portrait = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register Users; those that are registered stay so. All or, past the App's limit, none."""
    with all_mistakes() as mistakes:
        given = [_registrable(one, mistakes) for one in dict.fromkeys(users)]
        _check_profile(name, portrait, mistakes)
    target = Target(data, app, redis)
    key = target.app_key()

    async def work(connection: StoreConnection) -> Settled:
        from gate.store.users import Registration

        facts, now_ms = await connection.app(key), wall_ms()
        refused = await connection.store.users.quota.reserve_all(facts, given, now_ms)
        if refused:
            await connection.store.users.quota.release_unused(key, given, now_ms)
            raise UserLimitReached(facts.most_users or 0)
        registrations = [Registration(one, now_ms, name, portrait) for one in given]
        return await connection.write(connection.store.users.register_all(key, registrations, now_ms))

    settled = run_with(target, work)
    _print_settled(settled, f"{counted(len(given), 'User')} registered", given, as_json)


@user.command()
def token(
    user_: _User,
    name: _Name = None,
    portrait: _Portrait = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mint a Token, for a User that is registered from now on. Whoever has it is that User."""
    with all_mistakes() as mistakes:
        given = _registrable(user_, mistakes)
        _check_profile(name, portrait, mistakes)
    target = Target(data, app, redis)
    key = target.app_key()

    minted, expires_at_ms = run_with(target, lambda connection: minted_token(connection, key, given, name, portrait))
    if as_json:
        print_json({"user": json_id(given), "token": minted, "expires_at": expires_at_ms or None})
    else:
        say(minted)


async def minted_token(
    connection: StoreConnection, key: str, user: bytes, name: str | None = None, portrait: str | None = None
) -> tuple[str, int]:
    """A Token that every live node takes, and when it expires (0: never); registers the User if it is not."""
    facts, now_ms = await connection.app(key), wall_ms()
    enrolment = await connection.store.users.enrol_for_token(facts, user, now_ms, name, portrait)
    if enrolment.written is not None:
        await connection.settle(enrolment.written)
    minted = mint(facts, user, enrolment.mint_at_ms, os.urandom(NONCE_BYTES), now_ms)
    return minted, expiry_ms(facts, now_ms)


@user.command("info")
def profile(
    user_: _User,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one User: profile, and the facts that verdicts are made of. Exits 1 if it is not registered."""
    given = given_id(user_, "USER")
    target = Target(data, app, redis)
    key = target.app_key()

    async def work(connection: StoreConnection) -> tuple[Profile, UserFacts]:
        await connection.app(key)
        (profile,), (facts,) = (
            await connection.store.users.profiles(key, [given]),
            await connection.store.users.facts(key, [given]),
        )
        if profile is None:
            raise UserUnknown(given)
        return profile, facts

    document = _document(*run_with(target, work))
    if as_json:
        print_json(document)
    else:
        print_table(("fact", "value"), ((name, _shown(name, value)) for name, value in document.items()))


@user.command()
def refresh(
    user_: _User,
    name: _Name = None,
    portrait: _Portrait = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a User's name or portrait; what is not named stays, an empty one is cleared."""
    with all_mistakes() as mistakes:
        given = mistakes.take(lambda: given_id(user_, "USER"), b"")
        _check_profile(name, portrait, mistakes)
        if name is None and portrait is None:
            mistakes.add(InvalidInput("refresh", "say --name or --portrait"))
    target = Target(data, app, redis)
    key = target.app_key()

    async def work(connection: StoreConnection) -> None:
        await connection.app(key)
        await connection.store.users.refresh(key, given, name, portrait)

    run_with(target, work)
    if as_json:
        print_json({"user": json_id(given)})
    else:
        say(f"changed User {shown_id(given)}")


@user.command("list")
def list_(
    limit: LimitOption = DEFAULT_LIMIT,
    newest: Annotated[bool, typer.Option("--newest", help="The newest first, not the oldest.")] = False,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the registered Users by since when."""
    target = Target(data, app, redis)
    key = target.app_key()

    async def work(connection: StoreConnection) -> tuple[int, list[Profile]]:
        await connection.app(key)
        found: list[Profile] = []
        place: Place | None = None
        while len(found) <= limit:
            page, place = await connection.store.users.behind(key, place, PAGE_ROWS, newest_first=newest)
            found += page
            if place is None:
                break
        return await connection.store.users.count(key), found[: limit + 1]

    total, rows_found = run_with(target, work)
    found, is_cut = cut_at(limit, rows_found)
    if as_json:
        rows = [
            {
                "user": json_id(one.user),
                "name": one.name,
                "portrait": one.portrait,
                "registered_at": one.registered_at_ms,
            }
            for one in found
        ]
        print_json({"total": total, "users": rows} | is_cut)
    elif found:
        print_table(
            ("user", "name", "registered"),
            ((shown_id(one.user), shown_text(one.name), shown_moment(one.registered_at_ms)) for one in found),
        )
        if total > len(found):
            say(f"of {counted(total, 'User')}")
    else:
        say("nobody is registered")


@user.command()
def delete(
    users: _Users,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete Users of a development App with everything of their own. There is no way back."""
    given, why, by = _users_and_why(users, reason, actor)
    if not yes:
        typer.confirm(f"Delete {counted(len(given), 'User')} and everything of their own?", abort=True, err=True)
    target = Target(data, app, redis)
    key = target.app_key()

    async def work(connection: StoreConnection) -> Settled:
        from gate.store.writer import Attribution

        if (await connection.app(key)).environment == "production":
            raise NotInProduction("Users can be deleted in the development environment only; deactivate them instead")
        return await connection.write(connection.store.users.erase(key, given, wall_ms(), Attribution(by, why)))

    settled = run_with(target, work)
    _print_settled(settled, f"{counted(len(given), 'User')} deleted", given, as_json)


@user.command()
def expire(
    users: _Users,
    before: Annotated[
        str | None, typer.Option("--before", metavar="TIME", help="Tokens minted before then; default: all there are.")
    ] = None,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke the Tokens of Users. Those revoked before stay revoked."""
    now_ms = wall_ms()
    with all_mistakes() as mistakes:
        given, why, by = mistakes.take(lambda: _users_and_why(users, reason, actor), (list[bytes](), "", ""))
        # Past now: every Token that was handed out, those of this millisecond and of a clock that was ahead included.
        before_ms = mistakes.take(lambda: now_ms + 1 if before is None else parse_moment(before, "--before"), 0)
    target = Target(data, app, redis)
    key = target.app_key()

    async def work(connection: StoreConnection) -> Settled:
        from gate.store.writer import Attribution

        await connection.app(key)
        return await connection.write(
            connection.store.users.revoke_tokens(key, given, before_ms, now_ms, Attribution(by, why))
        )

    settled = run_with(target, work)
    _print_settled(settled, f"Tokens of {counted(len(given), 'User')} revoked", given, as_json)


user.command()(deactivate)
user.command()(reactivate)
user.command()(deactivated)
user.command("erasure-proof")(erasure_proof)


def shown_text(text: str) -> str:
    """Other people's text on a terminal, where it must not move the cursor."""
    return shown_id(text.encode())


def _registrable(argument: str, mistakes: Mistakes) -> bytes:
    return mistakes.take(lambda: registrable(os.fsencode(argument), "USER"), b"")


def _check_profile(name: str | None, portrait: str | None, mistakes: Mistakes) -> None:
    for option, text, is_too_long in (
        ("--name", name, name_is_too_long),
        ("--portrait", portrait, portrait_is_too_long),
    ):
        try:
            if text is not None and is_too_long(text):
                mistakes.add(InvalidInput(option, f"is too long, {counted(len(text), 'character')}"))
        except UnicodeEncodeError:
            mistakes.add(InvalidInput(option, "is no UTF-8"))


def _users_and_why(users: list[str], reason: str, actor: str | None) -> tuple[list[bytes], str, str]:
    with all_mistakes() as mistakes:
        given = given_ids(users, "USER", mistakes)
        why, by = given_because(reason, actor, mistakes)
    return given, why, by


def _document(profile: Profile, facts: UserFacts) -> dict[str, Any]:
    return {
        "user": json_id(profile.user),
        "name": profile.name,
        "portrait": profile.portrait,
        "registered_at": profile.registered_at_ms,
        "deactivated": facts.deactivated,
        "banned_until": json_moment(facts.banned_until_ms),
        "muted_until": json_moment(facts.muted_until_ms),
        "tokens_valid_from": facts.tokens_valid_from_ms,
        "whitelist_on": facts.whitelist_on,
        "blacklist_size": facts.blacklist_size,
        "whitelist_size": facts.whitelist_size,
    }


def _shown(name: str, value: object) -> str:
    if value is None:
        return "without end"
    if name.endswith(("_at", "_until", "_from")):
        return shown_moment(int(str(value))) if value else "no"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shown_text(str(value))


def _print_settled(settled: Settled, done: str, users: list[bytes], as_json: bool) -> None:
    if as_json:
        document = {"users": [json_id(one) for one in users]}
        print_json(document | settled.fields)
    else:
        say(f"{done}: {settled.shown}")
