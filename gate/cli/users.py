"""`gate user …`: who is registered, and as what; their Tokens.

A Token is printed alone on stdout, so that a script can hold it without it passing through a log. `delete` is for
development Apps; in production a User is deactivated.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gate.cli.command import DEFAULT_LIMIT, PAGE_ROWS, Command, LimitOption, Listing, cut_at, takes
from gate.cli.deactivated import deactivate, deactivated, erasure_proof, reactivate
from gate.cli.options import Mistakes, all_mistakes, given_id, given_ids
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id
from gate.cli.remote import APPLIED, Remote, known_user, path_id, raw_id, read_moment, settled_of
from gate.cli.time_format import json_moment, parse_moment, shown_moment
from gate.core.model import AppFacts, UserFacts
from gate.core.registration import profile_mistakes, registrable
from gate.errors import InvalidInput, UserUnknown

if TYPE_CHECKING:
    from gate.cli.store_connection import Settled, StoreConnection
    from gate.store.places import Place
    from gate.store.users import Profile

user = typer.Typer(
    help="Users: register, show, list and delete them; their Tokens.", no_args_is_help=True, add_completion=False
)

_Users = Annotated[list[str], typer.Argument(metavar="USER", help="Ids of Users.")]
_User = Annotated[str, typer.Argument(metavar="USER", help="The User's id.")]


@dataclass(frozen=True)
class ProfileOptions:
    """Name and portrait of a User; None stays as it is."""

    name: Annotated[str | None, typer.Option("--name", help="What people call the User.")] = None
    portrait: Annotated[
        str | None, typer.Option("--portrait", metavar="URL", help="Address of the User's picture.")
    ] = None

    def check(self, mistakes: Mistakes) -> None:
        """Note the mistakes of both."""
        for member, problem in profile_mistakes(self.name, self.portrait):
            mistakes.add(InvalidInput(f"--{member}", problem))


@user.command()
@takes("app", "redis", afar=True)
def add(command: Command, users: _Users, profile: ProfileOptions) -> None:
    """Register Users; those that are registered stay so. All or, past the App's limit, none."""
    with all_mistakes() as mistakes:
        # Each once: the App's limit counts Users, and so does what is printed.
        given = [_registrable(one, mistakes) for one in dict.fromkeys(users)]
        profile.check(mistakes)

    def afar(remote: Remote) -> Settled:
        from gate.cli.store_connection import Settled  # late, as in `gate.cli.remote`

        # One call each: past the App's limit, those before stay registered.
        answers = [
            remote.send("POST", "/v1/users", {"user": json_id(one), "name": profile.name, "portrait": profile.portrait})
            for one in given
        ]
        written = [answer for answer in answers if answer["revision"] is not None]
        if not written:
            return Settled("", "all", 1)
        # What is said of many writes is what holds for the one that got least far.
        slowest = max((settled_of(answer) for answer in written), key=lambda one: APPLIED.index(one.applied))
        return replace(slowest, revision=",".join(dict.fromkeys(answer["revision"] for answer in written)))

    # One write for all, so that the App's limit refuses all or none.
    settled = command.write(lambda writes: writes.register_all(given, profile.name, profile.portrait), afar=afar)
    _print_settled(command, settled, f"{counted(len(given), 'User')} registered", given)


@user.command()
@takes("app", "redis", afar=True)
def token(command: Command, user_: _User, profile: ProfileOptions) -> None:
    """Mint a Token and register its User. Any client that presents the Token acts as that User."""
    with all_mistakes() as mistakes:
        given = _registrable(user_, mistakes)
        profile.check(mistakes)

    def afar(remote: Remote) -> tuple[str, int]:
        body = {"user": json_id(given), "name": profile.name, "portrait": profile.portrait}
        answer = remote.send("POST", "/v1/tokens", body)
        return answer["token"], answer["expires"] or 0

    # The Token alone is on stdout, with nothing around it: `T=$(gate user token ann)`.
    minted, expires_at_ms = command.ask_app(
        lambda connection, app: minted_token(connection, app, given, profile.name, profile.portrait), afar
    )
    command.print({"user": json_id(given), "token": minted, "expires_at": expires_at_ms or None}, minted)


