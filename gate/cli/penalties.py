"""`gate ban`, `unban`, `bans` and `gate mute`, `unmute`, `mutes`: whom the App refuses, until when, why and by whom.

A Ban needs its end said: how long, minutes, seconds, a moment, or `--permanent`. A later one replaces the earlier, longer or
shorter. All Users of one call are banned by one write a Partition, and the call returns when it is effective.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    given_ids,
    login_name,
)
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id, some_ids
from gate.cli.paging import DEFAULT_LIMIT, LimitOption, all_rows, cut_at
from gate.cli.store_connection import Settled, StoreConnection, run_with
from gate.cli.time_format import json_moment, one_end, shown_moment
from gate.clock import wall_ms
from gate.core.model import FOREVER_MS
from gate.core.reasons import MAX_ACTOR_CHARS, MAX_REASON_CHARS
from gate.errors import InvalidInput

if TYPE_CHECKING:
    from gate.store.penalties import Penalty

MAX_USERS_A_CALL = 10_000
"""More than a command line holds in practice; past this, `gate import` is the tool."""

PenaltyKind = Literal["bans", "mutes"]

_PAST = {"bans": "banned", "mutes": "muted"}

_Users = Annotated[list[str], typer.Argument(metavar="USER", help="Ids of Users.")]
_Minutes = Annotated[int | None, typer.Option("--minutes", metavar="N", help="Ends so many minutes from now.")]
_Seconds = Annotated[int | None, typer.Option("--seconds", metavar="N", help="Ends so many seconds from now.")]
_For = Annotated[str | None, typer.Option("--for", metavar="TIME", help="Ends after that long: 7d, 90m, 2h30m.")]
_Until = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Ends then: Unix milliseconds, or 2030-01-31T18:00:00Z."),
]
_Permanent = Annotated[bool, typer.Option("--permanent", help="Has no end, until it is lifted.")]


def ban(
    users: _Users,
    for_: _For = None,
    minutes: _Minutes = None,
    seconds: _Seconds = None,
    until: _Until = None,
    permanent: _Permanent = False,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ban Users: the App refuses them until the Ban ends."""
    end = _End(for_, minutes, seconds, until, permanent)
    _impose("bans", users, end, (reason, actor), Target(data, app, redis), as_json)


