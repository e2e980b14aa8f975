"""`gate app set`: every setting of an App as an option; what is not named stays as it is.

What a setting may be is `gate.core.app_settings`' business, the same for `/v1/apps`; here are only names and spellings.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from gate.cli.options import (
    DEFAULT_DATA,
    ActorOption,
    DataOption,
    JsonOption,
    Mistakes,
    ReasonOption,
    RedisOption,
    Target,
    all_mistakes,
    given_id,
)
from gate.cli.output import print_json, say
from gate.cli.penalties import given_because
from gate.cli.store_connection import Settled, StoreConnection, run_with
from gate.cli.time_format import given_seconds
from gate.clock import wall_ms
from gate.core import ids
from gate.core.app_settings import setting_mistakes, with_settings
from gate.core.limits import parse_limits
from gate.core.model import AppFacts, DevicePolicy, Environment, ListPolicy, WhitelistSwitch
from gate.errors import InvalidConfig, InvalidInput

NO_OWN_LIMIT = "default"

_OPTIONS = {"utc_offset_minutes": "--utc-offset", "signature_window_s": "--signature-window"}
_OPTIONS |= {"token_ttl_s": "--token-ttl", "reactivate_after_s": "--reactivate-after"}
"""Of settings whose option is not simply their name."""

_Name = Annotated[str | None, typer.Option("--name", help="What people call it.")]
_Environment = Annotated[Environment | None, typer.Option("--environment", help="What it is for.")]
_Policy = Annotated[
    ListPolicy | None, typer.Option("--list-policy", help="Whether a Whitelist that is on replaces the Blacklist.")
]
_Registered = Annotated[
    bool | None,
    typer.Option("--require-registered/--no-require-registered", help="Refuse Users that were never registered."),
]
_Whitelists = Annotated[
    WhitelistSwitch | None, typer.Option("--whitelists", help="For everybody, or each User's own switch.")
]
_Exempt = Annotated[
    list[str] | None, typer.Option("--exempt", metavar="USER", help="Add an exempt sender (may be repeated).")
]
_Unexempt = Annotated[
    list[str] | None, typer.Option("--unexempt", metavar="USER", help="Remove one (may be repeated).")
]
_Ceiling = Annotated[int | None, typer.Option("--list-ceiling", metavar="N", help="Entries an owner.")]
_Offset = Annotated[
    int | None, typer.Option("--utc-offset", metavar="MINUTES", help="Of the times that /user/* answers.")
]
_Strict = Annotated[
    bool | None,
    typer.Option("--strict-signature/--no-strict-signature", help="Check a signature's time, and its nonce once."),
]
_Window = Annotated[
    str | None,
    typer.Option("--signature-window", metavar="TIME", help="How far off a strict signature may be: 7d, 2h30m."),
]
_UserLimit = Annotated[
    str | None,
    typer.Option("--user-limit", metavar="N", help="Registered Users in development, or `default`. Production: any."),
]
_TokenTtl = Annotated[
    str | None, typer.Option("--token-ttl", metavar="TIME", help="How long new Tokens are valid: 7d; 0: for ever.")
]
_CloseSessions = Annotated[
    bool | None,
    typer.Option(
        "--close-sessions-on-expire/--no-close-sessions-on-expire", help="Whether revoked Tokens end Sessions too."
    ),
]
_Reactivate = Annotated[
    str | None,
    typer.Option(
        "--reactivate-after", metavar="TIME", help="How soon a deactivated User may be reactivated: 7d, 2h30m."
    ),
]
_AuditDays = Annotated[int | None, typer.Option("--audit-days", metavar="N", help="How long the audit is kept.")]
_Rates = Annotated[
    str | None,
    typer.Option("--rate-limits", metavar="LIMITS", help="`rongcloud`, `off`, or NAME=CALLS_A_SECOND,…"),
]
_Webhook = Annotated[
    str | None, typer.Option("--webhook-url", metavar="URL", help="Where results of deactivation go; empty: nowhere.")
]
_PresenceWebhook = Annotated[
    str | None,
    typer.Option("--presence-webhook-url", metavar="URL", help="Where changes of who is online go; empty: nowhere."),
]
_Devices = Annotated[
    DevicePolicy | None, typer.Option("--device-policy", help="How many Sessions a User may have; the newest stays.")
]
_HidePresence = Annotated[
    bool | None,
    typer.Option("--hide-presence/--no-hide-presence", help="Show Users as offline to those whom their lists refuse."),
]

_Slices = Annotated[
    int | None,
    typer.Option("--presence-slices", metavar="N", help="Over how many slices Presence is spread, 1 to 64; only up."),
]


def set_(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The App's key.")],
    name: _Name = None,
    environment: _Environment = None,
    list_policy: _Policy = None,
    require_registered: _Registered = None,
    whitelists: _Whitelists = None,
    exempt: _Exempt = None,
    unexempt: _Unexempt = None,
    list_ceiling: _Ceiling = None,
    utc_offset: _Offset = None,
    strict_signature: _Strict = None,
    signature_window: _Window = None,
    user_limit: _UserLimit = None,
    token_ttl: _TokenTtl = None,
    close_sessions_on_expire: _CloseSessions = None,
    reactivate_after: _Reactivate = None,
    audit_days: _AuditDays = None,
    rate_limits: _Rates = None,
    webhook_url: _Webhook = None,
    presence_webhook_url: _PresenceWebhook = None,
    device_policy: _Devices = None,
    hide_presence: _HidePresence = None,
    presence_slices: _Slices = None,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    data: DataOption = DEFAULT_DATA,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change an App's settings; what is not named stays as it is."""
    told: dict[str, Any] = {
        "name": name,
        "environment": environment,
        "list_policy": list_policy,
        "require_registered": require_registered,
        "whitelists": whitelists,
        "list_ceiling": list_ceiling,
        "utc_offset_minutes": utc_offset,
        "strict_signature": strict_signature,
        "close_sessions_on_expire": close_sessions_on_expire,
        "audit_days": audit_days,
        "webhook_url": webhook_url,
        "presence_webhook_url": presence_webhook_url,
        "device_policy": device_policy,
        "hide_presence": hide_presence,
        "presence_slices": presence_slices,
    }
    changes = {setting: value for setting, value in told.items() if value is not None}
    with all_mistakes() as mistakes:
        wanted = mistakes.take(lambda: ids.app_key(key), "")
        if user_limit is not None:
            changes["user_limit"] = mistakes.take(lambda: _user_limit(user_limit), None)
        if rate_limits is not None:
            changes["rate_limits"] = mistakes.take(lambda: parse_limits(rate_limits), dict[str, int]())
        for setting, text in (
            ("signature_window_s", signature_window), ("token_ttl_s", token_ttl), ("reactivate_after_s", reactivate_after)
        ):  # fmt: skip
            if text is not None:
                changes[setting] = mistakes.take(partial(given_seconds, text, _option(setting)), 0)
        for mistake in setting_mistakes(changes, _option):
            mistakes.add(mistake)
        because = given_because(reason, actor, mistakes)
        added, removed = _senders(exempt, "--exempt", mistakes), _senders(unexempt, "--unexempt", mistakes)
    if not (changes or added or removed):
        raise InvalidInput("set", "name at least one setting to change (gate app set --help lists them)")
    _print(wanted, _change(Target(data, None, redis), wanted, changes, added, removed, because), as_json)


