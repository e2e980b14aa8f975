"""`gate app key …`: credentials of an App with a name and scopes, for programs that do not need the App's own secret.

A secret is printed once, when it is made: only a digest is stored. A rotation has two steps, as that of the App's secret:
`rotate` adds a new secret next to the previous one, `rotate --finish` ends the previous one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from gate.cli.command import Command, Listing, takes
from gate.cli.options import Mistakes, all_mistakes
from gate.cli.output import counted
from gate.cli.remote import Remote, settled_of
from gate.cli.store_connection import Settled, StoreConnection
from gate.cli.time_format import shown_moment
from gate.clock import wall_ms
from gate.core import ids
from gate.core.app_keys import (
    key_name,
    key_scopes,
    named_key,
    shown_key,
    with_finished_rotation,
    with_key,
    with_rotated_key,
    without_key,
)
from gate.core.app_secrets import app_secret
from gate.core.model import AppFacts
from gate.core.scopes import SCOPES
from gate.errors import InvalidInput, Refused
from gate.store.new_credentials import new_app_secret

app = typer.Typer(help="Keys of an App, each with scopes.", no_args_is_help=True, add_completion=False)

# As `shown_key` has them.
_Keys = list[dict[str, Any]]

_App = Annotated[str, typer.Argument(metavar="APP", help="The App's key.")]
_Named = Annotated[str | None, typer.Argument(metavar="NAME", show_default=False, help="The name of the key.")]
_Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="The same as an option.")]
_Scope = Annotated[
    list[str],
    typer.Option("--scope", metavar="SCOPES", help=f"What it opens, with commas between: {', '.join(SCOPES)}."),
]
_Secret = Annotated[
    str | None,
    typer.Option("--secret", envvar="GATE_KEY_SECRET", metavar="S", help="Its secret; default: a random one."),
]


@app.command()
@takes("redis", audited=True, afar=True)
def add(
    command: Command, key: _App, scope: _Scope, named: _Named = None, name: _Name = None, secret: _Secret = None
) -> None:
    """Add a key; it can be used when this returns. The secret is printed once."""
    with all_mistakes() as mistakes:
        of_app, its_name = _whose(key, named, name, mistakes)
        # `--scope check,presence` and `--scope check --scope presence` are the same.
        named_scopes = [one.strip() for some in scope for one in some.split(",")]
        # All scopes in the place of a mistake are never stored: `all_mistakes` raises before the write.
        scopes = mistakes.take(lambda: key_scopes(named_scopes), SCOPES)
        fresh = mistakes.take(lambda: app_secret(secret if secret is not None else new_app_secret()), "")
        why, by = command.why_and_by(mistakes)
    # Outside of the change, which may run several times.
    now_ms = wall_ms()
    # The secret is made here and sent, so that both ways print one that this machine has.
    body = {"name": its_name, "scopes": list(scopes), "secret": fresh, "reason": why}
    _, settled = _update(
        command,
        of_app,
        lambda facts: with_key(facts, its_name, scopes, fresh, now_ms),
        (why, by),
        lambda remote: remote.write("POST", _keys_path(of_app), body),
    )
    document: dict[str, object] = {"app_key": of_app, "name": its_name, "scopes": list(scopes), "secret": fresh}
    command.print(
        {**document, **settled.fields},
        f"added the key {its_name} ({', '.join(scopes)}) to App {of_app}: {settled.shown}",
        f"its secret, shown only now: {fresh}",
    )


@app.command("list")
@takes("redis", afar=True)
def list_(command: Command, key: _App) -> None:
    """List the keys of an App."""
    wanted = ids.app_key(key)

    async def work(connection: StoreConnection) -> _Keys:
        return [shown_key(one) for one in (await connection.app(wanted)).keys]

    listing: Listing[dict[str, Any]] = Listing(
        "keys",
        dict,
        ("name", "scopes", "secrets", "created"),
        lambda one: (
            one["name"], ", ".join(one["scopes"]), str(one["secret_count"]), shown_moment(one["created_at_ms"]),
        ),
        f"there are no keys yet: gate app key add {wanted} NAME --scope check",
    )  # fmt: skip
    command.print_rows(listing, command.ask(work, lambda remote: _keys_afar(remote, wanted)), {"app_key": wanted})


@app.command()
@takes("redis", audited=True, afar=True)
def rotate(
    command: Command,
    key: _App,
    named: _Named = None,
    name: _Name = None,
    secret: _Secret = None,
    finish: Annotated[bool, typer.Option("--finish", help="End the previous secret; the newest stays.")] = False,
) -> None:
    """Give a key a new secret next to the previous one, or with --finish end the previous one."""
    with all_mistakes() as mistakes:
        of_app, its_name = _whose(key, named, name, mistakes)
        fresh = mistakes.take(lambda: app_secret(secret if secret is not None else new_app_secret()), "")
        why, by = command.why_and_by(mistakes)

    def changed(facts: AppFacts) -> AppFacts:
        if finish:
            return with_finished_rotation(facts, its_name)
        # Here in the command's own words; the core refuses it too, and knows no `--finish`.
        if len(named_key(facts, its_name).digests) > 1:
            raise Refused("a rotation is in progress: end the previous secret first, with --finish")
        return with_rotated_key(facts, its_name, fresh)

    def afar(remote: Remote) -> Settled:
        # The endpoint refuses both at once: an end of the rotation takes no secret.
        body = {"finish": True} if finish else {"secret": fresh}
        return remote.write("POST", f"{_keys_path(of_app)}/{its_name}/rotate", body | {"reason": why})

    keys, settled = _update(command, of_app, changed, (why, by), afar)
    document: dict[str, object] = {"app_key": of_app, "name": its_name}
    document |= {} if finish else {"secret": fresh}
    document["secret_count"] = next((one["secret_count"] for one in keys if one["name"] == its_name), 0)
    if finish:
        lines = [f"the key {its_name} accepts its newest secret only: {settled.shown}"]
    else:
        lines = [
            f"the key {its_name} accepts both secrets: {settled.shown}",
            f"the new one, shown only now: {fresh}",
            f"when every program has it: gate app key rotate {of_app} {its_name} --finish",
        ]
    command.print({**document, **settled.fields}, *lines)


@app.command()
@takes("redis", audited=True, afar=True)
def remove(command: Command, key: _App, named: _Named = None, name: _Name = None) -> None:
    """Remove a key. Its open connections are refused with their next command."""
    with all_mistakes() as mistakes:
        of_app, its_name = _whose(key, named, name, mistakes)
        why, by = command.why_and_by(mistakes)
    keys, settled = _update(
        command,
        of_app,
        lambda facts: without_key(facts, its_name),
        (why, by),
        lambda remote: settled_of(
            remote.send("DELETE", f"{_keys_path(of_app)}/{its_name}?{urlencode({'reason': why})}")
        ),
    )
    left = counted(len(keys), "key")
    command.print(
        {"app_key": of_app, "name": its_name, **settled.fields},
        f"removed the key {its_name} of App {of_app}, which has {left} now: {settled.shown}",
    )


def _whose(key: str, named: str | None, name: str | None, mistakes: Mistakes) -> tuple[str, str]:
    """The App's key, and the name of the key, which is an argument or an option."""
    of_app = mistakes.take(lambda: ids.app_key(key), "")
    # Exactly one of the two.
    if (named is None) is (name is None):
        mistakes.add(InvalidInput("NAME", "say one, as an argument or with --name"))
        return of_app, ""
    return of_app, mistakes.take(lambda: key_name(named or name or ""), "")


def _update(
    command: Command,
    of_app: str,
    mutate: Callable[[AppFacts], AppFacts],
    because: tuple[str, str],
    afar: Callable[[Remote], Settled],
) -> tuple[_Keys, Settled]:
    """Change the App, and wait until the change is effective: the keys that it has then."""

    async def work(connection: StoreConnection) -> tuple[_Keys, Settled]:
        facts, written = await connection.store.apps.update(of_app, mutate, wall_ms(), *because)
        return [shown_key(one) for one in facts.keys], await connection.settle(written)

    def work_afar(remote: Remote) -> tuple[_Keys, Settled]:
        settled = afar(remote)
        return _keys_afar(remote, of_app), settled

    return command.ask(work, work_afar)


def _keys_path(of_app: str) -> str:
    return f"/v1/apps/{of_app}/keys"


def _keys_afar(remote: Remote, of_app: str) -> _Keys:
    keys: _Keys = remote.get(_keys_path(of_app))["keys"]
    return keys
