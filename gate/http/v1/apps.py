"""`/v1/apps`: operators see, create, change and remove Apps, and turn over their secrets.

    GET    /v1/apps                       viewer    all Apps
    POST   /v1/apps                       admin     a new App; the one answer that shows its secret
    GET    /v1/apps/{app}                 viewer    one App's settings
    PATCH  /v1/apps/{app}                 operator  change settings; some take an admin (`ADMINS_ONLY`)
    DELETE /v1/apps/{app}                 admin     remove the App and every fact of its Users
    POST   /v1/apps/{app}/rotate-secret   admin     a new secret beside the old one; the one answer that shows it
    POST   /v1/apps/{app}/drop-secret     admin     end the old secret, and its Tokens or not
    GET    /v1/deployment-audit           viewer    what was done to Apps and operators; facts that Redis lost

HTTP Basic with an operator's name and password. The operator's name goes into the App's audit, with the `reason` of the body.
Settings are named as `gate app show --json` names them; no answer holds a secret but where it is new.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from gate.core.app_secrets import app_secret, with_new_secret, without_old_secret
from gate.core.app_settings import ADMINS_ONLY, app_document, setting_mistakes, with_settings
from gate.core.ids import app_key
from gate.core.model import FOREVER_MS, AppFacts, DevicePolicy, Environment, ListPolicy, WhitelistSwitch
from gate.core.operators import OperatorRole, may
from gate.errors import AppUnknown, InvalidInput, NotFound
from gate.http.errors import RoleInsufficient
from gate.http.fields import check_reason
from gate.http.operators import OPERATOR_REQUEST, OperatorRequest
from gate.http.v1.audit import DEFAULT_PAGE, deployment_json
from gate.http.v1.endpoint import Done, Outcome, read_as, refuse_if_any, replied
from gate.store.audit import MAX_PAGE
from gate.store.new_credentials import new_app_key, new_app_secret
from gate.store.writer import WriteReceipt

Endpoint = Callable[[OperatorRequest], Awaitable[Outcome]]


async def answer(endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
    """Run the endpoint for the operator that was authenticated."""
    call = request[OPERATOR_REQUEST]
    return await replied(call, await endpoint(call))


T = TypeVar("T")


class Creating(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new App. Key and secret are made up where none is given."""

    name: str
    key: str | None = None
    secret: str | None = None
    environment: Environment = "development"
    reason: str = ""


class Changing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings; what is not named stays as it is."""

    name: str | UnsetType = UNSET
    environment: Environment | UnsetType = UNSET
    require_registered: bool | UnsetType = UNSET
    list_policy: ListPolicy | UnsetType = UNSET
    whitelists: WhitelistSwitch | UnsetType = UNSET
    exempt: frozenset[str] | UnsetType = UNSET
    list_ceiling: int | UnsetType = UNSET
    utc_offset_minutes: int | UnsetType = UNSET
    strict_signature: bool | UnsetType = UNSET
    signature_window_s: int | UnsetType = UNSET
    user_limit: int | UnsetType | None = UNSET
    token_ttl_s: int | UnsetType = UNSET
    close_sessions_on_expire: bool | UnsetType = UNSET
    reactivate_after_s: int | UnsetType = UNSET
    audit_days: int | UnsetType = UNSET
    rate_limits: dict[str, int] | UnsetType = UNSET
    webhook_url: str | UnsetType = UNSET
    device_policy: DevicePolicy | UnsetType = UNSET
    hide_presence: bool | UnsetType = UNSET
    presence_webhook_url: str | UnsetType = UNSET
    presence_slices: int | UnsetType = UNSET
    reason: str = ""


class Rotating(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new secret; made up where none is given."""

    secret: str | None = None
    reason: str = ""


