"""What nearly all commands share: one decorator for their options, one context that holds them, one printer.

    @takes("app", "redis", audited=True)
    def ban(command: Command, users: _Users, end: EndOptions) -> None: ...

Typer sees the function's own parameters, then the shared options that the decorator names. A parameter whose type is a
dataclass stands for the options that are its fields. `command` holds the shared options, and does what follows from them:
find the App, connect to Redis, name who writes and why, print what came of it for people or for programs.

Lists are read page by page behind the last row, at most `--limit` rows; a list that is cut is reported as cut.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Concatenate,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    TypeVar,
    get_type_hints,
)

import typer

from gate.cli.options import (
    DEFAULT_DATA,
    ActorOption,
    AppOption,
    DataOption,
    HttpOption,
    JsonOption,
    Mistakes,
    PresenceRedisOption,
    ReasonOption,
    RedisOption,
    RespOption,
    Target,
    login_name,
)
from gate.cli.output import print_json, print_table, say, warn
from gate.cli.remote import ELSEWHERE, Remote, node_only, remote_of
from gate.core import ids
from gate.core.reasons import MAX_ACTOR_CHARS, audit_text
from gate.errors import InvalidInput

if TYPE_CHECKING:
    from gate.cli.store_connection import Settled, StoreConnection
    from gate.core.model import AppFacts
    from gate.store.app_writes import AppWrites
    from gate.store.presence import PresenceStore
    from gate.store.writer import WriteReceipt


# Rows asked of the store at a time.
PAGE_ROWS = 5_000
# More than a person reads; a program that wants them all names a larger one.
DEFAULT_LIMIT = 100_000
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many rows.")]

T = TypeVar("T")
P = ParamSpec("P")

# Options that a command names if it takes them. All take `--data`.
Where = Literal["http", "resp", "app", "redis", "presence_redis"]

# Type and default of each, in the order in which help pages list them.
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "reason": (ReasonOption, ""),
    "actor": (ActorOption, None),
    "http": (HttpOption, None),
    "resp": (RespOption, None),
    "data": (DataOption, DEFAULT_DATA),
    "app": (AppOption, None),
    "redis": (RedisOption, None),
    "presence_redis": (PresenceRedisOption, None),
    "as_json": (JsonOption, False),
}


@dataclass(frozen=True)
class Command(Target):
    """One call of a command: where it acts, for what reason, and how it prints."""

    reason: str = ""
    actor: str | None = None
    as_json: bool = False

    def why_and_by(self, mistakes: Mistakes) -> tuple[str, str]:
        """The audit reason and the actor, as the options say."""
        actor = login_name() if self.actor is None else self.actor
        return (
            mistakes.take(lambda: audit_text(self.reason, "--reason"), ""),
            mistakes.take(lambda: audit_text(actor, "--actor", MAX_ACTOR_CHARS), ""),
        )

    def app_key(self) -> str:
        """The App meant. From elsewhere only an option or the environment names one: this machine's node has another."""
        there = ELSEWHERE.get()
        if there is None or self.app is not None:
            return super().app_key()
        if there.app is None:
            raise InvalidInput("--app", "say which App: --app KEY, or GATE_APP")
        return ids.app_key(there.app)

    @property
    def is_afar(self) -> bool:
        """Whether `--url` names a deployment, which is then asked in place of this machine's node."""
        return ELSEWHERE.get() is not None

    def afar(self, work: Callable[[Remote], T] | None, *, of_app: bool = True) -> T:
        """The work of a command over HTTP, about the App that the options name, or with `of_app` off about the deployment."""
        # The App first: a call without one is a mistake, whatever the command could do from elsewhere.
        remote = remote_of(self.app_key() if of_app else "")
        if work is None or remote is None:
            raise node_only()
        return work(remote)

    def ask(self, work: Callable[[StoreConnection], Awaitable[T]], afar: Callable[[Remote], T] | None = None) -> T:
        """Connect to the store, do the work, leave. `afar` does the same from elsewhere, here and below."""
        if self.is_afar:
            return self.afar(afar, of_app=False)
        from gate.cli.store_connection import run_with  # late: asyncio takes longer to import than a check to answer

        return run_with(self, work)

    def ask_app(
        self, work: Callable[[StoreConnection, AppFacts], Awaitable[T]], afar: Callable[[Remote], T] | None = None
    ) -> T:
        """The same with the App that the options name; `AppUnknown` before the work begins."""
        if self.is_afar:
            return self.afar(afar)
        # Before connecting, so that wrong usage is status 2 also with Redis away.
        key = self.app_key()

        async def of_app(connection: StoreConnection) -> T:
            return await work(connection, await connection.app(key))

        return self.ask(of_app)

    def write(
        self,
        write: Callable[[AppWrites], Awaitable[WriteReceipt]],
        why: str = "",
        by: str = "",
        afar: Callable[[Remote], Settled] | None = None,
    ) -> Settled:
        """Write for the App, and wait until it is effective."""

        async def settled(connection: StoreConnection, app: AppFacts) -> Settled:
            return await connection.write(write(connection.writes(app, why, by)))

        return self.ask_app(settled, afar)

    def ask_presence(
        self, work: Callable[[PresenceStore, str], Awaitable[T]], afar: Callable[[Remote], T] | None = None
    ) -> T:
        """Connect to Presence, do the work for the App that the options name, leave."""
        if self.is_afar:
            return self.afar(afar)
        from gate.cli.store_connection import ask_presence  # late, as above

        return ask_presence(self, work)

    def print(self, document: Mapping[str, Any], *lines: str) -> None:
        """Print the JSON document, or the lines of text."""
        if self.as_json:
            print_json(document)
            return
        for line in lines:
            say(line)

    def print_settled(self, done: str, document: Mapping[str, Any], settled: Settled) -> None:
        """Print the write, the nodes that applied it and its durability."""
        self.print({**document, **settled.fields}, f"{done}: {settled.shown}")

    def print_rows(
        self, listing: Listing[T], rows: Sequence[T], above: Mapping[str, Any] | None = None, /, **below: Any
    ) -> None:
        """Print a list. The JSON document also holds `above` and `below`, before and after the list."""
        if self.as_json:
            print_json({**(above or {}), listing.name: [listing.document(row) for row in rows], **below})
        elif rows:
            print_table(listing.columns, (listing.cells(row) for row in rows))
        else:
            say(listing.empty)


