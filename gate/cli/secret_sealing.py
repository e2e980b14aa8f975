"""`gate secrets …`: App secrets and Token keys that are sealed in Redis, its backups and the Replica.

The key file is that of `GATE_SECRET_KEY_FILE`, or of the service that runs in the data directory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import typer

from gate.cli.command import Command, takes
from gate.cli.options import all_mistakes
from gate.cli.store_connection import StoreConnection
from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.core.shown import counted
from gate.errors import Refused
from gate.sealing import keys_in_use, opened, sealed, sealing_of

secrets = typer.Typer(help="App secrets, sealed where they are stored.", no_args_is_help=True, add_completion=False)

PLAIN = "not sealed"
_NO_KEYS = "no key file is known here: set GATE_SECRET_KEY_FILE"


@secrets.command()
@takes("redis")
def status(command: Command) -> None:
    """Count the Apps whose secrets are sealed, by key. Exits 1 if a key is given and some are not sealed with it."""

    async def work(connection: StoreConnection) -> list[str]:
        return [sealing_of(facts) or PLAIN for facts in await connection.store.apps.stored()]

    # In this order: connecting reads the key file, and keys are known only then.
    found, keys = Counter(command.ask(work)), keys_in_use()
    current = None if keys is None else keys.current
    shown = {name: count for name, count in found.items() if name != PLAIN}
    lines = [f"sealed with {name}: {counted(count, 'App')}" for name, count in sorted(shown.items())]
    lines += [f"{PLAIN}: {counted(found[PLAIN], 'App')}"] if found[PLAIN] else []
    lines.append(f"the current key is {current}" if current else f"{_NO_KEYS}, if any is in use")
    command.print({"sealed": shown, "unsealed": found[PLAIN], "current_key": current}, *lines)
    # For a script that waits until a new key has replaced the old one everywhere.
    if current is not None and set(found) - {current}:
        raise typer.Exit(1)


@secrets.command()
@takes("redis", audited=True)
def seal(command: Command) -> None:
    """Seal the secrets of all Apps with the current key; those of an older key are sealed again. Safe to repeat."""
    # Opened first, by whichever key of the file fits: so the same command seals again with a newer key.
    _store_again(command, lambda facts: sealed(opened(facts), facts), "sealed")


@secrets.command()
@takes("redis", audited=True)
def rotate(command: Command) -> None:
    """The same, after a new key was put in front of the key file of every node and each was started again."""
    _store_again(command, lambda facts: sealed(opened(facts), facts), "sealed")


@secrets.command()
@takes("redis", audited=True)
def unseal(command: Command) -> None:
    """Store the secrets of all Apps in plain text. Then start every node without --secret-key-file."""
    _store_again(command, opened, "unsealed")


def _store_again(command: Command, convert: Callable[[AppFacts], AppFacts], done: str) -> None:
    with all_mistakes() as mistakes:
        why, by = command.why_and_by(mistakes)

    async def work(connection: StoreConnection) -> int:
        if keys_in_use() is None:
            raise Refused(_NO_KEYS)
        changed = 0
        # One App at a time: a run that breaks off leaves each either as it was or done, and is repeated.
        for facts in await connection.store.apps.stored():
            written = await connection.store.apps.store_again(facts.key, convert, wall_ms(), why, by)
            # None: it has that form already, so a repeated run writes and waits for nothing.
            if written is not None:
                await connection.settle(written)
                changed += 1
        return changed

    changed = command.ask(work)
    command.print({"apps": changed}, f"{done} the secrets of {counted(changed, 'App')}")
