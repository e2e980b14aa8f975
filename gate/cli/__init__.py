"""The `gate` command: one file a noun, imported only when that noun is asked for, so that `gate --help` is quick.

A noun's file offers a function (one command) or a `typer.Typer` (a noun with verbs); a row in `COMMANDS` names it.
Commands raise `GateError` and print nothing of failures themselves: `gate.cli.exit_status` turns each into one line and an exit
status.

Called by the `gate` program and by `python -m gate`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
import typer.core
from typer.core import TyperGroup
from typer.main import get_command

from gate import __version__
from gate.cli import exit_status
from gate.cli.remote import ELSEWHERE, Elsewhere, node_only
from gate.cli.typer_changes import lay_out_plainly, read_plainly
from gate.errors import InvalidConfig, InvalidInput

lay_out_plainly()
read_plainly()

# Set by the shell's completion when it asks which words may follow.
COMPLETION_REQUEST = "_GATE_COMPLETE"


# Frequent variables: for these the table of all options is not imported.
USUAL_VARIABLES = {"GATE_DATA", "GATE_APP", "GATE_REDIS", "GATE_HTTP", "GATE_RESP", "GATE_URL", "GATE_OPERATOR"}


class Row(NamedTuple):
    """One command: the module that holds it, its name there, and what `gate --help` says of it."""

    module: str
    attribute: str
    summary: str


COMMANDS: dict[str, Row] = {
    "serve": Row("gate.cli.serve", "serve", "Run the service: the one command that a node needs."),
    "status": Row("gate.cli.nodes", "status", "This node and all others: version, Redis, roles, lag, checks, online."),
    "top": Row("gate.cli.top", "top", "What happens now, every second: online, checks, denials, nodes, Bans."),
    "nodes": Row("gate.cli.nodes", "nodes", "All nodes, as each sees itself."),
    "config": Row("gate.cli.serve", "config", "What each option is in force as, and from where."),
    "check": Row("gate.cli.check", "check", "May A message B? Exits 0 for yes, 1 for no."),
    "explain": Row("gate.cli.check", "explain", "Every rule with the facts it looked at."),
    "ban": Row("gate.cli.penalties", "ban", "Ban Users until a moment."),
    "unban": Row("gate.cli.penalties", "unban", "Lift the Bans of Users."),
    "bans": Row("gate.cli.penalties", "bans", "List who is banned."),
    "mute": Row("gate.cli.penalties", "mute", "Mute Users until a moment."),
    "unmute": Row("gate.cli.penalties", "unmute", "Lift the Mutes of Users."),
    "mutes": Row("gate.cli.penalties", "mutes", "List who is muted."),
    "blacklist": Row("gate.cli.lists", "blacklist", "Whose messages an owner refuses."),
    "whitelist": Row("gate.cli.lists", "whitelist", "Whose messages alone an owner accepts, and the switch."),
    "user": Row("gate.cli.users", "user", "Users: registration, profiles, Tokens, deletion."),
    "app": Row("gate.cli.apps", "app", "Apps: tenants, their secrets and settings."),
    "online": Row("gate.cli.online", "online", "Who is online, and how many. Exits 0 if all Users named are."),
    "sessions": Row("gate.cli.sessions", "sessions", "A User's Sessions: on what, and through which Gateway."),
    "kick": Row("gate.cli.sessions", "kick", "Close a User's Sessions."),
    "gateways": Row("gate.cli.sessions", "gateways", "Who holds client connections: leases, epochs, Sessions."),
    "events": Row("gate.cli.events", "events", "Who comes, goes and is kicked, as it happens."),
    "connect": Row("gate.cli.connect", "connect", "Be online as a User, over the WebSocket, and show what comes."),
    "shadow": Row("gate.cli.shadow", "shadow", "Shadow mode: what an App would have been denied."),
    "audit": Row("gate.cli.audit", "audit", "Who did what to whom, when and why."),
    "webhooks": Row("gate.cli.webhooks", "webhooks", "Results that could not be delivered, and another try for them."),
    "operator": Row("gate.cli.operators", "operator", "Operators: who may administer, and as what."),
    "import": Row("gate.cli.importing", "import_facts", "Load facts from NDJSON or CSV files."),
    "export": Row("gate.cli.exporting", "export_facts", "Write an App's facts as NDJSON."),
    "secrets": Row("gate.cli.secret_sealing", "secrets", "App secrets, sealed where they are stored."),
    "backup": Row("gate.cli.backup", "backup", "Write everything that the deployment keeps in Redis to a file."),
    "restore": Row("gate.cli.backup", "restore", "Write a backup into an empty Redis."),
    "replica": Row("gate.cli.replica", "replica", "This node's Replica: status, verify, rebuild."),
    "doctor": Row("gate.cli.doctor", "doctor", "Look for what is wrong here, and say what to do."),
}


class NounGroup(TyperGroup):
    """Finds commands in `COMMANDS` and imports only the one that is run; the help page needs no import at all."""

    _is_listing = False

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """The names of commands for completion, from the table alone."""
        with self._listing():
            return super().shell_complete(ctx, incomplete)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolve the command; for an unknown one, fail with the similar names."""
        # Options before the noun are Typer's to name.
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            from difflib import get_close_matches  # late: for this one mistake

            near = get_close_matches(args[0], self.list_commands(ctx), n=3)
            ctx.fail(f"no such command {args[0]!r}" + (f" (did you mean {', '.join(near)}?)" if near else ""))
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands, in the table's order."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return super().get_command(ctx, cmd_name)
        return _summary_only(cmd_name, row) if self._is_listing else _imported(cmd_name, row)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help page, from the table alone."""
        with self._listing():
            super().format_help(ctx, formatter)

    @contextmanager
    def _listing(self) -> Iterator[None]:
        self._is_listing = True
        try:
            yield
        finally:
            self._is_listing = False


app = typer.Typer(
    name="gate",
    cls=NounGroup,
    help="May A message B? Runs the service, and asks and administers it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"gate {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", envvar="GATE_URL", metavar="URL", help="Act from elsewhere, over HTTP: https://HOST[:PORT]."
        ),
    ] = None,
    operator: Annotated[
        str | None,
        typer.Option(
            "--operator",
            envvar="GATE_OPERATOR",
            metavar="NAME",
            help="With --url: the operator; the password is asked for, or in GATE_OPERATOR_PASSWORD[_FILE].",
        ),
    ] = None,
    of_app: Annotated[str | None, typer.Option("--app", metavar="KEY", help="With --url: the App.")] = None,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="With --url: certificates to trust, in PEM.", readable=False),
    ] = None,
    insecure_http: Annotated[
        bool, typer.Option("--insecure-http", help="With --url: send the password unencrypted to another machine.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """May A message B? Runs the service, and asks and administers it."""
    if url is None:
        # By where the value came from: variables may be set for other calls, an option is meant for this one.
        for name in ("operator", "of_app", "ca", "insecure_http"):
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                raise InvalidInput(
                    f"--{name.removeprefix('of_').replace('_', '-')}", "before the command goes with --url"
                )
        return
    ELSEWHERE.set(Elsewhere(url, operator, of_app, ca, insecure_http).checked())
    if context.invoked_subcommand == "serve":  # the one command without the shared options, which look at this too
        raise node_only()


def main() -> None:
    """Run the command line and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail
    # The one way out, so that every failure has its line and its status.
    sys.exit(exit_status.run(_run))


