"""`gate blacklist …` and `gate whitelist …`: whose messages an owner refuses, or whose alone the owner accepts.

Both nouns have the same verbs, made once; the Whitelist also has its switch. Entries may be given an end. An addition that
would pass the App's ceiling adds nothing. `list` and `contains` read from Redis, not from the Replica, which may lag.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gate.cli.command import DEFAULT_LIMIT, Command, LimitOption, Listing, cut_at, takes
from gate.cli.options import Mistakes, all_mistakes, given_id, given_ids
from gate.cli.output import counted, json_id, print_table, say, shown_id, some_ids
from gate.cli.remote import Remote, raw_id, read_moment
from gate.cli.time_format import future, json_moment, one_end, shown_moment
from gate.clock import wall_ms
from gate.core.model import FOREVER_MS, ListKind

if TYPE_CHECKING:
    from gate.cli.store_connection import Settled, StoreConnection
    from gate.core.model import AppFacts

# Rows per request to the store.
PAGE_ROWS = 1_000
# More than a list may hold: all of it.
MAX_LIMIT = 1 << 31

_Owner = Annotated[str, typer.Argument(metavar="OWNER", help="Whose list.")]
_Members = Annotated[list[str], typer.Argument(metavar="MEMBER", help="Who is on it.")]
_Users = Annotated[list[str], typer.Argument(metavar="USER", help="Ids of Users.")]


@dataclass(frozen=True)
class EntryEndOptions:
    """When list entries end: one of these, or never."""

    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="The entries end after that long: 7d, 90m, 2h30m.")
    ] = None
    seconds: Annotated[
        int | None, typer.Option("--seconds", metavar="N", help="The entries end so many seconds from now.")
    ] = None
    minutes: Annotated[
        int | None, typer.Option("--minutes", metavar="N", help="The entries end so many minutes from now.")
    ] = None
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="The entries end then: Unix milliseconds, or 2030-01-31T18:00:00Z."
        ),
    ] = None

    def at(self, now_ms: int) -> int:
        """As a moment; `InvalidInput` if it is invalid or past."""
        return future(one_end(now_ms, **asdict(self), required=False), now_ms)


blacklist = typer.Typer(help="Whose messages an owner refuses.", no_args_is_help=True, add_completion=False)
whitelist = typer.Typer(
    help="Whose messages alone an owner accepts while the Whitelist is on.", no_args_is_help=True, add_completion=False
)


def _register(noun: typer.Typer, kind: ListKind, name: str) -> None:
    for verb in (_register_add, _register_remove, _register_list, _register_contains):
        verb(noun, kind, name)


def _register_add(noun: typer.Typer, kind: ListKind, name: str) -> None:
    @noun.command("add", help=f"Put members on OWNER's {name}: all of them or, past the App's ceiling, none.")
    @takes("app", "redis", audited=True, afar=True)
    def add(command: Command, owner: _Owner, members: _Members, end: EntryEndOptions) -> None:
        # Once for the call: all entries of it end at the same moment.
        now_ms = wall_ms()
        with all_mistakes() as mistakes:
            whose, whom = _owner_and_members(owner, members, mistakes)
            why, by = command.why_and_by(mistakes)
            until_ms = mistakes.take(lambda: end.at(now_ms), FOREVER_MS)
        body = _document(whose, whom) | {"until": json_moment(until_ms), "reason": why, "actor": by}
        settled = command.write(
            lambda writes: writes.add(kind, whose, whom, until_ms),
            why,
            by,
            lambda remote: remote.write("POST", _path(kind), body),
        )
        ending = "" if until_ms == FOREVER_MS else f" until {shown_moment(until_ms)}"
        done = f"{counted(len(whom), 'member')} on the {name} of {shown_id(whose)}{ending}"
        command.print_settled(done, _document(whose, whom) | {"until": json_moment(until_ms)}, settled)


def _register_remove(noun: typer.Typer, kind: ListKind, name: str) -> None:
    @noun.command("remove", help=f"Take members off OWNER's {name}; names those that were not on it.")
    @takes("app", "redis", audited=True, afar=True)
    def remove(command: Command, owner: _Owner, members: _Members) -> None:
        with all_mistakes() as mistakes:
            whose, whom = _owner_and_members(owner, members, mistakes)
            why, by = command.why_and_by(mistakes)

        async def work(connection: StoreConnection, app: AppFacts) -> tuple[Settled, list[bytes]]:
            writes = connection.writes(app, why, by)
            # Asked before the removal, for what is shown only: another may change the list in between.
            held = await connection.store.lists.contains(app.key, kind, whose, whom, writes.now_ms)
            absent = [member for member, on in zip(whom, held, strict=True) if not on]
            return await connection.write(writes.remove(kind, whose, whom)), absent

        def afar(remote: Remote) -> tuple[Settled, list[bytes]]:
            # `/v1` has no question about single members, so the whole list is read, a page of 1,000 at a time.
            held = {member for member, _ in _entries_afar(remote, kind, whose, MAX_LIMIT)}
            body = _document(whose, whom) | {"reason": why, "actor": by}
            return remote.write("DELETE", _path(kind), body), [member for member in whom if member not in held]

        settled, absent = command.ask_app(work, afar)
        if command.as_json or len(absent) < len(whom):
            done = f"{counted(len(whom) - len(absent), 'member')} taken off the {name} of {shown_id(whose)}"
            document = _document(whose, whom) | {"not_listed": [json_id(member) for member in absent]}
            command.print_settled(done, document, settled)
        if absent and not command.as_json:
            say(f"{'was' if len(absent) == 1 else 'were'} not on it: {some_ids(absent)}")


def _register_list(noun: typer.Typer, kind: ListKind, name: str) -> None:
    @noun.command("list", help=f"Show OWNER's {name}, the newest entry first.")
    @takes("app", "redis", afar=True)
    def list_(command: Command, owner: _Owner, limit: LimitOption = DEFAULT_LIMIT) -> None:
        whose = given_id(owner, "OWNER")
        # One row more than the limit was read: so a list of exactly that length is not called cut.
        entries, is_cut = cut_at(limit, _entries(command, kind, whose, limit))
        listing: Listing[tuple[bytes, int]] = Listing(
            "entries",
            lambda entry: {"member": json_id(entry[0]), "until": json_moment(entry[1])},
            ("member", "until"),
            lambda entry: (shown_id(entry[0]), shown_moment(entry[1])),
            f"the {name} of {shown_id(whose)} is empty",
        )
        command.print_rows(listing, entries, {"owner": json_id(whose)}, **is_cut)


def _register_contains(noun: typer.Typer, kind: ListKind, name: str) -> None:
    @noun.command("contains", help=f"Is each member on OWNER's {name}? Exits 1 unless all are.")
    @takes("app", "redis", afar=True)
    def contains(command: Command, owner: _Owner, members: _Members) -> None:
        with all_mistakes() as mistakes:
            whose, whom = _owner_and_members(owner, members, mistakes)

        async def work(connection: StoreConnection, app: AppFacts) -> list[bool]:
            return list(await connection.store.lists.contains(app.key, kind, whose, whom, wall_ms()))

        def afar(remote: Remote) -> list[bool]:
            held = {member for member, _ in _entries_afar(remote, kind, whose, MAX_LIMIT)}
            return [member in held for member in whom]

        found = list(zip(whom, command.ask_app(work, afar), strict=True))
        rows = [{"member": json_id(member), "on": on} for member, on in found]
        # A generator: with --json no text is made.
        lines = (f"{shown_id(member)}: {'on' if on else 'not on'} the {name}" for member, on in found)
        command.print({"owner": json_id(whose), "members": rows}, *lines)
        raise typer.Exit(0 if all(on for _, on in found) else 1)


_register(blacklist, ListKind.BLACKLIST, "Blacklist")
_register(whitelist, ListKind.WHITELIST, "Whitelist")


@whitelist.command("on")
@takes("app", "redis", audited=True, afar=True)
def switch_on(command: Command, users: _Users) -> None:
    """Enable the Whitelists of Users: only those on them may message these Users."""
    _switch(command, users, True)


@whitelist.command("off")
@takes("app", "redis", audited=True, afar=True)
def switch_off(command: Command, users: _Users) -> None:
    """Disable the Whitelists of Users; the entries stay."""
    _switch(command, users, False)


@whitelist.command("status")
@takes("app", "redis")
def status(command: Command, users: _Users) -> None:
    """Is each User's Whitelist on? An App-wide switch (gate app show) wins over it."""
    with all_mistakes() as mistakes:
        given = given_ids(users, "USER", mistakes)

    async def work(connection: StoreConnection, app: AppFacts) -> tuple[str, list[bool]]:
        return app.whitelists, list(await connection.store.lists.switches(app.key, given))

    # The App's switch goes along: a User's own says nothing where the App's decides.
    whitelists, switches = command.ask_app(work)
    found = list(zip(given, switches, strict=True))
    if command.as_json:
        rows = [{"user": json_id(user), "on": on} for user, on in found]
        command.print({"app_whitelists": whitelists, "users": rows})
        return
    print_table(("user", "whitelist"), ((shown_id(user), "on" if on else "off") for user, on in found))
    if whitelists != "per-user":
        say(f"but the App switches Whitelists {whitelists} for everybody")


