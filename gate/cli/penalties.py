"""`gate ban`, `unban`, `bans` and `gate mute`, `unmute`, `mutes`: whom the App refuses, until when, why and by whom.

A Ban needs an end: a duration, minutes, seconds, a moment, or `--permanent`. A later one replaces the earlier, longer or
shorter. All Users of one call are banned by one write a Partition, and the call returns when it is effective.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gate.cli.command import DEFAULT_LIMIT, Command, LimitOption, Listing, all_rows, cut_at, takes
from gate.cli.options import all_mistakes, given_ids
from gate.cli.output import counted, json_id, say, shown_id, some_ids
from gate.cli.remote import Remote, known_user, raw_id, read_moment, settled_of
from gate.cli.time_format import future, json_moment, one_end, shown_moment
from gate.clock import wall_ms
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput

if TYPE_CHECKING:
    from gate.cli.store_connection import Settled, StoreConnection
    from gate.core.model import AppFacts
    from gate.store.app_writes import PenaltyKind
    from gate.store.penalties import Penalty

# More than a command line holds in practice; past this, `gate import` is the tool.
MAX_USERS_A_CALL = 10_000

Noun = Literal["bans", "mutes"]

_PENALTIES: dict[Noun, PenaltyKind] = {"bans": "ban", "mutes": "mute"}
_PAST = {"bans": "banned", "mutes": "muted"}

_Users = Annotated[list[str], typer.Argument(metavar="USER", help="Ids of Users.")]


@dataclass(frozen=True)
class EndOptions:
    """When a Ban or a Mute ends: one of these."""

    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Ends after that long: 7d, 90m, 2h30m.")
    ] = None
    minutes: Annotated[int | None, typer.Option("--minutes", metavar="N", help="Ends so many minutes from now.")] = None
    seconds: Annotated[int | None, typer.Option("--seconds", metavar="N", help="Ends so many seconds from now.")] = None
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Ends then: Unix milliseconds, or 2030-01-31T18:00:00Z."),
    ] = None
    permanent: Annotated[bool, typer.Option("--permanent", help="Has no end, until it is lifted.")] = False

    def at(self, now_ms: int) -> int:
        """As a moment; `InvalidInput` if it is invalid or past."""
        return future(one_end(now_ms, **asdict(self)), now_ms)


@takes("app", "redis", audited=True, afar=True)
def ban(command: Command, users: _Users, end: EndOptions) -> None:
    """Ban Users: the App refuses them until the Ban ends."""
    _impose(command, "bans", users, end)


@takes("app", "redis", audited=True, afar=True)
def mute(command: Command, users: _Users, end: EndOptions) -> None:
    """Mute Users: they may connect and read, but not send, until the Mute ends."""
    _impose(command, "mutes", users, end)


@takes("app", "redis", audited=True, afar=True)
def unban(command: Command, users: _Users) -> None:
    """Lift the Bans of Users, banned or not."""
    _lift(command, "bans", users)


@takes("app", "redis", audited=True, afar=True)
def unmute(command: Command, users: _Users) -> None:
    """Lift the Mutes of Users, muted or not."""
    _lift(command, "mutes", users)


@takes("app", "redis", afar=True)
def bans(command: Command, limit: LimitOption = DEFAULT_LIMIT) -> None:
    """List who is banned, the latest end first."""
    _list(command, "bans", limit)


@takes("app", "redis", afar=True)
def mutes(command: Command, limit: LimitOption = DEFAULT_LIMIT) -> None:
    """List who is muted, the latest end first."""
    _list(command, "mutes", limit)


def _read_users(users: list[str]) -> list[bytes]:
    if len(users) > MAX_USERS_A_CALL:
        raise InvalidInput("USER", f"at most {MAX_USERS_A_CALL:,} a call; gate import takes any number")
    with all_mistakes() as mistakes:
        return given_ids(users, "USER", mistakes)


def _impose(command: Command, kind: Noun, users: list[str], end: EndOptions) -> None:
    # Once: all Users of the call are banned until the same moment.
    now_ms = wall_ms()
    with all_mistakes() as mistakes:
        given = mistakes.take(lambda: _read_users(users), list[bytes]())
        # The value in the place of a mistake is never written: `all_mistakes` raises first.
        until_ms = mistakes.take(lambda: end.at(now_ms), FOREVER_MS)
        why, by = command.why_and_by(mistakes)

    async def work(connection: StoreConnection, app: AppFacts) -> tuple[Settled, list[bytes]]:
        imposed = await connection.writes(app, why, by, now_ms).impose(_PENALTIES[kind], given, until_ms)
        return await connection.settle(imposed.written), imposed.skipped

    def afar(remote: Remote) -> tuple[Settled, list[bytes]]:
        # The endpoint takes exactly one of the two.
        end: dict[str, Any] = {"permanent": True} if until_ms == FOREVER_MS else {"until": until_ms}
        body = {"users": [json_id(user) for user in given], **end, "reason": why, "actor": by}
        answer = remote.send("POST", f"/v1/{kind}", body)
        return settled_of(answer), [raw_id(user) for user in answer.get("skipped", ())]

    settled, skipped = command.ask_app(work, afar)
    # `skipped` is short: deactivated Users among those named.
    done = [user for user in given if user not in skipped]
    document = {"users": [json_id(user) for user in done], "skipped": [json_id(user) for user in skipped]}
    end_words = "without end" if until_ms == FOREVER_MS else f"until {shown_moment(until_ms)}"
    command.print_settled(
        f"{_PAST[kind]} {counted(len(done), 'User')} {end_words}", {**document, "until": json_moment(until_ms)}, settled
    )
    if skipped and not command.as_json:
        say(f"left out, deactivated: {some_ids(skipped)}")


def _lift(command: Command, kind: Noun, users: list[str]) -> None:
    with all_mistakes() as mistakes:
        given = mistakes.take(lambda: _read_users(users), list[bytes]())
        why, by = command.why_and_by(mistakes)

    async def work(connection: StoreConnection, app: AppFacts) -> tuple[Settled, list[bytes]]:
        writes = connection.writes(app, why, by)
        ends = [
            facts.banned_until_ms if kind == "bans" else facts.muted_until_ms
            for facts in await connection.store.users.facts(app.key, given)
        ]
        # Only for what is printed: all are lifted, also who is banned meanwhile.
        free = [user for user, until_ms in zip(given, ends, strict=True) if until_ms <= writes.now_ms]
        return await connection.write(writes.lift(_PENALTIES[kind], given)), free

    def afar(remote: Remote) -> tuple[Settled, list[bytes]]:
        # Asked before, as above: what is imposed or lifted meanwhile only changes what is shown.
        free = [user for user in given if (known_user(remote, user) or {}).get(_PENALTIES[kind]) is None]
        body = {"users": [json_id(user) for user in given], "reason": why, "actor": by}
        return remote.write("DELETE", f"/v1/{kind}", body), free

    settled, free = command.ask_app(work, afar)
    # A line about no one lifted would read as a success.
    if command.as_json or len(free) < len(given):
        document = {"users": [json_id(user) for user in given], f"not_{_PAST[kind]}": [json_id(user) for user in free]}
        done = f"{counted(len(given) - len(free), 'User')} no longer {_PAST[kind]}"
        command.print_settled(done, document, settled)
    if free and not command.as_json:
        say(f"{'was' if len(free) == 1 else 'were'} not {_PAST[kind]}: {some_ids(free)}")


def _list(command: Command, kind: Noun, limit: int) -> None:
    async def work(connection: StoreConnection, app: AppFacts) -> list[Penalty]:
        store = connection.store.bans if kind == "bans" else connection.store.mutes
        now_ms = wall_ms()

        async def page(last: Penalty | None, count: int) -> list[Penalty]:
            return await store.behind(app.key, now_ms, last and last.place, count)

        return await all_rows(page, limit)

    def afar(remote: Remote) -> list[Penalty]:
        from gate.store.penalties import Penalty  # late: the help page needs no store

        return [
            Penalty(raw_id(one["user"]), read_moment(one["until"]), one["reason"], one["actor"])
            for one in remote.pages(f"/v1/{kind}", kind, limit)
        ]

    found, is_cut = cut_at(limit, command.ask_app(work, afar))
    listing: Listing[Penalty] = Listing(
        kind,
        lambda one: {
            "user": json_id(one.user), "until": json_moment(one.until_ms), "reason": one.why, "actor": one.by,
        },
        ("user", "until", "reason", "actor"),
        lambda one: (shown_id(one.user), shown_moment(one.until_ms), one.why, one.by),
        f"no User is {_PAST[kind]}",
    )  # fmt: skip
    command.print_rows(listing, found, **is_cut)
