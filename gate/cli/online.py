"""`gate online USER…`, `gate online` and `gate online --history`: who is online, how many are, and how many were.

As `gate check` does for a question with two answers, the exit status is 0 if every User named is online, and 1 if one is not.

The history is a line of sixty minutes for Users, Sessions and each platform. Each line is scaled to its own highest value. A
minute in which no sample was taken is a dot: its value is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gate.cli.command import Command, takes
from gate.cli.options import all_mistakes, given_ids
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id
from gate.cli.remote import Remote, raw_id
from gate.cli.time_format import shown_moment
from gate.clock import wall_ms
from gate.core.presence import SAMPLE_EVERY_MS, Sample
from gate.errors import InvalidInput

if TYPE_CHECKING:
    from gate.core.presence import Counts, Sample, UserPresence
    from gate.store.presence import PresenceStore


MINUTES = 60
_BARS = "▁▂▃▄▅▆▇█"
_UNKNOWN = "·"
# The platform "" of a sample: see `Sample`.
_REST = "(others)"


@takes("app", "redis", "presence_redis", afar=True)
def online(
    command: Command,
    users: Annotated[list[str] | None, typer.Argument(metavar="USER", help="Ids of Users.")] = None,
    counts: Annotated[
        bool, typer.Option("--counts", help="How many, by platform and Gateway: as without USER.")
    ] = False,
    history: Annotated[bool, typer.Option("--history", help="How many were online in the last hour.")] = False,
) -> None:
    """How many are online; with USER, whether those are: exits 0 if all are, 1 if one is not."""
    # Each answers another question, with another document.
    if bool(users) + counts + history > 1:
        raise InvalidInput("USER", "say which, or --counts, or --history; one of them")
    if history:
        now_ms = wall_ms()
        samples = command.ask_presence(partial(_sampled, now_ms - MINUTES * 60_000), _sampled_afar)
        print_history(samples, now_ms, as_json=command.as_json)
        return
    if not users:
        _print_counts(command.ask_presence(_counted, _counted_afar), command.as_json)
        return
    with all_mistakes() as mistakes:
        given = given_ids(users, "USER", mistakes)

    async def work(presence: PresenceStore, app_key: str) -> list[UserPresence]:
        return await presence.presences(app_key, given)

    def afar(remote: Remote) -> list[UserPresence]:
        answer = remote.send("POST", "/v1/presence", {"users": [json_id(user) for user in given]})
        return [_presence_of(one) for one in answer["presence"]]

    found = list(zip(given, command.ask_presence(work, afar), strict=True))
    if command.as_json:
        print_json({"presence": [presence_document(user, presence) for user, presence in found]})
    else:
        print_table(("user", "state", "platforms", "since"), (_row(user, presence) for user, presence in found))
    raise typer.Exit(0 if all(presence.online for _, presence in found) else 1)


def presence_document(user: bytes, presence: UserPresence) -> dict[str, object]:
    """One User's Presence, word for word as POST /v1/presence has it."""
    since_of: dict[str, list[int]] = {}
    for one in presence.sessions:
        # Several Sessions on one platform are one entry, since the first.
        since_of.setdefault(one.platform, []).append(one.since_ms)
    return {
        "user": json_id(user),
        "online": presence.online,
        "platforms": [
            {"platform": platform, "since_ms": min(since), "sessions": len(since)}
            for platform, since in since_of.items()
        ],
        "last_seen_ms": None if presence.online else presence.last_seen_ms or None,
        "last_active_ms": presence.last_active_ms or None,
    }


async def _counted(presence: PresenceStore, app_key: str) -> Counts:
    return await presence.counts(app_key)


async def _sampled(since_ms: int, presence: PresenceStore, app_key: str) -> list[Sample]:
    return await presence.history(app_key, since_ms)


def _presence_of(shown: Mapping[str, Any]) -> UserPresence:
    """The Presence that has this document: a platform's Sessions have its moment, since nothing more is shown of them."""
    from gate.core.presence import Session, UserPresence  # late: only from elsewhere

    user = raw_id(shown["user"])
    sessions = [
        Session("", user, one["platform"], b"", 0, one["since_ms"], "", 0, 0)
        for one in shown["platforms"]
        for _ in range(one["sessions"])
    ]
    return UserPresence(tuple(sessions), shown["last_seen_ms"] or 0, shown["last_active_ms"] or 0)


def _counted_afar(remote: Remote) -> Counts:
    from gate.core.presence import Counts  # late, as above

    shown = remote.get("/v1/presence/counts")
    return Counts(shown["users"], pairs_of(shown), shown["sweeping"])


