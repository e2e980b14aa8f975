"""`/v1/apps/{app}/keys`: operators see, add, rotate and remove the keys of an App, each with its scopes.

    GET    /v1/apps/{app}/keys                 admin    all keys; of their secrets only how many there are
    POST   /v1/apps/{app}/keys                 admin    a new key; the one answer that shows its secret
    POST   /v1/apps/{app}/keys/{name}/rotate   admin    a new secret next to the previous one, or with `finish` the end of that
    DELETE /v1/apps/{app}/keys/{name}          admin    remove the key; its connections are refused with their next command

HTTP Basic with an operator's name and password, as `/v1/apps`, whose table holds these endpoints too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType

from gate.core.app_keys import (
    KEY_NAME_PATTERN,
    key_name,
    named_key,
    shown_key,
    with_finished_rotation,
    with_key,
    with_rotated_key,
    without_key,
)
from gate.core.app_secrets import MAX_SECRET_CHARS, MIN_SECRET_CHARS, app_secret
from gate.core.operators import OperatorRole
from gate.core.scopes import SCOPES, Scope
from gate.errors import InvalidInput
from gate.http.endpoint import Effective, Endpoint, answered
from gate.http.fields import Reason
from gate.http.forms import Query
from gate.http.operators import OperatorRequest
from gate.http.requests import Body, Schema
from gate.store.new_credentials import new_app_secret

KEY_NAME = {"pattern": KEY_NAME_PATTERN, "examples": ["router-1"]}
KeyName = Annotated[str, Meta(extra_json_schema=KEY_NAME, extra={"check": key_name})]
# Never a short one, unlike an App's own secret: there is no flag for it.
KeySecret = Annotated[
    str,
    Meta(
        extra_json_schema={
            "pattern": f"^[!-~]{{{MIN_SECRET_CHARS},{MAX_SECRET_CHARS}}}$",
            "examples": ["a-secret-of-the-router"],
        },
        extra={"check": app_secret},
    ),
]


class AddingKey(Body, frozen=True, kw_only=True):
    """A new key. Its secret is made up if none is given."""

    name: KeyName
    scopes: Annotated[list[Scope], Meta(extra_json_schema={"minItems": 1, "examples": [["check", "presence"]]})]
    secret: KeySecret | None = None
    reason: Reason = ""

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """No scope at all."""
        return [] if self.scopes else [InvalidInput("scopes", f"must name one or more of {', '.join(SCOPES)}")]


class RotatingKey(Body, frozen=True, kw_only=True):
    """A new secret, made up if none is given; or `finish`, which ends the previous one."""

    SCHEMA: ClassVar[Schema] = {
        "not": {
            "properties": {"finish": {"const": True}, "secret": {"type": "string"}},
            "required": ["finish", "secret"],
        }
    }

    secret: KeySecret | None = None
    finish: bool = False
    reason: Reason = ""

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """A new secret at the end of a rotation."""
        return [InvalidInput("secret", "must not come together with finish")] if self.finish and self.secret else []


class RemovalQuery(Query, frozen=True):
    """Why something is removed: such a request has no body."""

    reason: Reason = ""


class KeyShown(Struct, kw_only=True):
    """A key of an App: which scopes it has, and how many secrets are accepted for it."""

    name: str
    scopes: list[Scope]
    created_at_ms: int
    secret_count: int


class KeysPage(Struct, kw_only=True):
    """All keys of an App, the oldest first."""

    keys: list[KeyShown]


class KeyMade(Effective, kw_only=True):
    """The new key, its secret shown this once."""

    app_key: str
    name: str
    scopes: list[Scope]
    secret: str


class KeyRotated(Effective, kw_only=True):
    """How many secrets are accepted now; the new one, shown this once, unless the rotation was finished."""

    app_key: str
    name: str
    secret: str | UnsetType = UNSET
    secret_count: int


async def list_keys(call: OperatorRequest) -> KeysPage:
    """All keys of the App, the oldest first."""
    return KeysPage(keys=[KeyShown(**shown_key(key)) for key in (await call.app()).keys])


async def add(call: OperatorRequest, body: AddingKey) -> KeyMade:
    """It can be used when this is answered. It may do what its scopes allow, and signs nothing."""
    # Drawn before the change, which is made again after a concurrent one: what is stored must be what is shown.
    secret = body.secret or new_app_secret()
    facts, written = await call.update_app(
        lambda facts: with_key(facts, body.name, body.scopes, secret, call.now_ms), body.reason
    )
    # As stored: each once, and in the order of `SCOPES`.
    scopes = list(named_key(facts, body.name).scopes)
    return await answered(call, KeyMade, written, app_key=facts.key, name=body.name, scopes=scopes, secret=secret)


async def rotate(call: OperatorRequest, body: RotatingKey) -> KeyRotated:
    """From now on both secrets are accepted, until `finish`: then the newest alone."""
    # Drawn here for the same reason, although `finish` has no use for it.
    name, fresh = call.path_key(), body.secret or new_app_secret()
    facts, written = await call.update_app(
        lambda facts: with_finished_rotation(facts, name) if body.finish else with_rotated_key(facts, name, fresh),
        body.reason,
    )
    return await answered(
        call,
        KeyRotated,
        written,
        app_key=facts.key,
        name=name,
        # Absent, not null: an empty secret could be taken for one.
        secret=UNSET if body.finish else fresh,
        secret_count=len(named_key(facts, name).digests),
    )


async def remove(call: OperatorRequest, query: RemovalQuery) -> Effective:
    """What is open under it is refused with its next command or request."""
    name = call.path_key()
    _, written = await call.update_app(lambda facts: without_key(facts, name), query.reason)
    return await answered(call, Effective, written)


# As the table of `apps`.
ENDPOINTS: dict[tuple[str, str], tuple[OperatorRole, Endpoint[OperatorRequest]]] = {
    ("/v1/apps/{app}/keys", "GET"): ("admin", Endpoint("The keys of an App", list_keys, faults=("not-found",))),
    ("/v1/apps/{app}/keys", "POST"): (
        "admin",
        Endpoint("Add a key with scopes to an App", add, faults=("not-found", "refused")),
    ),
    ("/v1/apps/{app}/keys/{name}/rotate", "POST"): (
        "admin",
        Endpoint("Give a key a new secret, or end its previous one", rotate, faults=("not-found", "refused")),
    ),
    ("/v1/apps/{app}/keys/{name}", "DELETE"): ("admin", Endpoint("Remove a key", remove, faults=("not-found",))),
}
