"""What lets a web page of any site call `/client/`: the headers of Cross-Origin Resource Sharing.

Any origin may, because nothing of a caller's authority travels by itself: the Token is put in a header by the page that has
it, and cookies play no part (so `Access-Control-Allow-Credentials` is never sent).
"""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from gate.http.context import APPLIED, PENDING_REASON, REVISION
from gate.http.responses import REQUEST_ID

PREFIX = "/client/"

_PREFLIGHT_S = 86_400
"""How long a browser need not ask again."""
_EXPOSED = ", ".join((REVISION, APPLIED, PENDING_REASON, REQUEST_ID, "Retry-After"))


async def open_to_pages(request: web.Request, response: web.StreamResponse) -> None:
    """Let the page that asked read this answer."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = _EXPOSED


async def preflight(methods: Iterable[str], request: web.Request) -> web.Response:
    """The answer to a browser that asks whether it may."""
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
            "Access-Control-Allow-Headers": f"Authorization, Content-Type, {REQUEST_ID}",
            "Access-Control-Max-Age": str(_PREFLIGHT_S),
        },
    )
