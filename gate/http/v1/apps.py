"""`/v1/apps`: operators see, create, change and remove Apps, and turn over their secrets.

    GET    /v1/apps                       viewer    all Apps
    POST   /v1/apps                       admin     a new App; the one answer that shows its secret
    GET    /v1/apps/{app}                 viewer    one App's settings
    PATCH  /v1/apps/{app}                 operator  change settings; some take an admin (`ADMINS_ONLY`)
    DELETE /v1/apps/{app}                 admin     remove the App and every fact of its Users
    POST   /v1/apps/{app}/rotate-secret   admin     a new secret next to the old one; the one answer that shows it
    POST   /v1/apps/{app}/drop-secret     admin     end the old secret, and its Tokens or not
           /v1/apps/{app}/keys            admin     its keys with scopes (`app_keys`)
    GET    /v1/deployment-audit           viewer    what was done to Apps and operators; facts that Redis lost

An operator that is limited to Apps sees and changes only these; for it the others do not exist, and what concerns the whole
deployment (a new App, the deployment's audit) is refused.

HTTP Basic with an operator's name and password. The operator's name goes into the App's audit, with the `reason` of the body.
Settings are named as `gate app show --json` names them; no answer holds a secret but where it is new.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gate.core.app_secrets import (
    MAX_SECRET_CHARS,
    MIN_SECRET_CHARS,
    MIN_SHORT_SECRET_CHARS,
    app_secret,
    with_new_secret,
    without_old_secret,
)
from gate.core.app_settings import (
    ADMINS_ONLY,
    BOUNDS,
    MAX_EXEMPT,
    MAX_NAME_CHARS,
    MAX_URL_CHARS,
    SETTINGS,
    app_document,
    setting_mistakes,
    with_settings,
)
from gate.core.ids import app_key
from gate.core.limits import LIMITABLE, MAX_RATE
from gate.core.model import AppFacts, DevicePolicy, Environment, ListPolicy, StalePolicy, WhitelistSwitch
from gate.core.operators import OperatorRole, may
from gate.errors import InvalidInput, NotFound
from gate.http.endpoint import Effective, Endpoint, answered
from gate.http.errors import RoleInsufficient
from gate.http.fields import APP_KEY, Reason, TextId
from gate.http.operators import OperatorRequest, Reach
from gate.http.requests import Body, Schema
from gate.http.v1 import app_keys
from gate.http.v1.app_keys import KeyShown, RemovalQuery
from gate.http.v1.audit import DeploymentAuditPage, DeploymentAuditQuery, deployment_audit_line
from gate.store.new_credentials import new_app_key, new_app_secret


def _setting(name: str, **schema: Any) -> Meta:
    """A setting's meaning, and the bounds of a number, for the document: `setting_mistakes` checks them."""
    bounds = BOUNDS.get(name)
    limits = {} if bounds is None else {"minimum": bounds[0], "maximum": bounds[1]}
    return Meta(description=SETTINGS[name].meaning, extra_json_schema=limits | schema or None)


def _check_name(name: str) -> None:
    for mistake in setting_mistakes({"name": name}):
        raise mistake


_NAME_SCHEMA = {"format": "app-name", "minLength": 1, "maxLength": MAX_NAME_CHARS, "examples": ["Shop"]}
NewKey = Annotated[str, Meta(extra_json_schema=APP_KEY, extra={"check": app_key})]
NewSecret = Annotated[
    str,
    Meta(
        extra_json_schema={
            "pattern": f"^[!-~]{{{MIN_SHORT_SECRET_CHARS},{MAX_SECRET_CHARS}}}$",
            "examples": ["a-secret-of-our-own-here"],
        },
    ),
]
# A short secret only together with the flag.
_LONG_OR_ALLOWED: Schema = {
    "anyOf": [
        {"properties": {"secret": {"minLength": MIN_SECRET_CHARS}}},
        {"properties": {"short_secret": {"const": True}}, "required": ["short_secret"]},
    ]
}


