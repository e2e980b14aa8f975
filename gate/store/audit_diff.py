"""Builds the audit entry of a settings change: old and new values; of secrets only that they changed.

Pure. Used by `apps` for every write of an App, so that no secret is ever stored in the audit.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gate.core.model import AppFacts

_SECRET_FIELDS = frozenset({"secrets", "token_keys"})


def created(facts: AppFacts) -> bytes:
    """Return every setting that differs from its default, as JSON: name -> value."""
    return msgspec.json.encode({name: _shown(name, value) for name, value in _stored(facts).items()})


def changed(before: AppFacts, after: AppFacts) -> bytes:
    """Return the settings that differ, as JSON: name -> [before, after]."""
    names = [name for name in after.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    pairs = {name: [_shown(name, getattr(facts, name)) for facts in (before, after)] for name in names}
    return msgspec.json.encode(pairs)


def _stored(facts: AppFacts) -> dict[str, Any]:
    return msgspec.to_builtins(facts)  # type: ignore[no-any-return]


def _shown(name: str, value: Any) -> Any:
    """Return a setting's value, or only the number of secrets."""
    return len(value) if name in _SECRET_FIELDS else value
