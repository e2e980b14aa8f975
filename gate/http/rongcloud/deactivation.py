"""`/user/deactivate.json`, `/user/deactivate/query.json`, `/user/reactivate.json`: effective at once; the rest is told by
webhook, under the `operateId` that the answer names.
"""

from __future__ import annotations

from gate.core.ids import shown
from gate.http.context import AppRequest
from gate.http.forms import Form
from gate.http.rongcloud.endpoint import Endpoint, Success
from gate.store.deactivation import Operation

MAX_DEACTIVATED = 100
MAX_PAGE_USERS = 50
"""Also what a query without a size answers."""
MAX_PAGE = 100_000 // MAX_PAGE_USERS


async def deactivate(call: AppRequest, form: Form) -> Success:
    """Deactivate 1 to 100 Users; again is no error."""
    users = form.joined_users("userId", MAX_DEACTIVATED)
    return _success(await call.deps.store.deactivation.deactivate(call.app_key, users, call.now_ms))


async def reactivate(call: AppRequest, form: Form) -> Success:
    """Give 1 to 100 ids back; the callback of each says whether it is, or whether it was too early."""
    users = form.joined_users("userId", MAX_DEACTIVATED)
    after_ms = call.facts.reactivate_after_s * 1_000
    deactivation = call.deps.store.deactivation
    return _success(await deactivation.reactivate(call.app_key, users, call.now_ms, after_ms, refuse_early=False))


async def query(call: AppRequest, form: Form) -> Success:
    """The deactivated Users, those being erased included, the latest first."""
    page = form.whole("pageNo", 1, MAX_PAGE, default=1)
    size = form.whole("pageSize", 1, MAX_PAGE_USERS, default=MAX_PAGE_USERS)
    found = await call.deps.store.deactivation.page(call.app_key, (page - 1) * size, size)
    return Success({"users": [shown(gone.user) for gone in found]})


def _success(operation: Operation) -> Success:
    return Success({"operateId": operation.id}, operation.written)


ENDPOINTS: dict[str, Endpoint] = {
    "/user/deactivate.json": deactivate,
    "/user/deactivate/query.json": query,
    "/user/reactivate.json": reactivate,
    # What official SDKs called them before (Java 3.2.27 to 3.3.1, PHP 3.1.4 to 3.2.4).
    "/user/activate.json": reactivate,
    "/user/abandon.json": deactivate,
    "/user/abandon/query.json": query,
}
