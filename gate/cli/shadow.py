"""`gate shadow report`: what an App in shadow mode would have been denied, by reason, User, pair and hour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gate.cli.command import Command, takes
from gate.cli.online import bar_of
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id
from gate.cli.store_connection import open_both, run
from gate.cli.time_format import shown_moment
from gate.clock import wall_ms
from gate.core.shadow import HOUR_MS, HOURS_A_DAY, shadow_report
from gate.errors import InvalidInput

if TYPE_CHECKING:
    from gate.core.model import AppFacts
    from gate.core.shadow import ShadowHistory

MAX_DAYS = 7
MAX_TOP = 100
DEFAULT_TOP = 10

shadow = typer.Typer(
    help="Shadow mode: what an App would have been denied.", no_args_is_help=True, add_completion=False
)


@shadow.callback()
def _group() -> None:
    """Makes `report` a command of its own, although it is the only one."""


@shadow.command()
@takes("app", "redis", "presence_redis")
def report(
    command: Command,
    days: Annotated[int, typer.Option("--days", metavar="N", help=f"1: today (UTC), up to {MAX_DAYS}.")] = 1,
    top: Annotated[int, typer.Option("--top", metavar="N", help="How many Users and pairs are listed.")] = DEFAULT_TOP,
) -> None:
    """What would Gate have denied today? Counts of an App in shadow mode; they are some seconds old."""
    # Not Typer's bounds: their message would not say what the number counts.
    for option, value, most in (("--days", days, MAX_DAYS), ("--top", top, MAX_TOP)):
        if not 1 <= value <= most:
            raise InvalidInput(option, f"must be 1 to {most}, got {value}")
    key = command.app_key()

    async def work() -> tuple[AppFacts, ShadowHistory]:
        from gate.store.shadow import read_shadow_history  # late: the help page should not pay for it

        async with open_both(command, key) as (store, presence):
            return await store.apps.get(key), await read_shadow_history(presence.client, key)

    app, history = run(work())
    # Days are UTC, as the counters are kept: an operator's midnight may be at another hour.
    today = wall_ms() // (HOUR_MS * HOURS_A_DAY)
    found = shadow_report(history.since(today - days + 1), top)
    if command.as_json:
        print_json(_document(app, found))
    else:
        _print(app, found, days)


def _document(app: AppFacts, found: dict[str, Any]) -> dict[str, Any]:
    users = {
        name: [{"user": json_id(user), "denials": many} for user, many in found[name]]
        for name in ("senders", "recipients")
    }
    pairs = [{"from": json_id(a), "to": json_id(b), "denials": many} for (a, b), many in found["pairs"]]
    return {"app": app.key, "shadow": app.shadow, **found, **users, "pairs": pairs}


def _print(app: AppFacts, found: dict[str, Any], days: int) -> None:
    if app.shadow:
        say(f"App {app.key} is in shadow mode: every check is answered allowed")
    else:
        say(
            f"App {app.key} is not in shadow mode: its denials are enforced, and not in this report (gate top, /metrics)"
        )
    stretch = "today (UTC)" if days == 1 else f"in {days} days (UTC)"
    # Said apart from no denials: without checks the App may not be asked at all.
    if not found["checks"]:
        say(f"shadow mode counted no check {stretch}")
        return
    say(
        f"{stretch}, since {shown_moment(found['since_ms'])}: {counted(found['denials'], 'denial')} of "
        f"{counted(found['checks'], 'check')} ({found['share']:.2%})"
    )
    if not found["denials"]:
        return
    print_table(("reason", "denials"), [(reason, f"{many:,}") for reason, many in found["reasons"].items()])
    print_table(("sender", "denials"), [(shown_id(user), f"{many:,}") for user, many in found["senders"]])
    print_table(("recipient", "denials"), [(shown_id(user), f"{many:,}") for user, many in found["recipients"]])
    print_table(("from", "to", "denials"), [(shown_id(a), shown_id(b), f"{many:,}") for (a, b), many in found["pairs"]])
    # At least 1: there was a denial, and each has its hour.
    most = max(one["denials"] for one in found["hours"])
    print_table(
        ("hour", "checks", "denials", ""),
        [
            (shown_moment(one["at_ms"]), f"{one['checks']:,}", f"{one['denials']:,}", bar_of(one["denials"], most))
            for one in found["hours"]
        ],
    )