def _secret_mistakes(secret: str | None, short_secret: bool) -> Iterable[InvalidInput]:
    try:
        if secret is not None:
            app_secret(secret, allows_short=short_secret, flag='"short_secret": true')
    except InvalidInput as mistake:
        return [mistake]
    return []


_URL_SCHEMA = {"format": "webhook-url", "maxLength": MAX_URL_CHARS, "examples": ["https://app.example/gate"]}
Rate = Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": MAX_RATE})]
_RATES_SCHEMA = {
    "propertyNames": {"enum": sorted(LIMITABLE)},
}


class Creating(Body, frozen=True, kw_only=True):
    """A new App. Key and secret are made up if none is given; one of fewer than 20 characters needs `short_secret`."""

    SCHEMA: ClassVar[Schema] = _LONG_OR_ALLOWED

    name: Annotated[str, Meta(extra_json_schema=_NAME_SCHEMA, extra={"check": _check_name})]
    key: NewKey | None = None
    secret: NewSecret | None = None
    short_secret: bool = False
    environment: Environment = "development"
    reason: Reason = ""

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """An invalid secret, or one that is too short."""
        return _secret_mistakes(self.secret, self.short_secret)


class Changing(Body, frozen=True, kw_only=True):
    """Settings; what is not named stays as it is."""

    name: Annotated[str, _setting("name", **_NAME_SCHEMA)] | UnsetType = UNSET
    environment: Annotated[Environment, _setting("environment")] | UnsetType = UNSET
    require_registered: Annotated[bool, _setting("require_registered")] | UnsetType = UNSET
    list_policy: Annotated[ListPolicy, _setting("list_policy")] | UnsetType = UNSET
    whitelists: Annotated[WhitelistSwitch, _setting("whitelists")] | UnsetType = UNSET
    exempt: Annotated[frozenset[TextId], _setting("exempt", maxItems=MAX_EXEMPT)] | UnsetType = UNSET
    list_ceiling: Annotated[int, _setting("list_ceiling")] | UnsetType = UNSET
    utc_offset_minutes: Annotated[int, _setting("utc_offset_minutes")] | UnsetType = UNSET
    strict_signature: Annotated[bool, _setting("strict_signature")] | UnsetType = UNSET
    signature_window_s: Annotated[int, _setting("signature_window_s")] | UnsetType = UNSET
    user_limit: Annotated[int, _setting("user_limit")] | UnsetType | None = UNSET
    token_ttl_s: Annotated[int, _setting("token_ttl_s")] | UnsetType = UNSET
    close_sessions_on_expire: Annotated[bool, _setting("close_sessions_on_expire")] | UnsetType = UNSET
    reactivate_after_s: Annotated[int, _setting("reactivate_after_s")] | UnsetType = UNSET
    audit_days: Annotated[int, _setting("audit_days")] | UnsetType = UNSET
    rate_limits: Annotated[dict[str, Rate], _setting("rate_limits", **_RATES_SCHEMA)] | UnsetType = UNSET
    webhook_url: Annotated[str, _setting("webhook_url", **_URL_SCHEMA)] | UnsetType = UNSET
    device_policy: Annotated[DevicePolicy, _setting("device_policy")] | UnsetType = UNSET
    hide_presence: Annotated[bool, _setting("hide_presence")] | UnsetType = UNSET
    presence_webhook_url: Annotated[str, _setting("presence_webhook_url", **_URL_SCHEMA)] | UnsetType = UNSET
    presence_slices: Annotated[int, _setting("presence_slices")] | UnsetType = UNSET
    shadow: bool | UnsetType = UNSET
    on_stale: StalePolicy | UnsetType = UNSET
    max_staleness_ms: Annotated[int, _setting("max_staleness_ms")] | UnsetType = UNSET
    reason: Reason = ""

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that are named."""
        # UNSET and not None marks what is absent: null is a value of `user_limit`.
        named = {name: getattr(self, name) for name in self.__struct_fields__ if name != "reason"}
        return {name: value for name, value in named.items() if value is not UNSET}

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """Settings out of their bounds, or none at all."""
        changes = self.changes
        return setting_mistakes(changes) if changes else [InvalidInput("body", "must name at least one setting")]


# Set after the class, because it lists the fields that the class has.
Changing.SCHEMA = {"anyOf": [{"required": [name]} for name in Changing.__struct_fields__ if name != "reason"]}


class Rotating(Body, frozen=True, kw_only=True):
    """A new secret, made up if none is given; one of fewer than 20 characters needs `short_secret`."""

    SCHEMA: ClassVar[Schema] = _LONG_OR_ALLOWED

    secret: NewSecret | None = None
    short_secret: bool = False
    reason: Reason = ""

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """An invalid secret, or one that is too short."""
        return _secret_mistakes(self.secret, self.short_secret)


class Dropping(Body, frozen=True, kw_only=True):
    """The end of the old secret. It must be given whether the Tokens minted under it live on."""

    keep_tokens: bool
    reason: Reason = ""


# Shown otherwise than they are stored.
_HIDDEN_SETTINGS = ("secrets", "token_keys", "keys")
_SHOWN_SETTINGS: list[tuple[str, Any]] = [
    *((one.name, one.type) for one in msgspec.structs.fields(AppFacts) if one.name not in _HIDDEN_SETTINGS),
    ("keys", list[KeyShown]),
    ("secret_count", int),
    ("token_key_count", int),
]
# The settings are those of `AppFacts`, so that a new one is in the answers without being named here.
AppSettings = msgspec.defstruct(
    "AppSettings",
    _SHOWN_SETTINGS,
    kw_only=True,
    namespace={"__doc__": "An App. Of its secrets only how many there are."},
)
AppChanged = msgspec.defstruct(
    "AppChanged",
    _SHOWN_SETTINGS,
    bases=(Effective,),
    kw_only=True,
    namespace={"__doc__": "The App as it is then, and how far the write got."},
)


class AppsPage(Struct, kw_only=True):
    """All Apps, by key."""

    apps: list[AppSettings]  # type: ignore[valid-type]


class SecretMade(Effective, kw_only=True):
    """The new secret, shown this once."""

    app_key: str
    app_secret: str
    secret_count: int


class SecretDropped(Effective, kw_only=True):
    """How many secrets sign, and how many dropped ones' Tokens live on."""

    app_key: str
    secret_count: int
    token_key_count: int


