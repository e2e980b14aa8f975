"""`gate operator …`: the accounts of the people who run the deployment, for `/v1/apps` and the console.

These commands write to Redis straight away: whoever may run them on the node needs no account. A password is never an argument,
since every user of the machine can read those: it is made up and printed once, or read from stdin.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from typing import Annotated

import msgspec
import typer

from gate.cli.options import (
    CREDENTIALS_FILE,
    DEFAULT_DATA,
    ActorOption,
    DataOption,
    JsonOption,
    ReasonOption,
    RedisOption,
    Target,
    all_mistakes,
)
from gate.cli.output import print_json, print_table, say, warn
from gate.cli.penalties import given_because
from gate.cli.store_connection import StoreConnection, run_with
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
def add(
    name: _Name,
    role: Annotated[OperatorRole, typer.Option("--role", help="What the account may do.")] = "viewer",
    password_stdin: _FromStdin = False,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an account."""
    wanted, password, because = _account(name, password_stdin, reason, actor)
    made = Operator(name=wanted, role=role, password_hash=_hashed(password), created_at_ms=wall_ms())

    async def work(connection: StoreConnection) -> None:
        await connection.store.operators.add(made, because)

    run_with(Target(data, None, redis), work)
    shown = {} if password_stdin else {"password": password}
    if as_json:
        print_json({"operator": wanted, "role": role, **shown})
        return
    say(f"added operator {wanted}, {role}")
    _say_password(shown)


@operator.command("list")
def list_(data: DataOption = DEFAULT_DATA, redis: RedisOption = None, as_json: JsonOption = False) -> None:
    """List the accounts."""

    async def work(connection: StoreConnection) -> list[Operator]:
        return await connection.store.operators.list()

    found = run_with(Target(data, None, redis), work)
    if as_json:
        members = [{"operator": one.name, "role": one.role, "created_at_ms": one.created_at_ms} for one in found]
        print_json({"operators": members})
    else:
        rows = ((one.name, one.role, shown_moment(one.created_at_ms)) for one in found)
        print_table(("operator", "role", "created"), rows)


@operator.command()
def passwd(
    name: _Name,
    password_stdin: _FromStdin = False,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an account a new password; the old one ends at once."""
    wanted, password, because = _account(name, password_stdin, reason, actor)
    password_hash = _hashed(password)
    _change(
        Target(data, None, redis),
        wanted,
        lambda one: msgspec.structs.replace(one, password_hash=password_hash),
        because,
    )
    _forget_password(data, wanted)
    shown = {} if password_stdin else {"password": password}
    if as_json:
        print_json({"operator": wanted, **shown})
        return
    say(f"changed the password of {wanted}")
    _say_password(shown)


@operator.command("role")
def role_(
    name: _Name,
    role: Annotated[OperatorRole, typer.Argument(metavar="viewer|operator|admin", help="What it may do from now on.")],
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what an account may do."""
    wanted, because = _named(name, reason, actor)
    _change(Target(data, None, redis), wanted, lambda one: msgspec.structs.replace(one, role=role), because)
    if as_json:
        print_json({"operator": wanted, "role": role})
    else:
        say(f"{wanted} is {role} from now on")


@operator.command()
def remove(
    name: _Name,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an account, at once. The last admin stays."""
    wanted, because = _named(name, reason, actor)

    async def work(connection: StoreConnection) -> None:
        await connection.store.operators.remove(wanted, because)

    run_with(Target(data, None, redis), work)
    if as_json:
        print_json({"operator": wanted})
    else:
        say(f"removed operator {wanted}")


def _named(name: str, reason: str, actor: str | None) -> tuple[str, Attribution]:
    with all_mistakes() as mistakes:
        wanted = mistakes.take(lambda: operator_name(name), "")
        why, by = given_because(reason, actor, mistakes)
    return wanted, Attribution(by, why)


def _account(name: str, password_stdin: bool, reason: str, actor: str | None) -> tuple[str, str, Attribution]:
    with all_mistakes() as mistakes:
        wanted = mistakes.take(lambda: operator_name(name), "")
        password = mistakes.take(lambda: new_password(_read_password()) if password_stdin else "", "")
        why, by = given_because(reason, actor, mistakes)
    return wanted, password or new_operator_password(), Attribution(by, why)


def _read_password() -> str:
    if not sys.stdin.isatty():
        # In bytes, so that what is no UTF-8 is named as such.
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


def _change(target: Target, name: str, mutate: Callable[[Operator], Operator], because: Attribution) -> None:
    async def work(connection: StoreConnection) -> None:
        await connection.store.operators.change(name, mutate, because)

    run_with(target, work)


def _forget_password(data: DataOption, name: str) -> None:
    """The password that `credentials.json` holds has just ended."""
    from gate.service.credentials import forget_password

    path = data / CREDENTIALS_FILE
    try:
        forget_password(path, name)
    except (OSError, CannotStart) as fault:
        warn(f"{path} can't be updated, and holds a password that has ended: {fault}")


def _say_password(shown: dict[str, str]) -> None:
    if shown:
        say(f"the password, shown only now: {shown['password']}")