def _run() -> int:
    command = get_command(app)
    if COMPLETION_REQUEST in os.environ:  # the shell asks what may follow; this exits
        command.main(prog_name="gate")
    _check_environment()
    try:
        # Not `command.main`: that ends with status 1, which means "denied", where a pipe was closed.
        with command.make_context("gate", sys.argv[1:], help_option_names=["-h", "--help"]) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return 0


def _check_environment() -> None:
    """Refuse a `GATE_*` variable that is empty or unknown, unless help is all that is wanted."""
    odd = [
        name for name in os.environ if name.startswith("GATE_") and not (name in USUAL_VARIABLES and os.environ[name])
    ]
    if not odd or {"-h", "--help", "--version"} & set(sys.argv[1:]):
        return
    from gate.config import environment_problems  # late: the usual ones need no table

    if problems := environment_problems(os.environ):
        raise InvalidConfig(problems)


def _imported(name: str, row: Row) -> Any:
    found = getattr(importlib.import_module(row.module), row.attribute)
    if isinstance(found, typer.Typer):
        command = get_command(found)
        for verb in getattr(command, "commands", {}).values():
            verb.short_help = _first_sentence(verb.help or "")  # Typer cuts a summary at 45 characters
    else:
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name)(found)
        command = get_command(alone)
    command.name = name
    return command


def _first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split()).split(". ")[0].removesuffix(".") + "."


def _summary_only(name: str, row: Row) -> Any:
    def stub() -> None: ...

    alone = typer.Typer(add_completion=False)
    alone.command(name, short_help=row.summary)(stub)
    return get_command(alone)
