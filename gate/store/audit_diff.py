"""What the audit tells of a change of an App's settings: which, from what to what, and of secrets only that they changed.

Pure. Used by `apps` for every write of an App, so that no secret is ever kept in the audit.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gate.core.model import AppFacts

_SECRET_FIELDS = frozenset({"secrets", "token_keys"})


def created(facts: AppFacts) -> bytes:
    """Every setting that is not the default, as JSON: name -> value."""
    return msgspec.json.encode({name: _shown(name, value) for name, value in _stored(facts).items()})


def changed(before: AppFacts, after: AppFacts) -> bytes:
    """The settings that differ, as JSON: name -> [before, after]."""
    names = [name for name in after.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    pairs = {name: [_shown(name, getattr(facts, name)) for facts in (before, after)] for name in names}
    return msgspec.json.encode(pairs)


def _stored(facts: AppFacts) -> dict[str, Any]:
    return msgspec.to_builtins(facts)  # type: ignore[no-any-return]


def _shown(name: str, value: Any) -> Any:
    """Of a secret only how many there are."""
    return len(value) if name in _SECRET_FIELDS else value
