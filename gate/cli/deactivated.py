"""`gate user deactivate|reactivate|deactivated|erasure-proof`: ids that are out of use, and what is left of them.

A deactivated User is denied from the answer on; what it had is erased by the service within seconds. `erasure-proof` looks at
every key in Redis and in this node's Replica and says where the id still is: exit status 0 if only where it is documented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli.command import DEFAULT_LIMIT, Command, LimitOption, Listing, all_rows, cut_at, takes
from gate.cli.options import all_mistakes, given_id, given_ids
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id
from gate.cli.time_format import shown_moment
from gate.core.occurrence import Occurrence
from gate.errors import ReplicaMissing

if TYPE_CHECKING:
    from gate.cli.store_connection import Settled, StoreConnection
    from gate.core.model import AppFacts
    from gate.store.deactivation import DeactivatedUser

PAGE_ROWS = 1_000
EXIT_LEFT_OVER = 1

_Users = Annotated[list[str], typer.Argument(metavar="USER", help="Ids of Users.")]


@takes("app", "redis", audited=True)
def deactivate(command: Command, users: _Users) -> None:
    """Take ids out of use: denied at once, erased within seconds."""
    _change(command, users, is_return=False)


@takes("app", "redis", audited=True)
def reactivate(command: Command, users: _Users) -> None:
    """Give ids back, without what they had. Refused for an hour, or what the App sets."""
    _change(command, users, is_return=True)


@takes("app", "redis")
def deactivated(command: Command, limit: LimitOption = DEFAULT_LIMIT) -> None:
    """List who is deactivated, the latest first."""

    async def work(connection: StoreConnection, app: AppFacts) -> list[DeactivatedUser]:
        from gate.store.places import Place  # late: the help page needs no store

        async def page(last: DeactivatedUser | None, count: int) -> list[DeactivatedUser]:
            # By position: ids that come back meanwhile shift no page.
            return await connection.store.deactivation.behind(app.key, last and Place(last.since_ms, last.user), count)

        return await all_rows(page, limit)

    found, is_cut = cut_at(limit, command.ask_app(work))
    listing: Listing[DeactivatedUser] = Listing(
        "users",
        lambda one: {"user": json_id(one.user), "since": one.since_ms},
        ("user", "since"),
        lambda one: (shown_id(one.user), shown_moment(one.since_ms)),
        "no User is deactivated",
    )
    command.print_rows(listing, found, **is_cut)


@takes("app", "redis")
def erasure_proof(
    command: Command, user: Annotated[str, typer.Argument(metavar="USER", help="The User's id.")]
) -> None:
    """Look for an id in all of Redis and this node's Replica. Exits 1 if it is where an erased one is not to be."""
    given = given_id(user, "USER")

    async def work(connection: StoreConnection, app: AppFacts) -> list[Occurrence]:
        from gate.store.occurrences import occurrences

        return await occurrences(connection.store.client, app.key, given)

    # Redis first: the Replica follows it, so what is gone here is gone there a moment later.
    found = [("Redis", one) for one in command.ask_app(work)] + [
        ("Replica", one) for one in _in_replica(command, given)
    ]
    # Some places keep an id on purpose, the audit above all; the documentation lists them.
    is_erased = all(one.is_documented for _, one in found)
    if command.as_json:
        rows = [
            {"in": where, "place": one.place, "times": one.times, "documented": one.is_documented}
            for where, one in found
        ]
        print_json({"user": json_id(given), "erased": is_erased, "found": rows})
    elif found:
        shown = (
            (where, one.place, f"{one.times:,}", "stays" if one.is_documented else "NOT ERASED") for where, one in found
        )
        print_table(("in", "place", "times", ""), shown)
        say("erased: the id is only where the documentation says" if is_erased else "not erased")
    else:
        say("the id is nowhere")
    if not is_erased:
        raise typer.Exit(EXIT_LEFT_OVER)


def _change(command: Command, users: list[str], *, is_return: bool) -> None:
    with all_mistakes() as mistakes:
        given = given_ids(users, "USER", mistakes)
        why, by = command.why_and_by(mistakes)

    async def work(connection: StoreConnection, app: AppFacts) -> tuple[str, Settled]:
        writes = connection.writes(app, why, by)
        # The id of the operation is what the webhook's results name.
        operation = await (writes.reactivate(given) if is_return else writes.deactivate(given))
        return operation.id, await connection.settle(operation.written)

    operation, settled = command.ask_app(work)
    document = {"users": [json_id(one) for one in given], "operation": operation, **settled.fields}
    done = "back in use" if is_return else "deactivated"
    command.print(document, f"{counted(len(given), 'User')} {done}: {settled.shown}; operation {operation}")


def _in_replica(command: Command, user: bytes) -> list[Occurrence]:
    from gate.replica.erasure_audit import occurrences

    try:
        return occurrences(command.replica_dir(), command.app_key(), user)
    except ReplicaMissing:  # a machine without a node has none to look at
        return []
