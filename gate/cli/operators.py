"""`gate operator …`: the accounts of the people who run the deployment, for `/v1/apps` and the console.

These commands write to Redis directly: a user who may run them on the node needs no account. A password is never an argument,
since every user of the machine can read arguments: it is generated and printed once, or read from stdin.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Mapping, Sequence
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
from gate.core.operators import MAX_PASSWORD_BYTES, Operator, OperatorRole, new_password, operator_apps, operator_name
from gate.core.shown import counted
from gate.errors import CannotStart, InvalidInput, NotFound, OperatorUnknown, Refused
from gate.store.console_sessions import ConsoleSession
from gate.store.new_credentials import new_app_secret, new_operator_password
from gate.store.writer import Attribution

operator = typer.Typer(help="Operators: who may administer, and as what.", no_args_is_help=True, add_completion=False)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The operator's name.")]
_FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from stdin; default: a random one, printed once.")
]


_Apps = Annotated[
    list[str] | None,
    typer.Option("--app", metavar="KEY", help="Limit it to this App (may be repeated); default: all Apps."),
]


@operator.command()
@takes("redis", audited=True)
def add(
    command: Command,
    name: _Name,
    role: Annotated[OperatorRole, typer.Option("--role", help="What the account may do.")] = "viewer",
    apps: _Apps = None,
    sso: Annotated[bool, typer.Option("--sso", help="A trusted proxy signs it in; it has no password.")] = False,
    password_stdin: _FromStdin = False,
) -> None:
    """Make an account."""
    if sso and password_stdin:
        raise InvalidInput("--sso", "an account without a password: leave out --password-stdin")
    wanted, password, because = _account(command, name, password_stdin)
    reached = None if apps is None else operator_apps(apps)
    # An account of a proxy has no password: a random key signs its cookies in the place of the hash.
    password_hash = new_app_secret() if sso else _hashed(password)
    # Hashed before connecting: argon2 takes longer than the whole of the rest.
    made = Operator(name=wanted, role=role, password_hash=password_hash, created_at_ms=wall_ms(), apps=reached, sso=sso)

    async def work(connection: StoreConnection) -> None:
        await _require_apps(connection, reached)
        await connection.store.operators.add(made, because)

    command.ask(work)
    document = {"operator": wanted, "role": role, **({} if reached is None else {"apps": list(reached)})}
    done = f"added operator {wanted}, {role}{_of_apps(reached)}"
    if sso:
        command.print({**document, "sso": True}, f"{done}; a trusted proxy signs it in")
    else:
        _print_changed(command, done, document, password_stdin, password)


@operator.command("list")
@takes("redis")
def list_(command: Command) -> None:
    """List the accounts."""

    async def work(connection: StoreConnection) -> list[Operator]:
        return await connection.store.operators.list()

    found = command.ask(work)
    if command.as_json:
        print_json({"operators": [_document(one) for one in found]})
    else:
        rows = (
            (one.name, one.role, "all" if one.apps is None else ", ".join(one.apps), "proxy" if one.sso else "password",
             shown_moment(one.created_at_ms))
            for one in found
        )  # fmt: skip
        print_table(("operator", "role", "Apps", "signs in by", "created"), rows)


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

    def changed(one: Operator) -> Operator:
        # Inside of the change: the account may have become a proxy's since it was read.
        if one.sso:
            raise Refused(f"{wanted} has no password: a trusted proxy signs it in")
        return msgspec.structs.replace(one, password_hash=password_hash)

    _change(command, wanted, changed, because)
    # After the write: a file without the password of a failed change would lock its reader out.
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


@operator.command("set")
@takes("redis", audited=True)
def set_(
    command: Command,
    name: _Name,
    role: Annotated[OperatorRole | None, typer.Option("--role", help="What it may do from now on.")] = None,
    apps: _Apps = None,
    all_apps: Annotated[bool, typer.Option("--all-apps", help="Lift the limit to some Apps.")] = False,
) -> None:
    """Change what an account may do, and which Apps it is limited to."""
    if role is None and apps is None and not all_apps:
        raise InvalidInput("options", "give --role, --app or --all-apps")
    if apps is not None and all_apps:
        raise InvalidInput("--all-apps", "give either --app or --all-apps")
    wanted, because = _named(command, name)
    reached = None if apps is None else operator_apps(apps)

    def changed(one: Operator) -> Operator:
        # What is not named stays as it is.
        present = None if all_apps else one.apps if reached is None else reached
        return msgspec.structs.replace(one, role=role or one.role, apps=present)

    async def work(connection: StoreConnection) -> Operator:
        await _require_apps(connection, reached)
        return await connection.store.operators.change(wanted, changed, because)

    done = command.ask(work)
    command.print(_document(done), f"{wanted} is {done.role}{_of_apps(done.apps)} from now on")


@operator.command()
@takes("redis", audited=True)
def remove(command: Command, name: _Name) -> None:
    """End an account, at once. The last admin stays."""
    wanted, because = _named(command, name)

    async def work(connection: StoreConnection) -> None:
        await connection.store.operators.remove(wanted, because)

    command.ask(work)
    command.print({"operator": wanted}, f"removed operator {wanted}")


@operator.command()
@takes("redis", audited=True)
def sessions(
    command: Command,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only those of this operator.")] = None,
    end: Annotated[
        list[str] | None, typer.Option("--end", metavar="ID", help="End this session (may be repeated).")
    ] = None,
    end_all: Annotated[bool, typer.Option("--end-all", help="End every session that is listed.")] = False,
) -> None:
    """List the open sessions of the console, or end them."""
    with all_mistakes() as mistakes:
        wanted = None if name is None else mistakes.take(lambda: operator_name(name), "")
        why, by = command.why_and_by(mistakes)

    async def work(connection: StoreConnection) -> tuple[list[ConsoleSession], int]:
        kept = connection.store.console_sessions
        found = [one for one in await kept.list() if wanted in (None, one.operator)]
        # A proxy may sign in an operator that has no account here: then its sessions are all that is known of it.
        if wanted is not None and not found and await connection.store.operators.get(wanted) is None:
            raise OperatorUnknown(f"there is no operator {wanted!r}")
        if not end and not end_all:
            return found, 0
        chosen = [one.id for one in found if end_all or one.id in (end or ())]
        return found, await kept.end(chosen, Attribution(by, why))

    found, ended = command.ask(work)
    if end or end_all:
        missing = [] if end_all else sorted(set(end or ()) - {one.id for one in found})
        if ended or not missing:
            command.print({"ended": ended}, f"ended {counted(ended, 'session')}")
        if missing:
            raise NotFound(f"there is no such session: {', '.join(missing)} (gate operator sessions lists them)")
    elif command.as_json:
        shown = ("id", "operator", "by", "address", "agent", "started_at_ms", "seen_at_ms", "until_ms")
        print_json({"sessions": [{field: getattr(one, field) for field in shown} for one in found]})
    else:
        rows = ((one.id, one.operator, one.by, one.address, shown_moment(one.started_at_ms),
                 shown_moment(one.seen_at_ms)) for one in found)  # fmt: skip
        print_table(("session", "operator", "signed in by", "address", "since", "last request"), rows)


def _document(one: Operator) -> dict[str, object]:
    limited = {} if one.apps is None else {"apps": list(one.apps)}
    by_proxy = {"sso": True} if one.sso else {}
    return {"operator": one.name, "role": one.role, **limited, **by_proxy, "created_at_ms": one.created_at_ms}


def _of_apps(apps: Sequence[str] | None) -> str:
    return "" if apps is None else f" of {', '.join(apps)} only"


async def _require_apps(connection: StoreConnection, apps: Sequence[str] | None) -> None:
    for key in apps or ():
        await connection.store.apps.get(key)


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
    # An empty line is refused by `new_password`; empty here means that none was read.
    return wanted, password or new_operator_password(), Attribution(by, why)


def _read_password() -> str:
    if not sys.stdin.isatty():
        # In bytes, so that the error names invalid UTF-8.
        # Two more than a password may have: a longer one is refused, not cut.
        line = sys.stdin.buffer.readline(MAX_PASSWORD_BYTES + 2).rstrip(b"\r\n").removeprefix(UTF8_MARK)
        return line.decode("utf-8", "surrogateescape")
    password = getpass.getpass("new password: ")
    # Typed unseen, and nothing else would show a slip.
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


def _print_changed(command: Command, done: str, document: Mapping[str, object], is_given: bool, password: str) -> None:
    """Print the result; a generated password is shown only here."""
    if is_given:
        command.print(document, done)
    else:
        command.print({**document, "password": password}, done, f"the password, shown only now: {password}")
