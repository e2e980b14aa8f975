"""`/user/deactivate.json`, `/user/deactivate/query.json`, `/user/reactivate.json`: effective at once; webhooks report
the rest, under the `operateId` that the answer names.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gate.core.ids import shown
from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.requests import FormBody
from gate.http.rongcloud.endpoint import JoinedId, Success, UserIds, answered
from gate.store.deactivation import Operation

MAX_DEACTIVATED = 100
MAX_DEACTIVATED_A_PAGE = 50
"""Also what a query without a size answers."""
LAST_DEACTIVATED_PAGE = 100_000 // MAX_DEACTIVATED_A_PAGE


class DeactivationForm(FormBody, frozen=True, rename={"users": "userId"}):
    """Whom."""

    users: Annotated[list[JoinedId], Meta(min_length=1, max_length=MAX_DEACTIVATED, examples=[["alice"]])]


class DeactivatedForm(FormBody, frozen=True, rename={"page": "pageNo", "size": "pageSize"}):
    """Which page."""

    page: Annotated[int, Meta(ge=1, le=LAST_DEACTIVATED_PAGE)] = 1
    size: Annotated[int, Meta(ge=1, le=MAX_DEACTIVATED_A_PAGE)] = MAX_DEACTIVATED_A_PAGE


class OperationStarted(Success, kw_only=True):
    """Effective already; webhooks report the result of each User under this id."""

    operateId: str


async def deactivate(call: AppRequest, form: DeactivationForm) -> OperationStarted:
    """Deactivate 1 to 100 Users; again is no error."""
    return await _started(call, await call.writes().deactivate(form.users))


async def reactivate(call: AppRequest, form: DeactivationForm) -> OperationStarted:
    """Give 1 to 100 ids back; the callback of each says whether it is, or whether it was too early."""
    return await _started(call, await call.writes().reactivate(form.users, refuse_early=False))


async def query(call: AppRequest, form: DeactivatedForm) -> UserIds:
    """The deactivated Users, those being erased included, the latest first."""
    found = await call.deps.store.deactivation.page(call.app_key, (form.page - 1) * form.size, form.size)
    return UserIds(users=[shown(gone.user) for gone in found])


async def _started(call: AppRequest, operation: Operation) -> OperationStarted:
    return await answered(call, operation.written, OperationStarted(operateId=operation.id))


ENDPOINTS: dict[str, Endpoint[AppRequest]] = {
    "/user/deactivate.json": Endpoint("Deactivate Users", deactivate),
    "/user/deactivate/query.json": Endpoint("Page through the deactivated Users", query),
    "/user/reactivate.json": Endpoint("Give deactivated ids back", reactivate),
    # What official SDKs called them before (Java 3.2.27 to 3.3.1, PHP 3.1.4 to 3.2.4).
    "/user/activate.json": Endpoint("Another name of reactivate", reactivate),
    "/user/abandon.json": Endpoint("Another name of deactivate", deactivate),
    "/user/abandon/query.json": Endpoint("Page through the deactivated Users", query),
}