def _switch(command: Command, users: list[str], on: bool) -> None:
    with all_mistakes() as mistakes:
        given = given_ids(users, "USER", mistakes)
        why, by = command.why_and_by(mistakes)
    body = {"users": [json_id(user) for user in given], "on": on, "reason": why, "actor": by}
    settled = command.write(
        lambda writes: writes.switch(given, on),
        why,
        by,
        lambda remote: remote.write("PUT", "/v1/whitelist-switch", body),
    )
    done = f"the Whitelist of {counted(len(given), 'User')} is {'on' if on else 'off'}"
    command.print_settled(done, {"users": [json_id(user) for user in given], "on": on}, settled)


def _owner_and_members(owner: str, members: list[str], mistakes: Mistakes) -> tuple[bytes, list[bytes]]:
    whose = mistakes.take(lambda: given_id(owner, "OWNER"), b"")
    return whose, given_ids(members, "MEMBER", mistakes)


def _entries(command: Command, kind: ListKind, owner: bytes, limit: int) -> list[tuple[bytes, int]]:
    async def work(connection: StoreConnection, app: AppFacts) -> list[tuple[bytes, int]]:
        found: list[tuple[bytes, int]] = []
        before: int | None = None
        now_ms = wall_ms()
        while len(found) <= limit:
            count = min(PAGE_ROWS, limit + 1 - len(found))
            page, before = await connection.store.lists.page(app.key, kind, owner, now_ms, before, count)
            found.extend((entry.member, entry.until_ms) for entry in page)
            if before is None:
                break
        return found

    return command.ask_app(work, lambda remote: _entries_afar(remote, kind, owner, limit))


def _entries_afar(remote: Remote, kind: ListKind, owner: bytes, limit: int) -> list[tuple[bytes, int]]:
    rows = remote.pages(_path(kind), "members", limit, owner=owner)
    return [(raw_id(one["user"]), read_moment(one["until"])) for one in rows]


def _path(kind: ListKind) -> str:
    return f"/v1/{kind.name.lower()}"


def _document(owner: bytes, members: list[bytes]) -> dict[str, Any]:
    return {"owner": json_id(owner), "members": [json_id(member) for member in members]}
