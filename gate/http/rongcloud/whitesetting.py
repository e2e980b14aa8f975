"""`/user/whitesetting/set.json` and `/user/whitesetting/query.json`: the User's own whitelist switch."""

from __future__ import annotations

from gate.core.ids import shown
from gate.http.context import AppRequest
from gate.http.forms import Form
from gate.http.rongcloud.endpoint import MAX_IDS, Endpoint, Success


async def set_switch(call: AppRequest, form: Form) -> Success:
    """Switch the whitelists of 1 to 20 Users: 1 on, 0 off."""
    users = form.users("userId", MAX_IDS)
    on = form.whole("whiteSetting", 0, 1) == 1
    return Success(written=await call.deps.store.lists.switch(call.app_key, users, on, call.now_ms))


async def query(call: AppRequest, form: Form) -> Success:
    """Each User's own switch, as a string, in the order asked; an App-wide switch does not show here."""
    users = form.users("userId", MAX_IDS)
    switches = await call.deps.store.lists.switches(call.app_key, users)
    settings = [
        {"userId": shown(user), "whiteSetting": "1" if on else "0"} for user, on in zip(users, switches, strict=True)
    ]
    return Success({"users": settings})


ENDPOINTS: dict[str, Endpoint] = {
    "/user/whitesetting/set.json": set_switch,
    "/user/whitesetting/query.json": query,
}
