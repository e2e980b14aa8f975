"""The facts on which verdicts depend: an App's settings and a User's state.

These are values: the store writes them, the Changelog carries them, the Replica stores them, `decide` reads them. Every moment
is Unix milliseconds; 0 means "never", `FOREVER_MS` means "without end".
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import msgspec

from gate.core.scopes import AppKey

# No end. The largest integer that both a Redis sorted-set score and a JSON reader represent exactly.
FOREVER_MS = (1 << 53) - 1
# The longest duration of a Ban, a Mute or a list entry: a century. A longer one is probably in other units.
LONGEST_DURATION_S = 100 * 366 * 86_400

# Stored secrets that begin so are sealed (`gate.sealing`).
SEALED_PREFIX = "enc:1:"

Environment = Literal["development", "production"]
ListPolicy = Literal["whitelist-replaces-blacklist", "both"]
WhitelistSwitch = Literal["per-user", "on", "off"]
DevicePolicy = Literal["all", "one-per-platform", "one"]
StalePolicy = Literal["deployment", "serve", "refuse"]

# Entries per owner; RongCloud's documented ceiling on its paid plans.
DEFAULT_LIST_CEILING = 3_000
# Users of a development App that sets no limit of its own; RongCloud's figure.
DEVELOPMENT_USER_LIMIT = 100
DEFAULT_REACTIVATE_AFTER_S = 3_600
DEFAULT_AUDIT_DAYS = 90


class ListKind(IntEnum):
    """Which of an owner's two lists."""

    BLACKLIST = 0
    WHITELIST = 1


class AppFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An App: its credentials and settings, as stored (JSON) in Redis, in the Changelog and in the Replica.

    `secrets` holds one secret, or two during a rotation; the first is the current one. `whitelists` is the App-wide switch:
    "on" or "off" overrides each User's own, "per-user" leaves the choice to the User. `exempt` senders (official accounts) are
    not subject to mutes, whitelists and blacklists.

    `user_limit` counts registered Users; None means the default of the environment. `token_keys` are the Token keys (hex, see
    `token.signing_key`) of secrets that were dropped while their Tokens stayed valid. `rate_limits` is calls a second by group
    of endpoints. `webhook_url` receives results of deactivation and reactivation; "" switches that off.

    `device_policy` limits the Sessions of a User: any number, one per platform, or one; the newest stays. `hide_presence` shows
    a User as offline to those whom the User's lists refuse. `presence_webhook_url` receives changes of presence; "" switches
    that off. `presence_slices` is the number of slices of the App's Presence; it can only grow. `keys` are credentials with
    fewer scopes than the App's own secrets have (`app_keys`).

    `shadow` is shadow mode: a check that the rules deny is counted, and answered `allowed`. `on_stale` is the failure policy:
    what a check does with facts older than `max_staleness_ms`; "deployment" leaves the choice, and 0 the age, to the
    deployment's options.
    """

    key: str
    name: str = ""
    secrets: tuple[str, ...]
    environment: Environment = "development"
    created_at_ms: int = 0
    require_registered: bool = False
    list_policy: ListPolicy = "whitelist-replaces-blacklist"
    whitelists: WhitelistSwitch = "per-user"
    exempt: frozenset[str] = frozenset()
    list_ceiling: int = DEFAULT_LIST_CEILING
    utc_offset_minutes: int = 480
    strict_signature: bool = False
    signature_window_s: int = 300
    user_limit: int | None = None
    token_ttl_s: int = 0
    token_keys: tuple[str, ...] = ()
    close_sessions_on_expire: bool = False
    reactivate_after_s: int = DEFAULT_REACTIVATE_AFTER_S
    audit_days: int = DEFAULT_AUDIT_DAYS
    rate_limits: dict[str, int] = {}
    webhook_url: str = ""
    device_policy: DevicePolicy = "all"
    hide_presence: bool = False
    presence_webhook_url: str = ""
    presence_slices: int = 1
    keys: tuple[AppKey, ...] = ()
    shadow: bool = False
    on_stale: StalePolicy = "deployment"
    max_staleness_ms: int = 0

    def age_limit_ms(self, deployment_ms: int) -> int:
        """Return the age of facts past which this App's checks are refused; 0 for never.

        `deployment_ms` is that limit for Apps without a policy of their own.
        """
        if self.on_stale == "serve" or not (deployment_ms or self.on_stale == "refuse"):
            return 0
        return self.max_staleness_ms or deployment_ms

    @property
    def has_own_age_limit(self) -> bool:
        """Whether `age_limit_ms` may differ from the deployment's limit."""
        return self.on_stale != "deployment" or self.max_staleness_ms > 0

    @property
    def most_users(self) -> int | None:
        """Maximum of registered Users; None for any number. Production Apps have no limit."""
        if self.environment == "production":
            return None
        return DEVELOPMENT_USER_LIMIT if self.user_limit is None else self.user_limit


class UserFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one User that affect verdicts. A User without any fact equals `NO_FACTS`."""

    registered: bool = False
    deactivated: bool = False
    whitelist_on: bool = False
    banned_until_ms: int = 0
    muted_until_ms: int = 0
    tokens_valid_from_ms: int = 0
    blacklist_size: int = 0
    whitelist_size: int = 0


NO_FACTS = UserFacts()