async def minted_token(
    connection: StoreConnection, app: AppFacts, user: bytes, name: str | None = None, portrait: str | None = None
) -> tuple[str, int]:
    """A Token that every live node takes, and when it expires (0: never); registers the User if it is not."""
    minted = await connection.writes(app).mint(user, name, portrait)
    # Waited for although the Token is good already: a node that does not know the User yet may refuse it.
    if minted.written is not None:
        await connection.settle(minted.written)
    return minted.token, minted.expires_at_ms


@user.command("info")
@takes("app", "redis", afar=True)
def show(command: Command, user_: _User) -> None:
    """Show one User: profile, and the facts that verdicts are made of. Exits 1 if it is not registered."""
    given = given_id(user_, "USER")

    async def work(connection: StoreConnection, app: AppFacts) -> tuple[Profile, UserFacts]:
        # Both of Redis, which is the truth; the Replica may lag behind what was just done.
        (profile,) = await connection.store.users.profiles(app.key, [given])
        (facts,) = await connection.store.users.facts(app.key, [given])
        if profile is None:
            raise UserUnknown(given)
        return profile, facts

    document = _document(*command.ask_app(work, lambda remote: _known_afar(remote, given)))
    if command.as_json:
        print_json(document)
    else:
        print_table(("fact", "value"), ((name, _shown(name, value)) for name, value in document.items()))


@user.command()
@takes("app", "redis", afar=True)
def refresh(command: Command, user_: _User, profile: ProfileOptions) -> None:
    """Change a User's name or portrait; what is not named stays, an empty one is cleared."""
    with all_mistakes() as mistakes:
        given = mistakes.take(lambda: given_id(user_, "USER"), b"")
        profile.check(mistakes)
        if profile.name is None and profile.portrait is None:
            # Without either nothing would change, and the command would claim that it did.
            mistakes.add(InvalidInput("refresh", "say --name or --portrait"))

    async def work(connection: StoreConnection, app: AppFacts) -> None:
        await connection.store.users.refresh(app.key, given, profile.name, profile.portrait)

    def afar(remote: Remote) -> None:
        remote.send("PATCH", f"/v1/users/{path_id(given)}", {"name": profile.name, "portrait": profile.portrait})

    command.ask_app(work, afar)
    command.print({"user": json_id(given)}, f"changed User {shown_id(given)}")


@user.command("list")
@takes("app", "redis", afar=True)
def list_(
    command: Command,
    limit: LimitOption = DEFAULT_LIMIT,
    newest: Annotated[bool, typer.Option("--newest", help="The newest first, not the oldest.")] = False,
) -> None:
    """List the registered Users by since when."""

    async def work(connection: StoreConnection, app: AppFacts) -> tuple[int, list[Profile]]:
        found: list[Profile] = []
        place: Place | None = None
        while len(found) <= limit:
            page, place = await connection.store.users.behind(app.key, place, PAGE_ROWS, newest_first=newest)
            found += page
            if place is None:
                break
        # The last page may be longer than what is left of the limit.
        return await connection.store.users.count(app.key), found[: limit + 1]

    def afar(remote: Remote) -> tuple[int, list[Profile]]:
        order = "newest" if newest else "oldest"
        rows = [_profile_of(one) for one in remote.pages("/v1/users", "users", limit, order=order)]
        return remote.get("/v1/users", count=1)["total"], rows

    total, rows_found = command.ask_app(work, afar)
    found, is_cut = cut_at(limit, rows_found)
    command.print_rows(_USERS, found, {"total": total}, **is_cut)
    if found and total > len(found) and not command.as_json:
        say(f"of {counted(total, 'User')}")


