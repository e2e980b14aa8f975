"""`gate webhooks …`: results that no attempt could deliver, and another try for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli.command import Command, LimitOption, Listing, cut_at, takes
from gate.cli.options import all_mistakes
from gate.cli.output import counted, json_id, say, shown_id
from gate.cli.time_format import shown_moment
from gate.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from gate.cli.store_connection import StoreConnection
    from gate.core.model import AppFacts
    from gate.store.webhook_queue import DeadWebhook

webhooks = typer.Typer(
    help="Webhooks: dead letters, and another try for them.", no_args_is_help=True, add_completion=False
)

# More than a person looks through; `replay --all` needs no list.
DEFAULT_ROWS = 1_000
_KINDS = {"0": "deactivation", "1": "reactivation"}


@webhooks.command("list")
@takes("app", "redis")
def list_(command: Command, limit: LimitOption = DEFAULT_ROWS) -> None:
    """List the App's dead letters, the latest first."""

    async def work(connection: StoreConnection, app: AppFacts) -> tuple[AppFacts, int, list[DeadWebhook]]:
        queue = connection.store.webhooks
        return app, await queue.waiting(), await queue.dead(app.key, limit + 1)

    app, waiting, found = command.ask_app(work)
    url = app.webhook_url
    dead, is_cut = cut_at(limit, found)
    if not command.as_json:
        say(
            f"the App's webhook is {url}"
            if url
            else f"the App has no webhook: gate app set {app.key} --webhook-url URL"
        )
        say(f"{counted(waiting, 'result')} of all Apps not delivered yet")
    command.print_rows(_DEAD, dead, {"webhook_url": url or None, "waiting": waiting}, **is_cut)


@webhooks.command()
@takes("app", "redis", audited=True)
def replay(
    command: Command,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `gate webhooks list` shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the App's.")] = False,
) -> None:
    """Try to deliver dead letters again. Exits 1 if one of them is not there (any more)."""
    with all_mistakes() as mistakes:
        if bool(ids) is everything:
            mistakes.add(InvalidInput("ID", "say which, or --all"))
        why, by = command.why_and_by(mistakes)
    wanted = None if everything else list(dict.fromkeys(ids or ()))

    async def work(connection: StoreConnection, app: AppFacts) -> int:
        from gate.store.dead_letters import act_on_letters  # late, as in `open_store`
        from gate.store.writer import Attribution

        return await act_on_letters(connection.store, app.key, "webhooks-replayed", Attribution(by, why), wanted)

    replayed = command.ask_app(work)
    command.print({"replayed": replayed}, f"{counted(replayed, 'result')} on the way again")
    # After the document: programs get the number, and the status says that it is too small.
    if wanted is not None and replayed < len(wanted):
        missing = counted(len(wanted) - replayed, "dead letter")
        raise NotFound(f"{missing} of those named not there: see gate webhooks list")


def _document(dead: DeadWebhook) -> dict[str, object]:
    return {
        "id": dead.id,
        "user": json_id(dead.hook.user),
        "result": _KINDS[dead.hook.kind],
        "operation": dead.hook.operation,
        "at": dead.hook.at_ms,
        "attempts": dead.attempts,
        "given_up_at": dead.gave_up_ms,
        "problem": dead.problem,
    }


_DEAD: Listing[DeadWebhook] = Listing(
    "dead",
    _document,
    ("id", "user", "result", "operation", "attempts", "given up", "problem"),
    lambda one: (
        one.id, shown_id(one.hook.user), _KINDS[one.hook.kind], one.hook.operation, str(one.attempts),
        shown_moment(one.gave_up_ms), one.problem,
    ),
    "there are no dead letters",
)  # fmt: skip
