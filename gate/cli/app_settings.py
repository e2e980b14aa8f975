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
from gate.cli.remote import Remote, settled_of
from gate.cli.store_connection import Settled, StoreConnection
from gate.cli.time_format import given_seconds
from gate.clock import wall_ms
from gate.core import ids
from gate.core.app_settings import SETTINGS, setting_mistakes, with_settings
from gate.core.limits import parse_limits
from gate.core.model import AppFacts, DevicePolicy, Environment, ListPolicy, StalePolicy, WhitelistSwitch
from gate.errors import InvalidConfig, InvalidInput

NO_OWN_LIMIT = "default"

_OPTIONS = {"utc_offset_minutes": "--utc-offset", "signature_window_s": "--signature-window"}
_OPTIONS |= {"token_ttl_s": "--token-ttl", "reactivate_after_s": "--reactivate-after"}
"""Of settings whose option is not simply their name."""


def _help(setting: str, written: str = "") -> str:
    """The meaning of a setting, and its bounds or how it is written."""
    meaning, bounds = SETTINGS[setting].meaning, SETTINGS[setting].bounds
    if not written and bounds:
        written = f"{bounds[0]} to {bounds[1]}"
    return f"{meaning.removesuffix('.')}: {written}." if written else meaning


@dataclass(frozen=True)
class SettingOptions:
    """An option for each setting; None leaves it as it is."""

    name: Annotated[str | None, typer.Option("--name", help=_help("name"))] = None
    environment: Annotated[Environment | None, typer.Option("--environment", help=_help("environment"))] = None
    list_policy: Annotated[ListPolicy | None, typer.Option("--list-policy", help=_help("list_policy"))] = None
    require_registered: Annotated[
        bool | None,
        typer.Option("--require-registered/--no-require-registered", help=_help("require_registered")),
    ] = None
    whitelists: Annotated[WhitelistSwitch | None, typer.Option("--whitelists", help=_help("whitelists"))] = None
    exempt: Annotated[
        list[str] | None, typer.Option("--exempt", metavar="USER", help="Add an exempt sender (may be repeated).")
    ] = None
    unexempt: Annotated[
        list[str] | None, typer.Option("--unexempt", metavar="USER", help="Remove one (may be repeated).")
    ] = None
    list_ceiling: Annotated[int | None, typer.Option("--list-ceiling", metavar="N", help=_help("list_ceiling"))] = None
    utc_offset_minutes: Annotated[
        int | None, typer.Option("--utc-offset", metavar="MINUTES", help=_help("utc_offset_minutes"))
    ] = None
    strict_signature: Annotated[
        bool | None,
        typer.Option("--strict-signature/--no-strict-signature", help=_help("strict_signature")),
    ] = None
    signature_window_s: Annotated[
        str | None,
        typer.Option("--signature-window", metavar="TIME", help=_help("signature_window_s", "7d, 2h30m")),
    ] = None
    user_limit: Annotated[
        str | None,
        typer.Option("--user-limit", metavar="N", help=_help("user_limit", "a number, or `default`")),
    ] = None
    token_ttl_s: Annotated[
        str | None, typer.Option("--token-ttl", metavar="TIME", help=_help("token_ttl_s", "7d, 2h30m"))
    ] = None
    close_sessions_on_expire: Annotated[
        bool | None,
        typer.Option(
            "--close-sessions-on-expire/--no-close-sessions-on-expire", help=_help("close_sessions_on_expire")
        ),
    ] = None
    reactivate_after_s: Annotated[
        str | None,
        typer.Option("--reactivate-after", metavar="TIME", help=_help("reactivate_after_s", "7d, 2h30m")),
    ] = None
    audit_days: Annotated[int | None, typer.Option("--audit-days", metavar="N", help=_help("audit_days"))] = None
    rate_limits: Annotated[
        str | None,
        typer.Option(
            "--rate-limits", metavar="LIMITS", help=_help("rate_limits", "`rongcloud`, `off`, or NAME=CALLS_A_SECOND,…")
        ),
    ] = None
    webhook_url: Annotated[
        str | None,
        typer.Option("--webhook-url", metavar="URL", help=_help("webhook_url")),
    ] = None
    presence_webhook_url: Annotated[
        str | None,
        typer.Option("--presence-webhook-url", metavar="URL", help=_help("presence_webhook_url")),
    ] = None
    device_policy: Annotated[
        DevicePolicy | None,
        typer.Option("--device-policy", help=_help("device_policy")),
    ] = None
    hide_presence: Annotated[
        bool | None,
        typer.Option("--hide-presence/--no-hide-presence", help=_help("hide_presence")),
    ] = None
    presence_slices: Annotated[
        int | None,
        typer.Option("--presence-slices", metavar="N", help=_help("presence_slices")),
    ] = None
    shadow: Annotated[bool | None, typer.Option("--shadow/--no-shadow", help=_help("shadow"))] = None
    on_stale: Annotated[StalePolicy | None, typer.Option("--on-stale", help=_help("on_stale"))] = None
    max_staleness_ms: Annotated[
        int | None, typer.Option("--max-staleness-ms", metavar="MS", help=_help("max_staleness_ms"))
    ] = None

    def changes(self, mistakes: Mistakes) -> dict[str, Any]:
        """The settings that were given, each read from its text."""
        changes: dict[str, Any] = {}
        for setting, value in asdict(self).items():
            # These two change a set, and have no value of their own.
            if value is None or setting in ("exempt", "unexempt"):
                continue
            read, otherwise = _READERS.get(setting, (None, None))
            changes[setting] = value if read is None else mistakes.take(partial(read, value), otherwise)
        return changes