class AppMade(Effective, kw_only=True):
    """The new App, its secret shown this once."""

    app_key: str
    app_secret: str
    name: str
    environment: Environment


async def list_apps(call: OperatorRequest) -> AppsPage:
    """The Apps that the operator may see, by key."""
    apps = await call.deps.store.apps.list()
    return AppsPage(apps=[AppSettings(**app_document(facts)) for facts in apps if call.operator.reaches(facts.key)])


async def show(call: OperatorRequest) -> AppSettings:  # type: ignore[valid-type]
    """One App."""
    return AppSettings(**app_document(await call.app()))


async def create(call: OperatorRequest, body: Creating) -> AppMade:
    """It can be used when this is answered."""
    key, secret = body.key or new_app_key(), body.secret or new_app_secret()
    # Everything else is at its default, which `PATCH` changes.
    facts = AppFacts(
        key=key, name=body.name, secrets=(secret,), environment=body.environment, created_at_ms=call.now_ms
    )
    written = await call.deps.store.apps.create(facts, call.now_ms, body.reason, call.operator.name)
    return await answered(
        call, AppMade, written, app_key=key, app_secret=secret, name=body.name, environment=body.environment
    )


async def change(call: OperatorRequest, body: Changing) -> AppChanged:  # type: ignore[valid-type]
    """The App as it is then."""
    changes = body.changes
    # Not in the table of roles, since it depends on the body. The whole call is refused, so nothing is changed by half.
    above = sorted(changes.keys() & ADMINS_ONLY)
    if above and not may(call.operator.role, "admin"):
        raise RoleInsufficient(f"only an admin may change {', '.join(above)}")
    facts, written = await call.update_app(lambda facts: with_settings(facts, changes), body.reason)
    return await answered(call, AppChanged, written, **app_document(facts))


