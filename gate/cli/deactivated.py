"""`gate user deactivate|reactivate|deactivated|erasure-proof`: ids that are out of use, and what is left of them.

A deactivated User is denied from the answer on; what it had is erased by the service within seconds. `erasure-proof` looks at
every key in Redis and in this node's Replica and says where the id still is: exit status 0 if only where it is documented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli.options import (
    DEFAULT_DATA,
    ActorOption,
    AppOption,
    DataOption,
    JsonOption,
    ReasonOption,
    RedisOption,
    Target,
    all_mistakes,
    given_id,
    given_ids,
)
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id
from gate.cli.paging import DEFAULT_LIMIT, LimitOption, all_rows, cut_at
from gate.cli.penalties import given_because
from gate.cli.store_connection import Settled, StoreConnection, run_with
from gate.cli.time_format import shown_moment
from gate.clock import wall_ms
from gate.core.occurrence import Occurrence
from gate.errors import ReplicaMissing

if TYPE_CHECKING:
    from gate.store.deactivation import DeactivatedUser

PAGE_ROWS = 1_000
EXIT_LEFT_OVER = 1

_Users = Annotated[list[str], typer.Argument(metavar="USER", help="Ids of Users.")]


def deactivate(
    users: _Users,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take ids out of use: denied at once, erased within seconds."""
    _change(False, users, reason, actor, Target(data, app, redis), as_json)


def reactivate(
    users: _Users,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give ids back, without what they had. Refused for an hour, or what the App sets."""
    _change(True, users, reason, actor, Target(data, app, redis), as_json)


def deactivated(
    limit: LimitOption = DEFAULT_LIMIT,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who is deactivated, the latest first."""
    target = Target(data, app, redis)
    key = target.app_key()

    async def work(connection: StoreConnection) -> list[DeactivatedUser]:
        await connection.app(key)
        from gate.store.places import Place  # late: the help page needs no store

        async def page(last: DeactivatedUser | None, count: int) -> list[DeactivatedUser]:
            return await connection.store.deactivation.behind(key, last and Place(last.since_ms, last.user), count)

        return await all_rows(page, limit)

    found, is_cut = cut_at(limit, run_with(target, work))
    if as_json:
        print_json({"users": [{"user": json_id(gone.user), "since": gone.since_ms} for gone in found]} | is_cut)
    elif found:
        print_table(("user", "since"), ((shown_id(gone.user), shown_moment(gone.since_ms)) for gone in found))
    else:
        say("nobody is deactivated")


def erasure_proof(
    user: Annotated[str, typer.Argument(metavar="USER", help="The User's id.")],
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for an id in all of Redis and this node's Replica. Exits 1 if it is where an erased one is not to be."""
    given = given_id(user, "USER")
    target = Target(data, app, redis)
    key = target.app_key()

    async def work(connection: StoreConnection) -> list[Occurrence]:
        from gate.store.occurrences import occurrences

        await connection.app(key)
        return await occurrences(connection.store.client, key, given)

    found = [("Redis", one) for one in run_with(target, work)] + [
        ("Replica", one) for one in _in_replica(target, key, given)
    ]
    is_erased = all(one.is_documented for _, one in found)
    if as_json:
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


def _change(is_return: bool, users: list[str], reason: str, actor: str | None, target: Target, as_json: bool) -> None:
    with all_mistakes() as mistakes:
        given = given_ids(users, "USER", mistakes)
        why, by = given_because(reason, actor, mistakes)
    key = target.app_key()

    async def work(connection: StoreConnection) -> tuple[str, Settled]:
        facts = await connection.app(key)
        deactivation, now_ms = connection.store.deactivation, wall_ms()
        if is_return:
            after_ms = facts.reactivate_after_s * 1_000
            operation = await deactivation.reactivate(key, given, now_ms, after_ms, why, by)
        else:
            operation = await deactivation.deactivate(key, given, now_ms, why, by)
        return operation.id, await connection.settle(operation.written)

    operation, settled = run_with(target, work)
    if as_json:
        document = {"users": [json_id(one) for one in given], "operation": operation}
        print_json(document | settled.fields)
    else:
        done = "back in use" if is_return else "deactivated"
        say(f"{counted(len(given), 'User')} {done}: {settled.shown}; operation {operation}")


def _in_replica(target: Target, app_key: str, user: bytes) -> list[Occurrence]:
    from gate.replica.erasure_audit import occurrences

    try:
        return occurrences(target.replica_dir(), app_key, user)
    except ReplicaMissing:  # a machine without a node has none to look at
        return []
