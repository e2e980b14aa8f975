"""Bounds of an App's settings: one table for the command line and for `/v1/apps`.

Settings have the names of the fields of `AppFacts`. A caller that uses other names passes a function that maps them, for
the messages. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gate.core.app_keys import shown_key
from gate.core.ids import user_id
from gate.core.limits import checked_limits
from gate.core.model import AppFacts
from gate.core.slices import MAX_SLICES
from gate.errors import InvalidInput

MAX_NAME_CHARS = 64
# A list is checked against its ceiling inside one script; past this, one owner could stall a Partition.
MAX_LIST_CEILING = 1_000_000
# Exempt senders travel with the App's settings, to every node, on each change.
MAX_EXEMPT = 1_000
MAX_WINDOW_S = 86_400
# UTC-12 to UTC+14: the time zones that exist.
MIN_OFFSET_MINUTES, MAX_OFFSET_MINUTES = -12 * 60, 14 * 60
MAX_USER_LIMIT = 1_000_000
MAX_TOKEN_TTL_S = 10 * 366 * 86_400
MAX_REACTIVATE_AFTER_S = 30 * 86_400
MAX_AUDIT_DAYS = 3_660
MAX_URL_CHARS = 2_048

# Minimum and maximum of each numeric setting.
BOUNDS: dict[str, tuple[int, int]] = {
    "list_ceiling": (1, MAX_LIST_CEILING),
    "utc_offset_minutes": (MIN_OFFSET_MINUTES, MAX_OFFSET_MINUTES),
    "signature_window_s": (1, MAX_WINDOW_S),
    "user_limit": (0, MAX_USER_LIMIT),
    "token_ttl_s": (0, MAX_TOKEN_TTL_S),
    "reactivate_after_s": (0, MAX_REACTIVATE_AFTER_S),
    "audit_days": (1, MAX_AUDIT_DAYS),
    "presence_slices": (1, MAX_SLICES),
}

# Settings that decide who may call or connect, and what is stored or sent where. Only an admin may change them.
ADMINS_ONLY = frozenset(
    {"environment", "strict_signature", "signature_window_s", "token_ttl_s", "user_limit", "audit_days", "webhook_url",
     "presence_webhook_url", "presence_slices"}
)  # fmt: skip


def app_document(facts: AppFacts) -> dict[str, Any]:
    """Return all settings, defaults included (the stored form omits them). Of secrets, also of keys, only their number."""
    document: dict[str, Any] = {name: getattr(facts, name) for name in facts.__struct_fields__}
    document["exempt"] = sorted(facts.exempt)
    document["secret_count"] = len(document.pop("secrets"))
    document["keys"] = [shown_key(key) for key in facts.keys]
    document["token_key_count"] = len(document.pop("token_keys"))
    return document


def with_settings(facts: AppFacts, changes: Mapping[str, Any], named: Callable[[str], str] = str) -> AppFacts:
    """Return the App with these settings, which must be valid. Raises `InvalidInput` for a change that is irreversible."""
    slices = changes.get("presence_slices", facts.presence_slices)
    # Users already moved to the new slices; moving them back is not implemented.
    if slices < facts.presence_slices:
        problem = f"can only be raised: it is {facts.presence_slices} now, got {slices}"
        raise InvalidInput(named("presence_slices"), problem)
    return msgspec.structs.replace(facts, **changes)


def setting_mistakes(changes: Mapping[str, Any], named: Callable[[str], str] = str) -> list[InvalidInput]:
    """Return the mistakes in these settings, whose types are already checked. Empty if all of them may be stored."""
    mistakes: list[InvalidInput] = []
    for setting, value in changes.items():
        if value is None:  # None is a valid `user_limit`: the default of the environment applies
            continue
        problem = _problem(setting, value)
        if problem:
            mistakes.append(InvalidInput(named(setting), problem))
    return mistakes


def _problem(setting: str, value: Any) -> str | None:
    if setting in BOUNDS:
        least, most = BOUNDS[setting]
        return None if least <= value <= most else f"must be {least:,} to {most:,}, got {value}"
    check = _CHECKS.get(setting)
    return None if check is None else check(value)


def _name(name: str) -> str | None:
    fits = 1 <= len(name) <= MAX_NAME_CHARS and name.isprintable()
    return None if fits else f"must be 1 to {MAX_NAME_CHARS} printable characters"


def _exempt(senders: frozenset[str]) -> str | None:
    if len(senders) > MAX_EXEMPT:
        return f"an App has at most {MAX_EXEMPT:,} exempt senders, this would be {len(senders):,}"
    try:
        for sender in senders:
            user_id(sender)
    except InvalidInput as fault:
        return fault.problem
    return None


def _webhook_url(url: str) -> str | None:
    if not url:
        return None
    if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        return f"must be at most {MAX_URL_CHARS:,} visible ASCII characters"
    try:
        parts = urlsplit(url)
        is_complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    # The host ends at the first "/", so an "@" before it means credentials, which must not be stored in a setting.
    if not is_complete or "@" in url.partition("://")[2].partition("/")[0]:
        return "must be an http or https URL with a host and without a user name, or empty for none"
    return None


def _rate_limits(limits: Mapping[str, int]) -> str | None:
    try:
        checked_limits(limits)
    except InvalidInput as fault:
        return fault.problem
    return None


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "name": _name,
    "exempt": _exempt,
    "webhook_url": _webhook_url,
    "presence_webhook_url": _webhook_url,
    "rate_limits": _rate_limits,
}
