"""`gate blacklist …` and `gate whitelist …`: whose messages an owner refuses, or whose alone the owner accepts.

Both nouns have the same verbs, made once; the Whitelist has its switch besides. Entries may be given an end. An
addition that would pass the App's ceiling adds nothing. `list` and `contains` ask the store, so they show what is
true, not what has arrived.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id, some_ids
from gate.cli.paging import DEFAULT_LIMIT, LimitOption, cut_at
from gate.cli.penalties import given_because
from gate.cli.store_connection import Settled, StoreConnection, run_with
from gate.cli.time_format import json_moment, one_end, shown_moment
from gate.clock import wall_ms
from gate.core.model import FOREVER_MS, ListKind
from gate.errors import InvalidInput

if TYPE_CHECKING:
    from gate.store.store import WriteReceipt

PAGE_ROWS = 1_000
"""Rows asked of the store at a time."""

_Owner = Annotated[str, typer.Argument(metavar="OWNER", help="Whose list.")]
_Members = Annotated[list[str], typer.Argument(metavar="MEMBER", help="Who is on it.")]
_Users = Annotated[list[str], typer.Argument(metavar="USER", help="Ids of Users.")]
_Seconds = Annotated[
    int | None, typer.Option("--seconds", metavar="N", help="The entries end so many seconds from now.")
]
_For = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="The entries end after that long: 7d, 90m, 2h30m.")
]
_Minutes = Annotated[
    int | None, typer.Option("--minutes", metavar="N", help="The entries end so many minutes from now.")
]
_Until = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="The entries end then: Unix milliseconds, or 2030-01-31T18:00:00Z."),
]

blacklist = typer.Typer(help="Whose messages an owner refuses.", no_args_is_help=True, add_completion=False)
whitelist = typer.Typer(
    help="Whose messages alone an owner accepts while the Whitelist is on.", no_args_is_help=True, add_completion=False
)


def _register(noun: typer.Typer, kind: ListKind, name: str) -> None:
    for verb in (_register_add, _register_remove, _register_list, _register_contains):
        verb(noun, kind, name)


def _register_add(noun: typer.Typer, kind: ListKind, name: str) -> None:
    @noun.command("add", help=f"Put members on OWNER's {name}: all of them or, past the App's ceiling, none.")
    def add(
        owner: _Owner,
        members: _Members,
        for_: _For = None,
        seconds: _Seconds = None,
        minutes: _Minutes = None,
        until: _Until = None,
        reason: ReasonOption = "",
        actor: ActorOption = None,
        data: DataOption = DEFAULT_DATA,
        app: AppOption = None,
        redis: RedisOption = None,
        as_json: JsonOption = False,
    ) -> None:
        now_ms = wall_ms()
        with all_mistakes() as mistakes:
            whose, whom = _owner_and_members(owner, members, mistakes)
            why, by = given_because(reason, actor, mistakes)
            until_ms = mistakes.take(
                lambda: _future(
                    one_end(now_ms, duration=for_, seconds=seconds, minutes=minutes, until=until, required=False),
                    now_ms,
                ),
                FOREVER_MS,
            )
        target = Target(data, app, redis)
        key = target.app_key()

        async def work(connection: StoreConnection) -> Settled:
            ceiling = (await connection.app(key)).list_ceiling
            adding = connection.store.lists.add(key, kind, whose, whom, until_ms, now_ms, ceiling, why, by)
            return await connection.write(adding)

        settled = run_with(target, work)
        ending = "" if until_ms == FOREVER_MS else f" until {shown_moment(until_ms)}"
        done = f"{counted(len(whom), 'member')} on the {name} of {shown_id(whose)}{ending}"
        document = _document(whose, whom) | {"until": json_moment(until_ms)}
        _print_settled(settled, done, document, as_json)


def _register_remove(noun: typer.Typer, kind: ListKind, name: str) -> None:
    @noun.command("remove", help=f"Take members off OWNER's {name}; names those that were not on it.")
    def remove(
        owner: _Owner,
        members: _Members,
        reason: ReasonOption = "",
        actor: ActorOption = None,
        data: DataOption = DEFAULT_DATA,
        app: AppOption = None,
        redis: RedisOption = None,
        as_json: JsonOption = False,
    ) -> None:
        with all_mistakes() as mistakes:
            whose, whom = _owner_and_members(owner, members, mistakes)
            why, by = given_because(reason, actor, mistakes)
        target = Target(data, app, redis)
        key = target.app_key()

        async def work(connection: StoreConnection) -> tuple[Settled, list[bytes]]:
            await connection.app(key)
            lists, now_ms = connection.store.lists, wall_ms()
            held = await lists.contains(key, kind, whose, whom, now_ms)
            absent = [member for member, on in zip(whom, held, strict=True) if not on]
            return await connection.write(lists.remove(key, kind, whose, whom, now_ms, why, by)), absent

        settled, absent = run_with(target, work)
        if as_json or len(absent) < len(whom):
            done = f"{counted(len(whom) - len(absent), 'member')} taken off the {name} of {shown_id(whose)}"
            document = _document(whose, whom) | {"not_listed": [json_id(member) for member in absent]}
            _print_settled(settled, done, document, as_json)
        if absent and not as_json:
            say(f"{'was' if len(absent) == 1 else 'were'} not on it: {some_ids(absent)}")


def _register_list(noun: typer.Typer, kind: ListKind, name: str) -> None:
    @noun.command("list", help=f"Show OWNER's {name}, the newest entry first.")
    def list_(
        owner: _Owner,
        limit: LimitOption = DEFAULT_LIMIT,
        data: DataOption = DEFAULT_DATA,
        app: AppOption = None,
        redis: RedisOption = None,
        as_json: JsonOption = False,
    ) -> None:
        whose = given_id(owner, "OWNER")
        entries, is_cut = cut_at(limit, _entries(Target(data, app, redis), kind, whose, limit))
        if as_json:
            rows = [{"member": json_id(member), "until": json_moment(until_ms)} for member, until_ms in entries]
            print_json({"owner": json_id(whose), "entries": rows} | is_cut)
        elif entries:
            print_table(("member", "until"), ((shown_id(member), shown_moment(end)) for member, end in entries))
        else:
            say(f"the {name} of {shown_id(whose)} is empty")


def _register_contains(noun: typer.Typer, kind: ListKind, name: str) -> None:
    @noun.command("contains", help=f"Is each member on OWNER's {name}? Exits 1 unless all are.")
    def contains(
        owner: _Owner,
        members: _Members,
        data: DataOption = DEFAULT_DATA,
        app: AppOption = None,
        redis: RedisOption = None,
        as_json: JsonOption = False,
    ) -> None:
        with all_mistakes() as mistakes:
            whose, whom = _owner_and_members(owner, members, mistakes)
        target = Target(data, app, redis)
        key = target.app_key()

        async def work(connection: StoreConnection) -> list[bool]:
            await connection.app(key)
            return list(await connection.store.lists.contains(key, kind, whose, whom, wall_ms()))

        held = run_with(target, work)
        if as_json:
            rows = [{"member": json_id(member), "on": on} for member, on in zip(whom, held, strict=True)]
            print_json({"owner": json_id(whose), "members": rows})
        else:
            for member, on in zip(whom, held, strict=True):
                say(f"{shown_id(member)}: {'on' if on else 'not on'} the {name}")
        raise typer.Exit(0 if all(held) else 1)


_register(blacklist, ListKind.BLACKLIST, "Blacklist")
_register(whitelist, ListKind.WHITELIST, "Whitelist")


@whitelist.command("on")
def switch_on(
    users: _Users,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enable the Whitelists of Users: only those on them may message these Users."""
    _switch(users, True, (reason, actor), Target(data, app, redis), as_json)


