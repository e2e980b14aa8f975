"""Keys of an App: credentials with a name and scopes, for programs that do not need the App's own secret.

A key is added, rotated and removed by its name. A rotation has two steps, as that of the App's secret: the new secret is
accepted next to the previous one until the rotation is finished. Only digests are stored, so a lost secret is replaced by a
rotation, and is never shown again.

Pure. Called by `gate app key …` and `/v1/apps/{app}/keys`; `app_secrets.caller_with` authenticates with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gate.core.app_secrets import app_secret, caller_with, digest_of
from gate.core.model import AppFacts
from gate.core.scopes import SCOPES, AppKey, Scope
from gate.errors import InvalidInput, NotFound, Refused

# Keys travel with the App's settings to every node, and each AUTH compares with all of them.
MAX_KEYS = 32
MAX_KEY_NAME_CHARS = 64

# A name stands in paths, where "." and ".." alone mean another path.
KEY_NAME_PATTERN = rf"^(?!\.{{1,2}}$)[A-Za-z0-9._-]{{1,{MAX_KEY_NAME_CHARS}}}$"
_NAME = re.compile(KEY_NAME_PATTERN, re.ASCII)


def key_name(value: str) -> str:
    """Return the name. Raises `InvalidInput` unless it is 1 to 64 of letters, digits, '.', '_' and '-', and no path segment."""
    if not _NAME.fullmatch(value):
        raise InvalidInput("name", f"must be 1 to {MAX_KEY_NAME_CHARS} of A-Z a-z 0-9 . _ -, and not . or ..")
    return value


def key_scopes(values: Iterable[str]) -> tuple[Scope, ...]:
    """Return the scopes, each once and in the order of `SCOPES`. Raises `InvalidInput` for an unknown one, or none."""
    wanted = set(values)
    unknown = sorted(wanted.difference(SCOPES))
    if unknown or not wanted:
        got = f", got {unknown[0][:40]!r}" if unknown else ""
        raise InvalidInput("scope", f"must be one or more of {', '.join(SCOPES)}{got}")
    return tuple(scope for scope in SCOPES if scope in wanted)


def with_key(facts: AppFacts, name: str, scopes: Sequence[Scope], secret: str, now_ms: int) -> AppFacts:
    """Return the App with this key as well. Raises `Refused` if the name is taken or there are 32, `InvalidInput` otherwise."""
    key = AppKey(
        name=key_name(name), scopes=key_scopes(scopes), digests=(_free_digest(facts, secret),), created_at_ms=now_ms
    )
    if any(one.name == name for one in facts.keys):
        raise Refused(f"there is a key {name!r} already: remove it first, or rotate its secret")
    if len(facts.keys) >= MAX_KEYS:
        raise Refused(f"an App has at most {MAX_KEYS} keys: remove one that is not used")
    return msgspec.structs.replace(facts, keys=(*facts.keys, key))


def with_rotated_key(facts: AppFacts, name: str, secret: str) -> AppFacts:
    """Return the App with a new secret of the key next to the present one. Raises `Refused` if two are accepted already."""
    key = named_key(facts, name)
    if len(key.digests) > 1:
        raise Refused(f"a rotation of the key {name!r} is in progress: finish it first")
    return _replaced(facts, msgspec.structs.replace(key, digests=(_free_digest(facts, secret), *key.digests)))


def with_finished_rotation(facts: AppFacts, name: str) -> AppFacts:
    """Return the App with the newest secret of the key only. Repeating the call changes nothing."""
    key = named_key(facts, name)
    return _replaced(facts, msgspec.structs.replace(key, digests=key.digests[:1]))


def without_key(facts: AppFacts, name: str) -> AppFacts:
    """Return the App without this key. Raises `NotFound`."""
    gone = named_key(facts, name)
    return msgspec.structs.replace(facts, keys=tuple(one for one in facts.keys if one is not gone))


def named_key(facts: AppFacts, name: str) -> AppKey:
    """Return the key. Raises `NotFound`."""
    for key in facts.keys:
        if key.name == name:
            return key
    raise NotFound(f"the App {facts.key!r} has no key {name[:MAX_KEY_NAME_CHARS]!r}")


def shown_key(key: AppKey) -> dict[str, Any]:
    """Return what may be shown of a key: everything but its digests, of which only the number."""
    return {
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at_ms": key.created_at_ms,
        "secret_count": len(key.digests),
    }


def _free_digest(facts: AppFacts, secret: str) -> str:
    """The digest of a secret that the App does not use yet: else one secret would have the scopes of two credentials."""
    if caller_with(facts, app_secret(secret).encode()) is not None:
        raise Refused("the secret is one of this App's or of its keys already: choose another")
    return digest_of(secret.encode())


def _replaced(facts: AppFacts, key: AppKey) -> AppFacts:
    return msgspec.structs.replace(facts, keys=tuple(key if one.name == key.name else one for one in facts.keys))
