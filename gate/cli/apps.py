"""`gate app …`: tenants, their secrets and settings.

A secret is printed once, when it is made; `--show-secret` prints it again. A rotation has two steps, so that no request
fails between them: `rotate-secret` adds a new secret and keeps the old one; `rotate-secret --drop-old` removes the old one
once every app server uses the new one. `create` returns when the App can be used on every live node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gate.cli import app_keys
from gate.cli.app_settings import set_
from gate.cli.command import Command, Listing, takes
from gate.cli.options import CREDENTIALS_FILE, all_mistakes
from gate.cli.output import counted, print_json, print_table, warn
from gate.cli.store_connection import Settled, StoreConnection
from gate.cli.time_format import shown_moment
from gate.clock import wall_ms
from gate.core import ids
from gate.core.app_secrets import (
    MIN_SECRET_CHARS,
    MIN_SHORT_SECRET_CHARS,
    app_secret,
    with_new_secret,
    without_old_secret,
)
from gate.core.app_settings import MAX_NAME_CHARS, app_document
from gate.core.model import AppFacts, Environment
from gate.errors import AppUnknown, CannotStart, InvalidInput, Refused
from gate.sealing import opened
from gate.store.new_credentials import new_app_key, new_app_secret

SHORT_SECRET = "--short-secret"

app = typer.Typer(help="Apps: tenants, their secrets and settings.", no_args_is_help=True, add_completion=False)

_Key = Annotated[str, typer.Argument(metavar="KEY", help="The App's key.")]
_ShortSecret = Annotated[
    bool,
    typer.Option(
        SHORT_SECRET, help=f"Allow a secret of {MIN_SHORT_SECRET_CHARS} to {MIN_SECRET_CHARS - 1} characters."
    ),
]


@app.command()
@takes("redis", audited=True)
def create(
    command: Command,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")],
    key: Annotated[str | None, typer.Option("--key", metavar="K", help="Its key; default: a random one.")] = None,
    secret: Annotated[
        str | None,
        typer.Option("--secret", envvar="GATE_APP_SECRET", metavar="S", help="Its secret; default: a random one."),
    ] = None,
    environment: Annotated[Environment, typer.Option("--environment", help="What it is for.")] = "development",
    short_secret: _ShortSecret = False,
) -> None:
    """Create an App; it can be used when this returns. The secret is printed once."""
    with all_mistakes() as mistakes:
        facts = AppFacts(
            key=mistakes.take(lambda: ids.app_key(key) if key is not None else new_app_key(), ""),
            name=mistakes.take(lambda: _name(name), ""),
            # Taken like the rest, so that a short secret and a wrong key are named together.
            secrets=(mistakes.take(lambda: _secret(secret, short_secret), ""),),
            environment=environment,
            created_at_ms=wall_ms(),
        )
        why, by = command.why_and_by(mistakes)

    async def work(connection: StoreConnection) -> Settled:
        return await connection.write(connection.store.apps.create(facts, facts.created_at_ms, why, by))

    settled = command.ask(work)
    made = {"app_key": facts.key, "app_secret": facts.secrets[0], "name": name, "environment": environment}
    command.print(
        made | settled.fields,
        f"created App {facts.key} ({environment}): {settled.shown}",
        f"its secret, shown only now: {facts.secrets[0]}",
    )


@app.command("list")
@takes("redis", afar=True)
def list_(command: Command) -> None:
    """List the Apps."""

    async def work(connection: StoreConnection) -> list[dict[str, Any]]:
        # As `/v1/apps` has them: both ways print the same order.
        found = sorted(await connection.store.apps.list(), key=lambda one: one.key)
        return [_document(one, show_secret=False) for one in found]

    listing: Listing[dict[str, Any]] = Listing(
        "apps",
        dict,
        ("key", "name", "environment", "created"),
        lambda one: (one["key"], one["name"], one["environment"], shown_moment(one["created_at_ms"])),
        "there are no Apps yet: gate app create NAME",
    )
    command.print_rows(listing, command.ask(work, lambda remote: remote.get("/v1/apps")["apps"]))


@app.command()
@takes("redis", afar=True)
def show(
    command: Command,
    key: _Key,
    show_secret: Annotated[bool, typer.Option("--show-secret", help="Print the secrets too.")] = False,
) -> None:
    """Show an App's settings."""
    wanted = ids.app_key(key)
    # Before anything is asked: a secret that is in use never travels for being shown.
    if show_secret and command.is_afar:
        raise InvalidInput("--show-secret", "works on a node only: no answer over HTTP holds a secret that is in use")

    async def work(connection: StoreConnection) -> dict[str, Any]:
        return _document(await connection.app(wanted), show_secret=show_secret)

    document = command.ask(work, lambda remote: _in_order(remote.get(f"/v1/apps/{wanted}")))
    if command.as_json:
        print_json(document)
    else:
        print_table(("setting", "value"), ((name, _shown_setting(name, value)) for name, value in document.items()))


app.command("set")(set_)
app.add_typer(app_keys.app, name="key")


