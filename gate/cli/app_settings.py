"""`gate app set`: every setting of an App as an option; what is not named stays as it is.

What a setting may be is `gate.core.app_settings`' business, the same for `/v1/apps`; here are only names and spellings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any

import typer

from gate.cli.command import Command, takes
from gate.cli.options import Mistakes, all_mistakes, given_id
from gate.cli.store_connection import Settled, StoreConnection
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


@dataclass(frozen=True)
class SettingOptions:
    """An option for each setting; None leaves it as it is."""

    name: Annotated[str | None, typer.Option("--name", help="What people call it.")] = None
    environment: Annotated[Environment | None, typer.Option("--environment", help="What it is for.")] = None
    list_policy: Annotated[
        ListPolicy | None, typer.Option("--list-policy", help="Whether a Whitelist that is on replaces the Blacklist.")
    ] = None
    require_registered: Annotated[
        bool | None,
        typer.Option("--require-registered/--no-require-registered", help="Refuse Users that were never registered."),
    ] = None
    whitelists: Annotated[
        WhitelistSwitch | None, typer.Option("--whitelists", help="For everybody, or each User's own switch.")
    ] = None
    exempt: Annotated[
        list[str] | None, typer.Option("--exempt", metavar="USER", help="Add an exempt sender (may be repeated).")
    ] = None
    unexempt: Annotated[
        list[str] | None, typer.Option("--unexempt", metavar="USER", help="Remove one (may be repeated).")
    ] = None
    list_ceiling: Annotated[int | None, typer.Option("--list-ceiling", metavar="N", help="Entries an owner.")] = None
    utc_offset_minutes: Annotated[
        int | None, typer.Option("--utc-offset", metavar="MINUTES", help="Of the times that /user/* answers.")
    ] = None
    strict_signature: Annotated[
        bool | None,
        typer.Option("--strict-signature/--no-strict-signature", help="Check a signature's time, and its nonce once."),
    ] = None
    signature_window_s: Annotated[
        str | None,
        typer.Option("--signature-window", metavar="TIME", help="How far off a strict signature may be: 7d, 2h30m."),
    ] = None
    user_limit: Annotated[
        str | None,
        typer.Option(
            "--user-limit", metavar="N", help="Registered Users in development, or `default`. Production: any."
        ),
    ] = None
    token_ttl_s: Annotated[
        str | None, typer.Option("--token-ttl", metavar="TIME", help="How long new Tokens are valid: 7d; 0: for ever.")
    ] = None
    close_sessions_on_expire: Annotated[
        bool | None,
        typer.Option(
            "--close-sessions-on-expire/--no-close-sessions-on-expire", help="Whether revoked Tokens end Sessions too."
        ),
    ] = None
    reactivate_after_s: Annotated[
        str | None,
        typer.Option(
            "--reactivate-after", metavar="TIME", help="How soon a deactivated User may be reactivated: 7d, 2h30m."
        ),
    ] = None
    audit_days: Annotated[int | None, typer.Option("--audit-days", metavar="N", help="How long the audit is kept.")] = (
        None
    )
    rate_limits: Annotated[
        str | None,
        typer.Option("--rate-limits", metavar="LIMITS", help="`rongcloud`, `off`, or NAME=CALLS_A_SECOND,…"),
    ] = None
    webhook_url: Annotated[
        str | None,
        typer.Option("--webhook-url", metavar="URL", help="Where results of deactivation go; empty: nowhere."),
    ] = None
    presence_webhook_url: Annotated[
        str | None,
        typer.Option(
            "--presence-webhook-url", metavar="URL", help="Where changes of who is online go; empty: nowhere."
        ),
    ] = None
    device_policy: Annotated[
        DevicePolicy | None,
        typer.Option("--device-policy", help="How many Sessions a User may have; the newest stays."),
    ] = None
    hide_presence: Annotated[
        bool | None,
        typer.Option(
            "--hide-presence/--no-hide-presence", help="Show Users as offline to those whom their lists refuse."
        ),
    ] = None
    presence_slices: Annotated[
        int | None,
        typer.Option(
            "--presence-slices", metavar="N", help="Over how many slices Presence is spread, 1 to 64; only up."
        ),
    ] = None

    def changes(self, mistakes: Mistakes) -> dict[str, Any]:
        """The settings that were given, each read from its text."""
        changes: dict[str, Any] = {}
        for setting, value in asdict(self).items():
            if value is None or setting in ("exempt", "unexempt"):
                continue
            read, otherwise = _READERS.get(setting, (None, None))
            changes[setting] = value if read is None else mistakes.take(partial(read, value), otherwise)
        return changes


@takes("redis", audited=True)
def set_(
    command: Command,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The App's key.")],
    given: SettingOptions,
) -> None:
    """Change an App's settings; what is not named stays as it is."""
    with all_mistakes() as mistakes:
        wanted = mistakes.take(lambda: ids.app_key(key), "")
        changes = given.changes(mistakes)
        for mistake in setting_mistakes(changes, _option):
            mistakes.add(mistake)
        because = command.why_and_by(mistakes)
        added = _senders(given.exempt, "--exempt", mistakes)
        removed = _senders(given.unexempt, "--unexempt", mistakes)
    if not (changes or added or removed):
        raise InvalidInput("set", "name at least one setting to change (gate app set --help lists them)")

    def changed(facts: AppFacts) -> AppFacts:
        exempt = (facts.exempt | added) - removed
        if problems := setting_mistakes({"exempt": exempt}, _option):
            raise InvalidConfig([str(problem) for problem in problems])
        return with_settings(facts, {"exempt": exempt, **changes}, _option)

    async def work(connection: StoreConnection) -> Settled:
        _, written = await connection.store.apps.update(wanted, changed, wall_ms(), *because)
        return await connection.settle(written)

    command.print_settled(f"changed App {wanted}", {"app_key": wanted}, command.ask(work))


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


_READERS: dict[str, tuple[Callable[[str], Any], Any]] = {
    "user_limit": (_user_limit, None),
    "rate_limits": (parse_limits, {}),
    **{
        setting: (partial(given_seconds, parameter=_option(setting)), 0)
        for setting in ("signature_window_s", "token_ttl_s", "reactivate_after_s")
    },
}
"""Of settings that are given as text: what reads it, and the value where that is a mistake."""
