"""`DIR/credentials.json`: the first App's key and secret, and the operator's name and password, made at the first start.

The file is written before the App is created with what it says, so a start that is cut off between the two is finished by the
next one, and a Redis that lost everything gets the same App again. A node that joins a Redis where an App named `default`
exists already writes that App's key and secret instead of making another.
The replicator calls this: it is the one role that every node with a Replica runs once.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from gate.core.ids import app_key
from gate.core.model import AppFacts
from gate.errors import AppExists, AppUnknown, CannotStart, InvalidInput
from gate.service.places import write_private

DEFAULT_APP_NAME = "default"
OPERATOR = "admin"
KEY_BYTES, SECRET_BYTES, PASSWORD_BYTES = 8, 24, 18


class Credentials(msgspec.Struct, frozen=True):
    """The file's content."""

    app_key: str
    app_secret: str
    operator: str
    operator_password: str


class Apps(Protocol):
    """What this needs of the store."""

    async def get(self, key: str) -> AppFacts:
        """The App; `AppUnknown` if there is none."""
        ...

    async def list(self) -> Sequence[AppFacts]:
        """All Apps."""
        ...

    async def create(self, facts: AppFacts, now_ms: int) -> object:
        """Make it; `AppExists` if the key is taken."""
        ...


def read_credentials(path: Path) -> Credentials | None:
    """The file's content, or None if it is not there; `CannotStart` if it is unreadable."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Credentials)
        app_key(found.app_key)
        return found
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, InvalidInput) as fault:
        raise CannotStart(f"{path} can't be read ({fault}); restore it, or move it away to get new ones") from None


async def ensure_first_app(path: Path, apps: Apps, now_ms: int) -> Credentials:
    """Make sure that the file exists and that its App does. Safe to repeat, and to be cut off anywhere."""
    credentials = read_credentials(path)
    if credentials is None:
        credentials = await _adopted(apps) or _invented()
        write_private(path, msgspec.json.format(msgspec.json.encode(credentials), indent=2) + b"\n")
    try:
        await apps.get(credentials.app_key)
    except AppUnknown:
        await _create(credentials, apps, now_ms)
    return credentials


async def _adopted(apps: Apps) -> Credentials | None:
    named = [app for app in await apps.list() if app.name == DEFAULT_APP_NAME]
    if not named:
        return None
    oldest = min(named, key=lambda app: (app.created_at_ms, app.key))
    return Credentials(oldest.key, oldest.secrets[0], OPERATOR, secrets.token_urlsafe(PASSWORD_BYTES))


def _invented() -> Credentials:
    key, secret = secrets.token_hex(KEY_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    return Credentials(key, secret, OPERATOR, secrets.token_urlsafe(PASSWORD_BYTES))


async def _create(credentials: Credentials, apps: Apps, now_ms: int) -> None:
    facts = AppFacts(
        key=credentials.app_key,
        name=DEFAULT_APP_NAME,
        secrets=(credentials.app_secret,),
        environment="development",
        created_at_ms=now_ms,
    )
    try:
        await apps.create(facts, now_ms)
    except AppExists:  # another node made it between the look and the write: that is what was wanted
        return