@app.command("rotate-secret")
@takes("redis", audited=True)
def rotate_secret(
    command: Command,
    key: _Key,
    secret: Annotated[
        str | None,
        typer.Option("--secret", envvar="GATE_APP_SECRET", metavar="S", help="The new secret; default: a random one."),
    ] = None,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="End the old secret; the newest stays.")] = False,
    keep_tokens: Annotated[
        bool, typer.Option("--keep-tokens", help="With --drop-old: Tokens minted under it live on.")
    ] = False,
    short_secret: _ShortSecret = False,
) -> None:
    """Give an App a new secret next to the old one, or with --drop-old end the old one."""
    with all_mistakes() as mistakes:
        wanted = mistakes.take(lambda: ids.app_key(key), "")
        # Made in any case and unused with --drop-old: the mistakes of its options are named all the same.
        fresh = mistakes.take(lambda: _secret(secret, short_secret), "")
        why, by = command.why_and_by(mistakes)
        if keep_tokens and not drop_old:
            mistakes.add(InvalidInput("--keep-tokens", "goes with --drop-old"))

    def changed(facts: AppFacts) -> AppFacts:
        if drop_old:
            return without_old_secret(facts, keep_tokens=keep_tokens)
        # A third secret would end the oldest at once, which app servers may still use.
        if len(facts.secrets) > 1:
            raise Refused("a rotation is under way: end the old secret first, with --drop-old")
        return with_new_secret(facts, fresh)

    async def work(connection: StoreConnection) -> Settled:
        _, written = await connection.store.apps.update(wanted, changed, wall_ms(), why, by)
        return await connection.settle(written)

    settled = command.ask(work)
    credentials = command.data / CREDENTIALS_FILE
    # After the write: a file that holds a secret which Redis never got would lock the demo and scripts out.
    is_noted = not drop_old and _note_secret(credentials, wanted, fresh)
    lines = [
        f"App {wanted} accepts both secrets: {settled.shown}",
        f"the new one, shown only now: {fresh}",
        *([f"{credentials} holds it too"] if is_noted else []),
        f"when every app server has it: gate app rotate-secret {wanted} --drop-old",
    ]
    if drop_old:
        ending = "live on" if keep_tokens else "are refused from now on"
        lines = [f"App {wanted} accepts its newest secret only: {settled.shown}"]
        lines.append(f"Tokens minted under dropped secrets {ending}")
    shown = {} if drop_old else {"app_secret": fresh}
    command.print({"app_key": wanted, **shown, **settled.fields}, *lines)


@app.command()
@takes("redis", audited=True)
def remove(
    command: Command,
    key: _Key,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove an App and every fact of its Users. There is no way back but an export."""
    with all_mistakes() as mistakes:
        wanted = mistakes.take(lambda: ids.app_key(key), "")
        why, by = command.why_and_by(mistakes)
    if not yes:
        # On stderr: stdout is the result's, also where a person answers.
        typer.confirm(f"Remove App {wanted} and every fact of its Users?", abort=True, err=True)

    async def work(connection: StoreConnection) -> Settled:
        try:
            await connection.app(wanted)
        except AppUnknown:  # but facts may be left of it, where a removal broke off
            await connection.store.apps.finish_removal(wanted)
            raise
        return await connection.write(connection.store.apps.remove(wanted, wall_ms(), why, by))

    command.print_settled(f"removed App {wanted}", {"app_key": wanted}, command.ask(work))


def _note_secret(path: Path, key: str, secret: str) -> bool:
    """Write the secret of this node's first App to its file. The rotation is done already, so a failure is only a warning."""
    # Late: `gate app list` has no use for it.
    from gate.service.credentials import note_new_secret

    try:
        return note_new_secret(path, key, secret)
    except (OSError, CannotStart) as fault:
        warn(f"{path} can't be updated, and holds the old secret: {fault}")
        return False


def _name(name: str) -> str:
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise InvalidInput("NAME", f"must be 1 to {MAX_NAME_CHARS} printable characters")
    return name


def _secret(given: str | None, is_short_allowed: bool) -> str:
    """The secret that was brought along, or a new one."""
    return new_app_secret() if given is None else app_secret(given, allows_short=is_short_allowed, flag=SHORT_SECRET)


def _document(facts: AppFacts, *, show_secret: bool) -> dict[str, Any]:
    """All settings, and on request the secrets; never the Token keys, which allow minting Tokens."""
    document = app_document(facts)
    if show_secret:
        # In its place are the secrets themselves: the number would be the same thing twice.
        del document["secret_count"]
        document["secrets"] = list(opened(facts).secrets)
    return document


def _in_order(shown: dict[str, Any]) -> dict[str, Any]:
    """Settings from elsewhere in the order of `_document`, and behind them those that this version does not know."""
    usual = app_document(AppFacts(key="", secrets=()))
    # A node of another version may have settings that this one does not know: shown last, not dropped.
    return {name: shown[name] for name in usual if name in shown} | shown


def _shown_item(one: object) -> str:
    # A key of the App: its name and scopes.
    return f"{one['name']} ({' '.join(one['scopes'])})" if isinstance(one, dict) else str(one)


def _shown_setting(name: str, value: object) -> str:
    if name.endswith("_at_ms"):
        return shown_moment(int(str(value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_shown_item(one) for one in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{group} {rate}/s" for group, rate in sorted(value.items())) or "none"
    if value is None:
        return "default"
    return counted(value, "secret") if name == "secret_count" and isinstance(value, int) else str(value)
