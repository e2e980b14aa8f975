"""`gate webhooks …`: results that no attempt could deliver, and another try for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli.command import Command, takes
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id
from gate.cli.time_format import shown_moment
from gate.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from gate.cli.store_connection import StoreConnection
    from gate.core.model import AppFacts
    from gate.store.webhook_queue import DeadWebhook

webhooks = typer.Typer(
    help="Webhooks: dead letters, and another try for them.", no_args_is_help=True, add_completion=False
)

_KINDS = {"0": "deactivation", "1": "reactivation"}


@webhooks.command("list")
@takes("app", "redis")
def list_(command: Command) -> None:
    """List the App's dead letters, the latest first."""

    async def work(connection: StoreConnection, app: AppFacts) -> tuple[AppFacts, int, list[DeadWebhook]]:
        return app, await connection.store.webhooks.waiting(), await connection.store.webhooks.dead(app.key)

    app, waiting, dead = command.ask_app(work)
    url = app.webhook_url
    if command.as_json:
        print_json({"webhook_url": url or None, "waiting": waiting, "dead": [_document(one) for one in dead]})
        return
    say(f"the App's webhook is {url}" if url else f"the App has no webhook: gate app set {app.key} --webhook-url URL")
    say(f"{counted(waiting, 'result')} of all Apps not delivered yet")
    if dead:
        print_table(
            ("id", "user", "result", "operation", "attempts", "given up", "problem"),
            (
                (one.id, shown_id(one.hook.user), _KINDS[one.hook.kind], one.hook.operation, str(one.attempts),
                 shown_moment(one.gave_up_ms), one.problem)
                for one in dead
            ),
        )  # fmt: skip
    else:
        say("there are no dead letters")


@webhooks.command()
@takes("app", "redis")
def replay(
    command: Command,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `gate webhooks list` shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the App's.")] = False,
) -> None:
    """Try to deliver dead letters again. Exits 1 if one of them is not there (any more)."""
    if bool(ids) is everything:
        raise InvalidInput("ID", "say which, or --all")

    async def work(connection: StoreConnection, app: AppFacts) -> tuple[int, int]:
        own = {one.id for one in await connection.store.webhooks.dead(app.key)}
        wanted = sorted(own) if everything else list(dict.fromkeys(ids or ()))
        # Another App's dead letters are not this App's to send again.
        return len(wanted), await connection.store.webhooks.replay([one for one in wanted if everything or one in own])

    wanted, replayed = command.ask_app(work)
    command.print({"replayed": replayed}, f"{counted(replayed, 'result')} on the way again")
    if replayed < wanted:
        raise NotFound(f"{counted(wanted - replayed, 'dead letter')} of those named not there: see gate webhooks list")


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
