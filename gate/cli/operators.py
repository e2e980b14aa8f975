"""`gate operator …`: the accounts of the people who run the deployment, for `/v1/apps` and the console.

These commands write to Redis directly: a user who may run them on the node needs no account. A password is never an argument,
since every user of the machine can read arguments: it is generated and printed once, or read from stdin.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gate.cli.command import Command, takes
from gate.cli.options import CREDENTIALS_FILE, all_mistakes
from gate.cli.output import print_json, print_table, warn
from gate.cli.store_connection import StoreConnection
from gate.cli.time_format import shown_moment
from gate.clock import wall_ms
from gate.core.file_text import UTF8_MARK
from gate.core.operators import MAX_PASSWORD_BYTES, Operator, OperatorRole, new_password, operator_name
from gate.errors import CannotStart, InvalidInput
from gate.store.new_credentials import new_operator_password
from gate.store.writer import Attribution

operator = typer.Typer(help="Operators: who may administer, and as what.", no_args_is_help=True, add_completion=False)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The operator's name.")]
_FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from stdin; default: a random one, printed once.")
]


@operator.command()
@takes("redis", audited=True)
def add(
    command: Command,
    name: _Name,
    role: Annotated[OperatorRole, typer.Option("--role", help="What the account may do.")] = "viewer",
    password_stdin: _FromStdin = False,
) -> None:
    """Make an account."""
    wanted, password, because = _account(command, name, password_stdin)
    made = Operator(name=wanted, role=role, password_hash=_hashed(password), created_at_ms=wall_ms())

    async def work(connection: StoreConnection) -> None:
        await connection.store.operators.add(made, because)

    command.ask(work)
    _print_changed(
        command, f"added operator {wanted}, {role}", {"operator": wanted, "role": role}, password_stdin, password
    )


@operator.command("list")
@takes("redis")
def list_(command: Command) -> None:
    """List the accounts."""

    async def work(connection: StoreConnection) -> list[Operator]:
        return await connection.store.operators.list()

    found = command.ask(work)
    if command.as_json:
        members = [{"operator": one.name, "role": one.role, "created_at_ms": one.created_at_ms} for one in found]
        print_json({"operators": members})
    else:
        rows = ((one.name, one.role, shown_moment(one.created_at_ms)) for one in found)
        print_table(("operator", "role", "created"), rows)


@operator.command()
@takes("redis", audited=True)
def passwd(
    command: Command,
    name: _Name,
    password_stdin: _FromStdin = False,
) -> None:
    """Give an account a new password; the old one ends at once."""
    wanted, password, because = _account(command, name, password_stdin)
    password_hash = _hashed(password)
    _change(
        command,
        wanted,
        lambda one: msgspec.structs.replace(one, password_hash=password_hash),
        because,
    )
    _forget_password(command.data, wanted)
    _print_changed(command, f"changed the password of {wanted}", {"operator": wanted}, password_stdin, password)


@operator.command("role")
@takes("redis", audited=True)
def role_(
    command: Command,
    name: _Name,
    role: Annotated[OperatorRole, typer.Argument(metavar="viewer|operator|admin", help="What it may do from now on.")],
) -> None:
    """Change what an account may do."""
    wanted, because = _named(command, name)
    _change(command, wanted, lambda one: msgspec.structs.replace(one, role=role), because)
    command.print({"operator": wanted, "role": role}, f"{wanted} is {role} from now on")


@operator.command()
@takes("redis", audited=True)
def remove(command: Command, name: _Name) -> None:
    """End an account, at once. The last admin stays."""
    wanted, because = _named(command, name)

    async def work(connection: StoreConnection) -> None:
        await connection.store.operators.remove(wanted, because)

    command.ask(work)
    command.print({"operator": wanted}, f"removed operator {wanted}")


def _named(command: Command, name: str) -> tuple[str, Attribution]:
    with all_mistakes() as mistakes:
        wanted = mistakes.take(lambda: operator_name(name), "")
        why, by = command.why_and_by(mistakes)
    return wanted, Attribution(by, why)


def _account(command: Command, name: str, password_stdin: bool) -> tuple[str, str, Attribution]:
    with all_mistakes() as mistakes:
        wanted = mistakes.take(lambda: operator_name(name), "")
        password = mistakes.take(lambda: new_password(_read_password()) if password_stdin else "", "")
        why, by = command.why_and_by(mistakes)
    return wanted, password or new_operator_password(), Attribution(by, why)


def _read_password() -> str:
    if not sys.stdin.isatty():
        # In bytes, so that the error names invalid UTF-8.
        line = sys.stdin.buffer.readline(MAX_PASSWORD_BYTES + 2).rstrip(b"\r\n").removeprefix(UTF8_MARK)
        return line.decode("utf-8", "surrogateescape")
    password = getpass.getpass("new password: ")
    if getpass.getpass("once more: ") != password:
        raise InvalidInput("password", "the two differ")
    return password


def _hashed(password: str) -> str:
    # Late: `gate operator list` has no use for it.
    from gate.store.passwords import hash_password

    return hash_password(password)


def _change(command: Command, name: str, mutate: Callable[[Operator], Operator], because: Attribution) -> None:
    async def work(connection: StoreConnection) -> None:
        await connection.store.operators.change(name, mutate, because)

    command.ask(work)


def _forget_password(data: Path, name: str) -> None:
    """The password that `credentials.json` holds has just ended."""
    from gate.service.credentials import forget_password

    path = data / CREDENTIALS_FILE
    try:
        forget_password(path, name)
    except (OSError, CannotStart) as fault:
        warn(f"{path} can't be updated, and holds a password that has ended: {fault}")


def _print_changed(command: Command, done: str, document: dict[str, str], is_given: bool, password: str) -> None:
    """Print the result; a generated password is shown only here."""
    if is_given:
        command.print(document, done)
    else:
        command.print({**document, "password": password}, done, f"the password, shown only now: {password}")