@user.command()
@takes("app", "redis", audited=True, afar=True)
def delete(
    command: Command,
    users: _Users,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete Users of a development App with everything of their own. There is no way back."""
    given, why, by = _users_and_why(command, users)
    # After the mistakes: a person is asked only about what would be done.
    if not yes:
        typer.confirm(f"Delete {counted(len(given), 'User')} and everything of their own?", abort=True, err=True)

    body = {"users": [json_id(one) for one in given], "reason": why, "actor": by}
    settled = command.write(
        lambda writes: writes.erase(given), why, by, lambda remote: remote.write("DELETE", "/v1/users", body)
    )
    _print_settled(command, settled, f"{counted(len(given), 'User')} deleted", given)


@user.command()
@takes("app", "redis", audited=True, afar=True)
def expire(
    command: Command,
    users: _Users,
    before: Annotated[
        str | None, typer.Option("--before", metavar="TIME", help="Tokens minted before then; default: all there are.")
    ] = None,
) -> None:
    """Revoke the Tokens of Users. Those revoked before stay revoked."""
    with all_mistakes() as mistakes:
        given, why, by = mistakes.take(lambda: _users_and_why(command, users), (list[bytes](), "", ""))
        before_ms = None if before is None else mistakes.take(lambda: parse_moment(before, "--before"), 0)

    body = {"users": [json_id(one) for one in given], "before": before_ms, "reason": why, "actor": by}
    settled = command.write(
        lambda writes: writes.revoke_tokens(given, before_ms),
        why,
        by,
        lambda remote: remote.write("DELETE", "/v1/tokens", body),
    )
    _print_settled(command, settled, f"Tokens of {counted(len(given), 'User')} revoked", given)


user.command()(deactivate)
user.command()(reactivate)
user.command()(deactivated)
user.command("erasure-proof")(erasure_proof)


def shown_text(text: str) -> str:
    """Text of Users for a terminal; control characters are escaped, so it cannot move the cursor."""
    return shown_id(text.encode())


def _registrable(argument: str, mistakes: Mistakes) -> bytes:
    return mistakes.take(lambda: registrable(os.fsencode(argument), "USER"), b"")


def _users_and_why(command: Command, users: list[str]) -> tuple[list[bytes], str, str]:
    with all_mistakes() as mistakes:
        given = given_ids(users, "USER", mistakes)
        why, by = command.why_and_by(mistakes)
    return given, why, by


def _profile_of(shown: Mapping[str, Any]) -> Profile:
    from gate.store.users import Profile  # late: the help page needs no store

    return Profile(raw_id(shown["user"]), shown["registered_at"] or 0, shown["name"], shown["portrait"])


def _known_afar(remote: Remote, user: bytes) -> tuple[Profile, UserFacts]:
    shown = known_user(remote, user)
    if shown is None or shown["registered_at"] is None:
        raise UserUnknown(user)
    facts = UserFacts(
        registered=True,
        deactivated=shown["deactivated"],
        whitelist_on=shown["whitelist_on"],
        banned_until_ms=read_moment(shown["ban"]["until"]) if shown["ban"] else 0,
        muted_until_ms=read_moment(shown["mute"]["until"]) if shown["mute"] else 0,
        tokens_valid_from_ms=shown["tokens_valid_from"] or 0,
        blacklist_size=shown["blacklist_size"],
        whitelist_size=shown["whitelist_size"],
    )
    return _profile_of(shown), facts


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


def _print_settled(command: Command, settled: Settled, done: str, users: list[bytes]) -> None:
    command.print_settled(done, {"users": [json_id(one) for one in users]}, settled)


_USERS: Listing[Profile] = Listing(
    "users",
    lambda one: {
        "user": json_id(one.user), "name": one.name, "portrait": one.portrait, "registered_at": one.registered_at_ms,
    },
    ("user", "name", "registered"),
    lambda one: (shown_id(one.user), shown_text(one.name), shown_moment(one.registered_at_ms)),
    "no User is registered",
)  # fmt: skip
