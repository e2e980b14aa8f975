"""`DIR/credentials.json`: the first App's key and secret, and the operator's name and password, made at the first start.

The file is written before the App is created with what it says, so a start that is cut off between the two is finished by the
next one, and a Redis that lost everything gets the same App again. A node that joins a Redis where an App named `default`
exists already writes that App's key and secret instead of making another.

The operator is created only where Redis holds no operator at all, so that a removed operator stays removed. A node that joins
other nodes can't know the passwords, of which Redis has hashes only, and writes an empty one; so does `gate operator passwd`,
rather than keep a chosen password in a file. A Redis that lost everything gets the operator again, with a new password if
necessary. `gate app rotate-secret` on this node writes the App's new secret to the file too.

The replicator calls this: it is the one role that every node with a Replica runs once.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gate.core.file_text import read_text
from gate.core.ids import app_key
from gate.core.model import AppFacts
from gate.core.operators import Operator
from gate.errors import AppExists, AppUnknown, CannotStart, InvalidInput, OperatorExists
from gate.sealing import opened
from gate.service.directory_layout import write_private
from gate.store.new_credentials import new_app_secret, new_operator_password
from gate.store.passwords import hash_password
from gate.store.writer import Attribution

if TYPE_CHECKING:  # the supervisor imports this module, and starts every process before it could import the store
    from gate.store.apps import Apps
    from gate.store.operators import Operators

DEFAULT_APP_NAME = "default"
OPERATOR = "admin"
KEY_BYTES = 8
_FIRST_START = Attribution("gate", "the first start of the deployment")


class Credentials(msgspec.Struct, frozen=True):
    """The file's content. `operator_password` is empty where it is not the file's to know."""

    app_key: str
    app_secret: str
    operator: str
    operator_password: str


def read_credentials(path: Path) -> Credentials | None:
    """The file's content, or None if it is not there; `CannotStart` if it is unreadable."""
    try:
        found = msgspec.json.decode(read_text(path.read_bytes()), type=Credentials)
        # Checked here, where the file can be named: a key that is edited by hand would fail far from it.
        app_key(found.app_key)
        return found
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, InvalidInput) as fault:
        raise CannotStart(f"{path} can't be read ({fault}); restore it, or move it away to get new ones") from None


async def ensure_first(path: Path, apps: Apps, operators: Operators, now_ms: int) -> Credentials:
    """Make sure that the file exists, its App does, and some operator. Safe to repeat, and to be cut off anywhere."""
    credentials = read_credentials(path)
    # Any operator counts, whatever the name: one that was removed must stay removed.
    is_governed = bool(await operators.list())
    if credentials is None:
        credentials = await _adopted(apps) or _invented()
        # A password that no operator has would mislead a person who reads the file.
        credentials = without_password(credentials) if is_governed else credentials
        write_credentials(path, credentials)
    if not is_governed:
        credentials = await _with_operator(path, credentials, operators, now_ms)
    try:
        await apps.get(credentials.app_key)
    except AppUnknown:
        await _create(credentials, apps, now_ms)
    return credentials


def write_credentials(path: Path, credentials: Credentials) -> None:
    """Replace the file in one step. The file keeps its owner, even if another user writes it."""
    owner = path.stat() if path.exists() else None
    # A symbolic link stays one.
    write_private(
        Path(os.path.realpath(path)), msgspec.json.format(msgspec.json.encode(credentials), indent=2) + b"\n", owner
    )


def without_password(credentials: Credentials) -> Credentials:
    """The same, for a file that is not to hold a password."""
    return msgspec.structs.replace(credentials, operator_password="")


def note_new_secret(path: Path, key: str, secret: str) -> bool:
    """Write the new secret of the file's App; False if the file is another App's, or not there."""
    credentials = read_credentials(path)
    if credentials is None or credentials.app_key != key:
        return False
    write_credentials(path, msgspec.structs.replace(credentials, app_secret=secret))
    return True


def forget_password(path: Path, operator: str) -> bool:
    """Empty the password of the file's operator, which holds no more; False if there is nothing to forget."""
    credentials = read_credentials(path)
    if credentials is None or credentials.operator != operator or not credentials.operator_password:
        return False
    write_credentials(path, without_password(credentials))
    return True


async def _with_operator(path: Path, credentials: Credentials, operators: Operators, now_ms: int) -> Credentials:
    if not credentials.operator_password:
        credentials = msgspec.structs.replace(credentials, operator_password=new_operator_password())
        _write_or_refuse(path, credentials)
    # In a thread: it takes some 30 ms, and this process applies Changes.
    password_hash = await asyncio.to_thread(hash_password, credentials.operator_password)
    first = Operator(name=credentials.operator, role="admin", password_hash=password_hash, created_at_ms=now_ms)
    try:
        await operators.add(first, _FIRST_START)
    except OperatorExists:  # another node was quicker, under a password of its own
        credentials = without_password(credentials)
        _write_or_refuse(path, credentials)
    return credentials


def _write_or_refuse(path: Path, credentials: Credentials) -> None:
    """A file that is mounted read-only serves as long as it holds everything."""
    try:
        write_credentials(path, credentials)
    except OSError as fault:
        raise CannotStart(
            f"{path} can't be written ({fault.strerror}): fill in its operator_password, or make it writable"
        ) from None


async def _adopted(apps: Apps) -> Credentials | None:
    named = [app for app in await apps.list() if app.name == DEFAULT_APP_NAME]
    if not named:
        return None
    # Several may have the name: every node must choose the same one.
    oldest = min(named, key=lambda app: (app.created_at_ms, app.key))
    return Credentials(oldest.key, opened(oldest).secrets[0], OPERATOR, new_operator_password())


def _invented() -> Credentials:
    return Credentials(secrets.token_hex(KEY_BYTES), new_app_secret(), OPERATOR, new_operator_password())


async def _create(credentials: Credentials, apps: Apps, now_ms: int) -> None:
    facts = AppFacts(
        key=credentials.app_key,
        name=DEFAULT_APP_NAME,
        secrets=(credentials.app_secret,),
        environment="development",
        created_at_ms=now_ms,
    )
    try:
        await apps.create(facts, now_ms, _FIRST_START.why, _FIRST_START.by)
    except AppExists:  # another node made it between the look and the write: that is what was wanted
        return