class Dropping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The end of the old secret. Whether the Tokens minted under it live on must be said."""

    keep_tokens: bool
    reason: str = ""


async def list_apps(call: OperatorRequest) -> dict[str, object]:
    """All Apps, by key."""
    return {"apps": [app_document(facts) for facts in await call.deps.store.apps.list()]}


async def show(call: OperatorRequest) -> dict[str, object]:
    """One App."""
    return app_document(await _found(call.deps.store.apps.get(call.path_app())))


async def create(call: OperatorRequest) -> Done:
    """It can be used when this is answered."""
    body = await read_as(call, Creating)
    problems = setting_mistakes({"name": body.name})
    check_reason(body.reason, "", problems)
    key = _taken(app_key, new_app_key() if body.key is None else body.key, "key", problems)
    secret = _taken(app_secret, new_app_secret() if body.secret is None else body.secret, "secret", problems)
    refuse_if_any(problems)
    facts = AppFacts(
        key=key, name=body.name, secrets=(secret,), environment=body.environment, created_at_ms=call.now_ms
    )
    written = await call.deps.store.apps.create(facts, call.now_ms, body.reason, call.operator.name)
    return Done({"app_key": key, "app_secret": secret, "name": body.name, "environment": body.environment}, written)


async def change(call: OperatorRequest) -> Done:
    """The App as it is then."""
    body = await read_as(call, Changing)
    changes = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
    del changes["reason"]
    problems = setting_mistakes(changes) if changes else [InvalidInput("body", "must name at least one setting")]
    check_reason(body.reason, "", problems)
    refuse_if_any(problems)
    above = sorted(changes.keys() & ADMINS_ONLY)
    if above and not may(call.operator.role, "admin"):
        raise RoleInsufficient(f"only an admin may change {', '.join(above)}")
    facts, written = await _update(call, lambda facts: with_settings(facts, changes), body.reason)
    return Done(app_document(facts), written)


async def remove(call: OperatorRequest) -> WriteReceipt:
    """There is no way back but an export. Its audit goes with it. Asked again, it finishes one that broke off."""
    apps, key = call.deps.store.apps, call.path_app()
    try:
        await _found(apps.get(key))
    except NotFound:
        await apps.finish_removal(key)
        raise
    return await apps.remove(key, call.now_ms, by=call.operator.name)


async def rotate_secret(call: OperatorRequest) -> Done:
    """From now on both secrets sign, and Tokens are minted under the new one."""
    body = await read_as(call, Rotating)
    problems: list[InvalidInput] = []
    fresh = _taken(app_secret, new_app_secret() if body.secret is None else body.secret, "secret", problems)
    check_reason(body.reason, "", problems)
    refuse_if_any(problems)
    facts, written = await _update(call, lambda facts: with_new_secret(facts, fresh), body.reason)
    return Done({"app_key": facts.key, "app_secret": fresh, "secret_count": len(facts.secrets)}, written)


async def drop_secret(call: OperatorRequest) -> Done:
    """The newest secret stays. Where there is no old one nothing ends, and that is no error."""
    body = await read_as(call, Dropping)
    problems: list[InvalidInput] = []
    check_reason(body.reason, "", problems)
    refuse_if_any(problems)
    facts, written = await _update(
        call, lambda facts: without_old_secret(facts, keep_tokens=body.keep_tokens), body.reason
    )
    counts = {"secret_count": len(facts.secrets), "token_key_count": len(facts.token_keys)}
    return Done({"app_key": facts.key, **counts}, written)


async def deployment_audit(call: OperatorRequest) -> dict[str, object]:
    """The latest entry first; `next` is the cursor of the following page, or null. No removal of an App removes an entry."""
    query = call.query()
    entries, following = await call.deps.store.audit.deployment_page(
        query.whole("count", 1, MAX_PAGE, default=DEFAULT_PAGE),
        from_ms=query.whole("from", 0, FOREVER_MS, default=0),
        to_ms=query.whole("to", 0, FOREVER_MS, default=FOREVER_MS),
        cursor=query.text("cursor"),
    )
    return {"entries": [deployment_json(entry) for entry in entries], "next": following}


async def _update(
    call: OperatorRequest, mutate: Callable[[AppFacts], AppFacts], reason: str
) -> tuple[AppFacts, WriteReceipt]:
    return await _found(call.deps.store.apps.update(call.path_app(), mutate, call.now_ms, reason, call.operator.name))


async def _found(asked: Awaitable[T]) -> T:
    """An App that the path names and that isn't there is no matter of credentials here."""
    try:
        return await asked
    except AppUnknown as fault:
        raise NotFound(str(fault)) from None


def _taken(check: Callable[[str], str], value: str, parameter: str, problems: list[InvalidInput]) -> str:
    try:
        return check(value)
    except InvalidInput as fault:
        problems.append(InvalidInput(parameter, fault.problem))
        return ""


ENDPOINTS: dict[tuple[str, str], tuple[OperatorRole, Endpoint]] = {
    ("/v1/apps", "GET"): ("viewer", list_apps),
    ("/v1/apps", "POST"): ("admin", create),
    ("/v1/apps/{app}", "GET"): ("viewer", show),
    ("/v1/apps/{app}", "PATCH"): ("operator", change),
    ("/v1/apps/{app}", "DELETE"): ("admin", remove),
    ("/v1/apps/{app}/rotate-secret", "POST"): ("admin", rotate_secret),
    ("/v1/apps/{app}/drop-secret", "POST"): ("admin", drop_secret),
    ("/v1/deployment-audit", "GET"): ("viewer", deployment_audit),
}
"""By path and method: the role it takes, and what it does."""