@whitelist.command("off")
def switch_off(
    users: _Users,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Disable the Whitelists of Users; the entries stay."""
    _switch(users, False, (reason, actor), Target(data, app, redis), as_json)


@whitelist.command("status")
def status(
    users: _Users,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Is each User's Whitelist on? An App-wide switch (gate app show) wins over it."""
    with all_mistakes() as mistakes:
        given = given_ids(users, "USER", mistakes)
    target = Target(data, app, redis)
    key = target.app_key()

    async def work(connection: StoreConnection) -> tuple[str, list[bool]]:
        facts = await connection.app(key)
        return facts.whitelists, list(await connection.store.lists.switches(key, given))

    whitelists, switches = run_with(target, work)
    if as_json:
        rows = [{"user": json_id(user), "on": on} for user, on in zip(given, switches, strict=True)]
        print_json({"app_whitelists": whitelists, "users": rows})
        return
    print_table(
        ("user", "whitelist"),
        ((shown_id(user), "on" if on else "off") for user, on in zip(given, switches, strict=True)),
    )
    if whitelists != "per-user":
        say(f"but the App switches Whitelists {whitelists} for everybody")


def _switch(users: list[str], on: bool, why_by: tuple[str, str | None], target: Target, as_json: bool) -> None:
    with all_mistakes() as mistakes:
        given = given_ids(users, "USER", mistakes)
        why, by = given_because(*why_by, mistakes)
    settled = _write_for(
        target, lambda connection, key: connection.store.lists.switch(key, given, on, wall_ms(), why, by)
    )
    done = f"the Whitelist of {counted(len(given), 'User')} is {'on' if on else 'off'}"
    _print_settled(settled, done, {"users": [json_id(user) for user in given], "on": on}, as_json)


def _owner_and_members(owner: str, members: list[str], mistakes: Mistakes) -> tuple[bytes, list[bytes]]:
    whose = mistakes.take(lambda: given_id(owner, "OWNER"), b"")
    return whose, given_ids(members, "MEMBER", mistakes)


def _future(until_ms: int, now_ms: int) -> int:
    if until_ms <= now_ms:
        raise InvalidInput("until", f"is past: {shown_moment(until_ms)}")
    return until_ms


def _write_for(target: Target, write: Callable[[StoreConnection, str], Awaitable[WriteReceipt]]) -> Settled:
    key = target.app_key()

    async def work(connection: StoreConnection) -> Settled:
        await connection.app(key)
        return await connection.write(write(connection, key))

    return run_with(target, work)


def _entries(target: Target, kind: ListKind, owner: bytes, limit: int) -> list[tuple[bytes, int]]:
    key = target.app_key()

    async def work(connection: StoreConnection) -> list[tuple[bytes, int]]:
        await connection.app(key)
        found: list[tuple[bytes, int]] = []
        before: int | None = None
        now_ms = wall_ms()
        while len(found) <= limit:
            count = min(PAGE_ROWS, limit + 1 - len(found))
            page, before = await connection.store.lists.page(key, kind, owner, now_ms, before, count)
            found.extend((entry.member, entry.until_ms) for entry in page)
            if before is None:
                break
        return found

    return run_with(target, work)


def _document(owner: bytes, members: list[bytes]) -> dict[str, Any]:
    return {"owner": json_id(owner), "members": [json_id(member) for member in members]}


def _print_settled(settled: Settled, done: str, document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(document | settled.fields)
    else:
        say(f"{done}: {settled.shown}")
