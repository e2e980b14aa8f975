"""Builds the audit entry of a settings change: old and new values; of secrets only that they changed, of keys which by name.

Pure. Used by `apps` for every write of an App, so that no secret is ever stored in the audit.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gate.core.app_keys import shown_key
from gate.core.model import AppFacts

_SECRET_FIELDS = frozenset({"secrets", "token_keys"})


def created(facts: AppFacts) -> bytes:
    """Return every setting that differs from its default, as JSON: name -> value."""
    shown = {name: _shown(name, value) for name, value in _stored(facts).items() if name != "keys"}
    return msgspec.json.encode(shown | _keys(facts))


def changed(before: AppFacts, after: AppFacts) -> bytes:
    """Return the settings that differ, as JSON: name -> [before, after]; `keys.NAME` for a key that did."""
    differing = [name for name in after.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    pairs = {
        name: [_shown(name, getattr(facts, name)) for facts in (before, after)] for name in differing if name != "keys"
    }
    old, new = _keys(before), _keys(after)
    # A null stands for "no such key".
    pairs |= {name: [old.get(name), new.get(name)] for name in sorted(old | new) if old.get(name) != new.get(name)}
    return msgspec.json.encode(pairs)


def _keys(facts: AppFacts) -> dict[str, Any]:
    """Each key under a name of its own: scopes and the number of its secrets, no digest."""
    return {f"keys.{key.name}": shown_key(key) for key in facts.keys}


def _stored(facts: AppFacts) -> dict[str, Any]:
    return msgspec.to_builtins(facts)  # type: ignore[no-any-return]


def _shown(name: str, value: Any) -> Any:
    """Return a setting's value, or only the number of secrets."""
    return len(value) if name in _SECRET_FIELDS else value