async def remove(call: OperatorRequest, query: RemovalQuery) -> Effective:
    """There is no way back but an export. Its audit goes with it. Called again, it finishes one that broke off."""
    apps, key = call.deps.store.apps, call.path_app()
    try:
        await call.app()
    except NotFound:
        # The record of the App goes first, so a removal that broke off leaves facts of Users without one.
        await apps.finish_removal(key)
        raise
    return await answered(call, Effective, await apps.remove(key, call.now_ms, query.reason, call.operator.name))


async def rotate_secret(call: OperatorRequest, body: Rotating) -> SecretMade:
    """From now on both secrets sign, and Tokens are minted under the new one."""
    # Drawn before the change, which is made again after a concurrent one.
    fresh = body.secret or new_app_secret()
    facts, written = await call.update_app(lambda facts: with_new_secret(facts, fresh), body.reason)
    return await answered(
        call, SecretMade, written, app_key=facts.key, app_secret=fresh, secret_count=len(facts.secrets)
    )


async def drop_secret(call: OperatorRequest, body: Dropping) -> SecretDropped:
    """The newest secret stays. If there is no old one nothing ends, and that is no error."""
    facts, written = await call.update_app(
        lambda facts: without_old_secret(facts, keep_tokens=body.keep_tokens), body.reason
    )
    # Numbers only: no answer shows a secret that exists already.
    counts = {"secret_count": len(facts.secrets), "token_key_count": len(facts.token_keys)}
    return await answered(call, SecretDropped, written, app_key=facts.key, **counts)


async def deployment_audit(call: OperatorRequest, query: DeploymentAuditQuery) -> DeploymentAuditPage:
    """The latest entry first; `next` is the cursor of the following page, or null. No removal of an App removes an entry."""
    entries, following = await call.deps.store.audit.deployment_page(
        query.count, from_ms=query.from_ms, to_ms=query.to_ms, cursor=query.cursor
    )
    return DeploymentAuditPage(entries=[deployment_audit_line(entry) for entry in entries], next=following)


# By path and method: the role it takes, and what it does.
ENDPOINTS: dict[tuple[str, str], tuple[OperatorRole, Endpoint[OperatorRequest]]] = {
    ("/v1/apps", "GET"): ("viewer", Endpoint("All Apps", list_apps)),
    ("/v1/apps", "POST"): ("admin", Endpoint("Create an App", create, faults=("refused",))),
    ("/v1/apps/{app}", "GET"): ("viewer", Endpoint("Show an App", show, faults=("not-found",))),
    ("/v1/apps/{app}", "PATCH"): ("operator", Endpoint("Change an App", change, faults=("not-found",))),
    ("/v1/apps/{app}", "DELETE"): ("admin", Endpoint("Remove an App", remove, faults=("not-found",))),
    ("/v1/apps/{app}/rotate-secret", "POST"): (
        "admin",
        Endpoint("Give an App a new secret next to the old one", rotate_secret, faults=("not-found", "refused")),
    ),
    ("/v1/apps/{app}/drop-secret", "POST"): (
        "admin",
        Endpoint("End an App's old secret", drop_secret, faults=("not-found", "refused")),
    ),
    **app_keys.ENDPOINTS,
    ("/v1/deployment-audit", "GET"): ("viewer", Endpoint("What was done to Apps and operators", deployment_audit)),
}

# Endpoints without an App in their path that answer an operator about the Apps that it may see.
OF_SOME_APPS = {("/v1/apps", "GET")}


def reach_of(path: str, method: str) -> Reach:
    """What an endpoint concerns. Unless it is named above or names an App, that is the deployment."""
    # Whatever is not named is closed to operators that are limited to Apps: a new endpoint is safe by default.
    return "app" if "{app}" in path else "apps" if (path, method) in OF_SOME_APPS else "deployment"