class Listing(NamedTuple, Generic[T]):
    """How rows of one sort are printed."""

    name: str
    """The name of the list in the JSON document."""
    document: Callable[[T], object]
    columns: Sequence[str]
    cells: Callable[[T], Sequence[str]]
    empty: str
    """The text for a list without rows."""


async def all_rows(page: Callable[[T | None, int], Awaitable[list[T]]], limit: int) -> list[T]:
    """Rows of `page(last row, count)` until none follow, or one more than the limit."""
    found: list[T] = []
    while len(found) <= limit:
        count = min(PAGE_ROWS, limit + 1 - len(found))
        some = await page(found[-1] if found else None, count)
        found += some
        if len(some) < count:
            break
    return found


def cut_at(limit: int, found: list[T]) -> tuple[list[T], dict[str, bool]]:
    """The rows to show, and what a JSON document adds where more exist; then a line on stderr says so too."""
    if len(found) <= limit:
        return found, {}
    warn(f"gate: cut at {limit:,} rows, more follow: --limit N lists more")
    return found[:limit], {"cut": True}


def takes(
    *where: Where, audited: bool = False, prints_json: bool = True, afar: bool = False
) -> Callable[[Callable[Concatenate[Command, P], None]], Callable[..., None]]:
    """Give a command the shared options: those named, `--data`, `--json`, and `--reason` and `--actor` if `audited`.

    With `afar` it works from elsewhere too: each `Command.ask_...` that it calls is given a function for that.
    """
    names = {"data", *where} | ({"reason", "actor"} if audited else set()) | ({"as_json"} if prints_json else set())
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
        for name, (option, default) in _OPTIONS.items()
        if name in names
    ]

    def decorate(function: Callable[Concatenate[Command, P], None]) -> Callable[..., None]:
        # `eval_str`: with postponed annotations these are texts.
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @functools.wraps(function)
        def run(**given: Any) -> None:
            if ELSEWHERE.get() is not None and not afar:
                raise node_only()
            # Popped: what is left are the function's own.
            command = Command(**{one.name: given.pop(one.name) for one in shared})
            arguments: dict[str, Any] = {one.name: _taken(one, given) for one in own}
            function(command, **arguments)  # type: ignore[call-arg]

        seen = [option for one in own for option in _flattened(one)] + shared
        # Typer reads these two attributes; without them it would read those of the wrapped function.
        run.__signature__ = inspect.Signature(seen)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in seen}
        # Typer follows it to the wrapped function, and would miss the shared options.
        del run.__wrapped__
        return run

    return decorate


def _flattened(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """The options that a parameter stands for."""
    if not is_dataclass(parameter.annotation):
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        return
    hints = get_type_hints(parameter.annotation, include_extras=True)
    for field in fields(parameter.annotation):
        kind = inspect.Parameter.KEYWORD_ONLY
        yield inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])


def _taken(parameter: inspect.Parameter, given: dict[str, Any]) -> Any:
    """The value of a parameter, built from Typer's values."""
    made = parameter.annotation
    if not is_dataclass(made):
        return given[parameter.name]
    return made(**{field.name: given[field.name] for field in fields(made)})  # type: ignore[operator]
