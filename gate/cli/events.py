"""`gate events`: an App's feed of presence changes and kicks, from a cursor on.

Read from Redis like everything that the command line shows, so no node need run. While Redis is away `--follow` says so on
stderr, waits, and goes on where it was: nothing is skipped. A feed that can't be read on from the cursor ends the command with
status 1, SIGINT or SIGTERM with status 130. However it ends, it says from which cursor to go on: on stderr, with `--json` as a
last line that holds nothing else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli.command import Command, takes
from gate.cli.options import all_mistakes, given_ids
from gate.cli.output import print_json_line, say, shown_id, warn
from gate.cli.time_format import shown_moment
from gate.core.presence import KINDS, Cursor, Event, EventFilter, parse_cursor, parse_gateway
from gate.errors import FeedReset, InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from gate.store.feed import Feed
    from gate.store.presence import PresenceStore

MOST_A_READ = 1_000
BLOCK_MS = 5_000
# The interval at which the store itself probes an unreachable Redis.
RETRY_S = 0.25

_Since = Annotated[str | None, typer.Option("--since", metavar="CURSOR", help="From there on; default: from now on.")]
_Kinds = Annotated[str | None, typer.Option("--kinds", metavar="A,B", help=f"Of {', '.join(KINDS)}.")]


@takes("app", "redis", "presence_redis")
def events(
    command: Command,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    since: _Since = None,
    kinds: _Kinds = None,
    user: Annotated[
        list[str] | None, typer.Option("--user", metavar="USER", help="Of this User; again for more.")
    ] = None,
    gateway: Annotated[str | None, typer.Option("--gateway", metavar="NAME", help="Of its Sessions only.")] = None,
) -> None:
    """Show who comes, goes and is kicked, a line an event. With --json each line is an object, the last one a cursor alone."""
    with all_mistakes() as mistakes:
        after = None if since is None else mistakes.take(lambda: _cursor(since), None)
        wanted = EventFilter(
            mistakes.take(lambda: _kinds_named(kinds), frozenset()),
            frozenset(given_ids(user or (), "--user", mistakes)),
            None if gateway is None else mistakes.take(lambda: parse_gateway(os.fsencode(gateway)), b""),
        )

    async def work(presence: PresenceStore, app_key: str) -> None:
        from gate.store.feed import Feed

        feed = Feed(presence.client, app_key)
        try:
            if follow:
                _end_on_signals()
            # The head is read before anything is printed: nothing between the call and the first line is lost.
            await _show(feed, after or await feed.head(), wanted, follow, command.as_json)
        finally:
            await feed.aclose()

    try:
        command.ask_presence(work)
    except asyncio.CancelledError:  # by `_end_on_signals` alone
        raise KeyboardInterrupt from None


def _end_on_signals() -> None:
    """Cancel this task at the first SIGINT or SIGTERM, at a point where the printed events and the cursor agree.

    The next signal ends the program at once, without a cursor: it may be blocked on a pipe without a reader.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    # An ignored signal stays ignored: a shell ignores SIGINT for the programs that it starts in the background.
    handled = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is not signal.SIG_IGN]

    def end(_number: int, _frame: FrameType | None) -> None:
        for one in handled:
            signal.signal(one, signal.SIG_DFL)
        if not loop.is_closed():  # then it is about to end anyway
            loop.call_soon_threadsafe(task.cancel)

    for one in handled:
        signal.signal(one, end)  # the loop's own handlers need the loop to run, and a blocked pipe stops it


async def _show(feed: Feed, after: Cursor, wanted: EventFilter, follow: bool, as_json: bool) -> None:
    try:
        async for some in _followed(feed, after) if follow else _until_now(feed, after):
            _print([event for event in some if wanted.has(event)], as_json)
            after = some[-1].cursor
    except FeedReset as reset:
        after = await feed.head()
        raise FeedReset(f"{reset}: look who is online now (gate online --counts), then read on from here") from None
    finally:
        if as_json:
            print_json_line(f'{{"cursor":"{after}"}}')
        else:
            warn(f"gate: go on with --since {after}")


async def _until_now(feed: Feed, after: Cursor) -> AsyncIterator[Sequence[Event]]:
    head = await feed.head()
    while not after.reaches(head) and (some := await feed.read(after, MOST_A_READ)):
        yield some
        after = some[-1].cursor
    if after.reaches(head):
        await feed.read(after, 1)  # fails if the cursor belongs to another history


async def _followed(feed: Feed, after: Cursor) -> AsyncIterator[Sequence[Event]]:
    is_away = False
    while True:
        try:
            some = await feed.wait(after, MOST_A_READ, BLOCK_MS)
        except StoreUnavailable as away:
            if not is_away:
                warn(f"gate: waiting for Redis: {away}")
            is_away = True
            await asyncio.sleep(RETRY_S)
            continue
        if is_away:
            warn("gate: Redis is back")
        is_away = False
        if some:
            yield some
            after = some[-1].cursor


def _print(shown: Sequence[Event], as_json: bool) -> None:
    for event in shown:
        if as_json:
            print_json_line(_json_line(event))
        else:
            say(_line(event))
    sys.stdout.flush()  # output to a pipe is buffered


def _line(event: Event) -> str:
    why = f"({event.why})" if event.why else ""
    parts = (shown_id(event.user), event.platform, event.gateway.decode(), event.ip, event.session, why)
    return " ".join((shown_moment(event.since_ms), f"{event.kind:<16}", *filter(None, parts)))


def _json_line(event: Event) -> str:
    # Late: the text form does not need it.
    import msgspec

    from gate.http.v1.feed import event_json

    return msgspec.json.encode({"cursor": str(event.cursor), **event_json(event)}).decode()


def _cursor(text: str) -> Cursor | None:
    try:
        return parse_cursor(text)
    except InvalidInput as fault:
        raise InvalidInput("--since", fault.problem) from None


def _kinds_named(text: str | None) -> frozenset[str]:
    named = frozenset(KINDS if text is None else text.split(","))
    for one in sorted(named - set(KINDS)):
        raise InvalidInput("--kinds", f"must be of {', '.join(KINDS)}, got {one[:40]!r}")
    return named