def mute(
    users: _Users,
    for_: _For = None,
    minutes: _Minutes = None,
    seconds: _Seconds = None,
    until: _Until = None,
    permanent: _Permanent = False,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mute Users: they may connect and read, but not send, until the Mute ends."""
    end = _End(for_, minutes, seconds, until, permanent)
    _impose("mutes", users, end, (reason, actor), Target(data, app, redis), as_json)


def unban(
    users: _Users,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lift the Bans of Users, banned or not."""
    _lift("bans", users, (reason, actor), Target(data, app, redis), as_json)


def unmute(
    users: _Users,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lift the Mutes of Users, muted or not."""
    _lift("mutes", users, (reason, actor), Target(data, app, redis), as_json)


def bans(
    limit: LimitOption = DEFAULT_LIMIT,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who is banned, the latest end first."""
    _list("bans", limit, Target(data, app, redis), as_json)


def mutes(
    limit: LimitOption = DEFAULT_LIMIT,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who is muted, the latest end first."""
    _list("mutes", limit, Target(data, app, redis), as_json)


class _End:
    """When it ends, as the options said."""

    def __init__(
        self, for_: str | None, minutes: int | None, seconds: int | None, until: str | None, permanent: bool
    ) -> None:
        self._read: Callable[[int], int] = lambda now_ms: one_end(
            now_ms, duration=for_, minutes=minutes, seconds=seconds, until=until, permanent=permanent
        )

    def at(self, now_ms: int) -> int:
        """As a moment; `InvalidInput` if it is none, or is past."""
        until_ms = self._read(now_ms)
        if until_ms <= now_ms:
            raise InvalidInput("until", f"is past: {shown_moment(until_ms)}")
        return until_ms


def _read_users(users: list[str]) -> list[bytes]:
    if len(users) > MAX_USERS_A_CALL:
        raise InvalidInput("USER", f"at most {MAX_USERS_A_CALL:,} a call; gate import takes any number")
    with all_mistakes() as mistakes:
        return given_ids(users, "USER", mistakes)


def _impose(
    kind: PenaltyKind, users: list[str], end: _End, why_by: tuple[str, str | None], target: Target, as_json: bool
) -> None:
    now_ms = wall_ms()
    with all_mistakes() as mistakes:
        given = mistakes.take(lambda: _read_users(users), list[bytes]())
        until_ms = mistakes.take(lambda: end.at(now_ms), FOREVER_MS)
        why, by = given_because(*why_by, mistakes)
    key = target.app_key()

    async def work(connection: StoreConnection) -> tuple[Settled, list[bytes]]:
        await connection.app(key)
        store = connection.store.bans if kind == "bans" else connection.store.mutes
        imposed = await store.impose_on_active(key, given, until_ms, now_ms, why=why, by=by)
        return await connection.settle(imposed.written), imposed.skipped

    settled, skipped = run_with(target, work)
    done = [user for user in given if user not in skipped]
    if as_json:
        document: dict[str, Any] = {
            "users": [json_id(user) for user in done],
            "skipped": [json_id(user) for user in skipped],
        }
        document |= {"until": json_moment(until_ms), **settled.fields}
        print_json(document)
        return
    end_words = "without end" if until_ms == FOREVER_MS else f"until {shown_moment(until_ms)}"
    say(f"{_PAST[kind]} {counted(len(done), 'User')} {end_words}: {settled.shown}")
    if skipped:
        say(f"left out, deactivated: {some_ids(skipped)}")


def _lift(kind: PenaltyKind, users: list[str], why_by: tuple[str, str | None], target: Target, as_json: bool) -> None:
    with all_mistakes() as mistakes:
        given = mistakes.take(lambda: _read_users(users), list[bytes]())
        why, by = given_because(*why_by, mistakes)
    key = target.app_key()

    async def work(connection: StoreConnection) -> tuple[Settled, list[bytes]]:
        await connection.app(key)
        store, now_ms = connection.store.bans if kind == "bans" else connection.store.mutes, wall_ms()
        ends = [
            facts.banned_until_ms if kind == "bans" else facts.muted_until_ms
            for facts in await connection.store.users.facts(key, given)
        ]
        free = [user for user, until_ms in zip(given, ends, strict=True) if until_ms <= now_ms]
        return await connection.write(store.lift(key, given, now_ms, why, by)), free

    settled, free = run_with(target, work)
    if as_json:
        document = {"users": [json_id(user) for user in given], f"not_{_PAST[kind]}": [json_id(user) for user in free]}
        print_json(document | settled.fields)
        return
    if len(free) < len(given):
        say(f"{counted(len(given) - len(free), 'User')} no longer {_PAST[kind]}: {settled.shown}")
    if free:
        say(f"{'was' if len(free) == 1 else 'were'} not {_PAST[kind]}: {some_ids(free)}")


def _list(kind: PenaltyKind, limit: int, target: Target, as_json: bool) -> None:
    key = target.app_key()

    async def work(connection: StoreConnection) -> list[Penalty]:
        await connection.app(key)
        store = connection.store.bans if kind == "bans" else connection.store.mutes
        now_ms = wall_ms()

        async def page(last: Penalty | None, count: int) -> list[Penalty]:
            return await store.behind(key, now_ms, last and last.place, count)

        return await all_rows(page, limit)

    found, is_cut = cut_at(limit, run_with(target, work))
    if as_json:
        rows = [
            {"user": json_id(one.user), "until": json_moment(one.until_ms), "reason": one.why, "actor": one.by}
            for one in found
        ]
        print_json({kind: rows} | is_cut)
    elif found:
        shown = ((shown_id(one.user), shown_moment(one.until_ms), one.why, one.by) for one in found)
        print_table(("user", "until", "reason", "actor"), shown)
    else:
        say(f"nobody is {_PAST[kind]}")


def given_because(reason: str, actor: str | None, mistakes: Mistakes) -> tuple[str, str]:
    """Why and by whom, as the options say."""
    return (
        mistakes.take(lambda: _given_text(reason, "--reason", MAX_REASON_CHARS), ""),
        mistakes.take(lambda: _given_text(login_name() if actor is None else actor, "--actor", MAX_ACTOR_CHARS), ""),
    )


def _given_text(text: str, option: str, most: int) -> str:
    if len(text) > most:
        raise InvalidInput(option, f"at most {most} characters, {len(text)} were given")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(option, "is no UTF-8") from None
    return text
