"""An App's settings: what each means and may be, in one table for the command line, `/v1/apps` and the console.

Settings have the names of the fields of `AppFacts`. A caller that uses other names passes a function that maps them, for
the messages. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints
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
# A day: older facts are no basis for a check that shall be refused at all.
MAX_STALENESS_MS = 86_400_000

SettingGroup = Literal["general", "verdicts", "presence", "tokens", "webhooks", "limits"]


class Setting(NamedTuple):
    """What people need to know of a setting: for the options of the command line, `/v1` and the console.

    Its kind and its default are those of the field of `AppFacts`. `bounds` are the minimum and maximum of a number, in `unit`.
    """

    meaning: str
    group: SettingGroup
    bounds: tuple[int, int] | None = None
    unit: str = ""
    admins_only: bool = False
    """It decides who may call or connect, or what is stored or sent where. Only an admin may change it."""


SETTINGS: dict[str, Setting] = {
    "name": Setting("What people call the App.", "general"),
    "environment": Setting(
        "What the App is for. In development Users can be deleted, and their number is limited.",
        "general",
        admins_only=True,
    ),
    "require_registered": Setting("Refuse Users that were never registered.", "verdicts"),
    "list_policy": Setting("Whether a Whitelist that is on replaces the Blacklist, or both are asked.", "verdicts"),
    "whitelists": Setting("Whether Whitelists are on or off for everybody, or by each User's own switch.", "verdicts"),
    "exempt": Setting("Senders that Mutes and lists do not concern, such as official accounts.", "verdicts"),
    "shadow": Setting(
        "Shadow mode: answer every check `allowed`, and count what would be denied. Nothing is enforced.",
        "verdicts",
        admins_only=True,
    ),
    "on_stale": Setting(
        "What checks do from facts that are too old: answer (`serve`), refuse, or as the deployment says.",
        "verdicts",
        admins_only=True,
    ),
    "max_staleness_ms": Setting(
        "From what age on facts are too old; 0: as the deployment says.", "verdicts", (0, MAX_STALENESS_MS), "ms", True
    ),
    "list_ceiling": Setting("How many entries a list of an owner may have.", "verdicts", (1, MAX_LIST_CEILING)),
    "device_policy": Setting("How many Sessions a User may have; the newest stays.", "presence"),
    "hide_presence": Setting("Show Users as offline to those whom their lists refuse.", "presence"),
    "presence_slices": Setting(
        "Over how many slices Presence is spread. It can only be raised.", "presence", (1, MAX_SLICES), admins_only=True
    ),
    "token_ttl_s": Setting("How long new Tokens are valid; 0: for ever.", "tokens", (0, MAX_TOKEN_TTL_S), "s", True),
    "close_sessions_on_expire": Setting("Whether revoked Tokens end Sessions too.", "tokens"),
    "strict_signature": Setting("Check a signature's time, and accept each nonce once.", "tokens", admins_only=True),
    "signature_window_s": Setting(
        "How far off the time of a strict signature may be.", "tokens", (1, MAX_WINDOW_S), "s", True
    ),
    "webhook_url": Setting("Where results of deactivation go; empty: nowhere.", "webhooks", admins_only=True),
    "presence_webhook_url": Setting("Where changes of who is online go; empty: nowhere.", "webhooks", admins_only=True),
    "user_limit": Setting(
        "How many Users may be registered in development. Production has no limit.",
        "limits",
        (0, MAX_USER_LIMIT),
        admins_only=True,
    ),
    "reactivate_after_s": Setting(
        "How soon a deactivated User may be reactivated.", "limits", (0, MAX_REACTIVATE_AFTER_S), "s"
    ),
    "audit_days": Setting("How long the audit is kept.", "limits", (1, MAX_AUDIT_DAYS), "days", True),
    "rate_limits": Setting("How many calls a second are accepted, by endpoint.", "limits"),
    "utc_offset_minutes": Setting(
        "The time zone of the times that /user/* answers, from UTC.",
        "limits",
        (MIN_OFFSET_MINUTES, MAX_OFFSET_MINUTES),
        "min",
    ),
}
"""Every setting, in the order in which people read them. A test compares it with the fields of `AppFacts`."""

# Minimum and maximum of each numeric setting.
BOUNDS: dict[str, tuple[int, int]] = {name: one.bounds for name, one in SETTINGS.items() if one.bounds is not None}
ADMINS_ONLY = frozenset(name for name, one in SETTINGS.items() if one.admins_only)

_FIELDS = {field.name: field for field in msgspec.structs.fields(AppFacts)}


def default_of(setting: str) -> Any:
    """Return the value of an App that does not set it."""
    field = _FIELDS[setting]
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def title_of(setting: str) -> str:
    """Return the name of a setting in words, without its unit."""
    words = setting.removesuffix("_s").removesuffix("_ms").removesuffix("_minutes").split("_")
    shown = [word.upper() if word in ("url", "ttl", "utc") else word for word in words]
    return " ".join([shown[0][:1].upper() + shown[0][1:], *shown[1:]])


def choices_of(setting: str) -> Sequence[str]:
    """Return the words that a setting may be. Empty for one that is no choice."""
    kind = get_type_hints(AppFacts)[setting]
    return get_args(kind) if get_origin(kind) is Literal else ()


def app_document(facts: AppFacts) -> dict[str, Any]:
    """Return all settings, defaults included (the stored form omits them). Of secrets, also of keys, only their number."""
    document: dict[str, Any] = {name: getattr(facts, name) for name in facts.__struct_fields__}
    document["exempt"] = sorted(facts.exempt)
    document["secret_count"] = len(document.pop("secrets"))
    document["keys"] = [shown_key(key) for key in facts.keys]
    document["token_key_count"] = len(document.pop("token_keys"))
    return document


def with_settings(facts: AppFacts, changes: Mapping[str, Any], named: Callable[[str], str] = str) -> AppFacts:
    """Return the App with these settings, which must be valid.

    Raises `InvalidInput` for a change that is irreversible, or for settings that contradict each other.
    """
    slices = changes.get("presence_slices", facts.presence_slices)
    # Users already moved to the new slices; moving them back is not implemented.
    if slices < facts.presence_slices:
        problem = f"can only be raised: it is {facts.presence_slices} now, got {slices}"
        raise InvalidInput(named("presence_slices"), problem)
    changed = msgspec.structs.replace(facts, **changes)
    # Without an age of its own the App would refuse on one deployment, and never on one without `--max-staleness-ms`.
    if changed.on_stale == "refuse" and not changed.max_staleness_ms:
        problem = f"must be at least 1 with {named('on_stale')} refuse: the age in ms past which checks are refused"
        raise InvalidInput(named("max_staleness_ms"), problem)
    return changed


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