def _print(key: str, settled: Settled, as_json: bool) -> None:
    if as_json:
        print_json({"app_key": key, **settled.fields})
    else:
        say(f"changed App {key}: {settled.shown}")


def _change(
    target: Target,
    key: str,
    changes: dict[str, Any],
    added: frozenset[str],
    removed: frozenset[str],
    because: tuple[str, str],
) -> Settled:
    def changed(facts: AppFacts) -> AppFacts:
        exempt = (facts.exempt | added) - removed
        if mistakes := setting_mistakes({"exempt": exempt}, _option):
            raise InvalidConfig([str(mistake) for mistake in mistakes])
        return with_settings(facts, {"exempt": exempt, **changes}, _option)

    async def work(connection: StoreConnection) -> Settled:
        _, written = await connection.store.apps.update(key, changed, wall_ms(), *because)
        return await connection.settle(written)

    return run_with(target, work)


def _option(setting: str) -> str:
    return _OPTIONS.get(setting) or "--" + setting.replace("_", "-")


def _user_limit(text: str) -> int | None:
    if text == NO_OWN_LIMIT:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise InvalidInput("--user-limit", f"must be a whole number or {NO_OWN_LIMIT}, got {text[:40]!r}")
    return int(text)


def _senders(given: list[str] | None, option: str, mistakes: Mistakes) -> frozenset[str]:
    senders = set()
    for sender in given or ():
        raw = mistakes.take(lambda sender=sender: given_id(sender, option), b"")  # type: ignore[misc]
        try:
            senders.add(raw.decode())
        except UnicodeDecodeError:
            mistakes.add(InvalidInput(option, "an exempt sender's id must be UTF-8"))
    return frozenset(senders)