@takes("redis", audited=True, afar=True)
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
        # On the set as it is stored: two operators that add at once both succeed.
        exempt = (facts.exempt | added) - removed
        # Only here is the whole set known, and its number bounded.
        if problems := setting_mistakes({"exempt": exempt}, _option):
            raise InvalidConfig([str(problem) for problem in problems])
        return with_settings(facts, {"exempt": exempt, **changes}, _option)

    async def work(connection: StoreConnection) -> Settled:
        _, written = await connection.store.apps.update(wanted, changed, wall_ms(), *because)
        return await connection.settle(written)

    def afar(remote: Remote) -> Settled:
        named = dict(changes)
        if added or removed:  # another change of these meanwhile would be lost: the endpoint takes the whole list
            known = frozenset(remote.get(f"/v1/apps/{wanted}")["exempt"])
            named["exempt"] = sorted((known | added) - removed)
        # Not by `write`, which leaves out what is None: here it is a value, that of `--user-limit default`.
        return settled_of(remote.send("PATCH", f"/v1/apps/{wanted}", named | {"reason": because[0]}))

    command.print_settled(f"changed App {wanted}", {"app_key": wanted}, command.ask(work, afar))


def _option(setting: str) -> str:
    return _OPTIONS.get(setting) or "--" + setting.replace("_", "-")


def _user_limit(text: str) -> int | None:
    if text == NO_OWN_LIMIT:
        return None
    # `int` would take blanks, signs and underscores.
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise InvalidInput("--user-limit", f"must be a whole number or {NO_OWN_LIMIT}, got {text[:40]!r}")
    return int(text)


def _senders(given: list[str] | None, option: str, mistakes: Mistakes) -> frozenset[str]:
    senders = set()
    for sender in given or ():
        raw = mistakes.take(lambda sender=sender: given_id(sender, option), b"")  # type: ignore[misc]
        try:
            # Settings are JSON, which holds no other bytes.
            senders.add(raw.decode())
        except UnicodeDecodeError:
            mistakes.add(InvalidInput(option, "an exempt sender's id must be UTF-8"))
    return frozenset(senders)


# Of settings that are given as text: what reads it, and the value where that is a mistake.
# Typer reads numbers and choices; these have spellings of their own.
_READERS: dict[str, tuple[Callable[[str], Any], Any]] = {
    "user_limit": (_user_limit, None),
    "rate_limits": (parse_limits, {}),
    **{
        setting: (partial(given_seconds, parameter=_option(setting)), 0)
        for setting in ("signature_window_s", "token_ttl_s", "reactivate_after_s")
    },
}