def _sampled_afar(remote: Remote) -> list[Sample]:
    from gate.core.presence import Sample  # late, as above

    samples = remote.get("/v1/presence/history", minutes=MINUTES)["samples"]
    return [Sample(one["users"], pairs_of(one), one["at_ms"]) for one in samples]


def pairs_of(shown: Mapping[str, Any]) -> dict[tuple[bytes, str], int]:
    """Numbers of Gateway and platform with these sums by platform and by Gateway, which are all that is shown of them."""
    pairs: dict[tuple[bytes, str], int] = {}
    left = dict(shown["by_gateway"])
    for platform, many in shown["by_platform"].items():
        for gateway in left:
            # Each platform fills up the Gateways in order.
            if taken := min(many, left[gateway]):
                pairs[gateway.encode(), platform] = taken
                many, left[gateway] = many - taken, left[gateway] - taken
    return pairs


def state_of(presence: UserPresence) -> str:
    """The word for a User's Presence."""
    return "online" if presence.online else "offline"


def _row(user: bytes, presence: UserPresence) -> tuple[str, ...]:
    if not presence.online:
        last = f"last seen {shown_moment(presence.last_seen_ms)}" if presence.last_seen_ms else "never seen"
        return shown_id(user), state_of(presence), "", last
    platforms = dict.fromkeys(one.platform for one in presence.sessions)
    since_ms = min(one.since_ms for one in presence.sessions)
    return shown_id(user), state_of(presence), ", ".join(platforms), shown_moment(since_ms)


def _print_counts(found: Counts, as_json: bool) -> None:
    if as_json:
        print_json({**found.document(), "sweeping": found.sweeping})
        return
    sweeping = f"; {counted(found.sweeping, 'ended lease')} being swept" if found.sweeping else ""
    say(f"{counted(found.users, 'User')} online with {counted(found.total, 'Session')}{sweeping}")
    if found.total:
        print_table(("platform", "Sessions"), ((name, f"{many:,}") for name, many in found.by_platform().items()))
        by_gateway = ((gateway.decode(), f"{many:,}") for gateway, many in found.by_gateway().items())
        print_table(("Gateway", "Sessions"), by_gateway)


def print_history(samples: Sequence[Sample], now_ms: int, *, as_json: bool) -> None:
    """The last hour, word for word as GET /v1/presence/history has it, or as lines; `samples` the oldest first."""
    if as_json:
        print_json(
            {"every_ms": SAMPLE_EVERY_MS, "samples": [{"at_ms": one.at_ms, **one.document()} for one in samples]}
        )
    elif samples:
        print_table(("online", "last hour", "least", "most", "now"), _history_rows(samples, now_ms))
        say(f"{counted(len(samples), 'sample')}, one every {SAMPLE_EVERY_MS // 1_000} s")
    else:
        say("no sample was taken in the last hour")


def sparkline(values: Sequence[tuple[int, int]], now_ms: int) -> str:
    """A character a minute, the newest last, of (moment in ms, value): each minute's highest, against the highest of all."""
    highest = [-1] * MINUTES
    for at_ms, value in values:
        # A sample that the server dated a little ahead of this clock is of now.
        minutes_ago = max(0, now_ms - at_ms) // 60_000
        if minutes_ago < MINUTES:
            highest[-1 - minutes_ago] = max(highest[-1 - minutes_ago], value)
    # Without anybody online every line would be divided by zero.
    top = max(1, *highest)
    return "".join(_UNKNOWN if one < 0 else bar_of(one, top) for one in highest)


def bar_of(value: int, top: int) -> str:
    """One character whose height is the value's share of `top`, which is at least 1."""
    # Rounded up: one User of a million still shows.
    return _BARS[-(-value * (len(_BARS) - 1) // top)]


def _history_rows(samples: Sequence[Sample], now_ms: int) -> Iterator[tuple[str, ...]]:
    yield _history_row("Users", [(one.at_ms, one.users) for one in samples], now_ms)
    yield _history_row("Sessions", [(one.at_ms, one.total) for one in samples], now_ms)
    by_platform = [(one.at_ms, one.by_platform()) for one in samples]
    # Platforms with Users now come first, the one with the most Users first; then platforms without any.
    names = dict.fromkeys(name for _, sums in reversed(by_platform) for name in sums)
    for name in names:
        yield _history_row(name or _REST, [(at_ms, sums.get(name, 0)) for at_ms, sums in by_platform], now_ms)


def _history_row(name: str, values: Sequence[tuple[int, int]], now_ms: int) -> tuple[str, ...]:
    numbers = [value for _, value in values]
    return name, sparkline(values, now_ms), f"{min(numbers):,}", f"{max(numbers):,}", f"{numbers[-1]:,}"
