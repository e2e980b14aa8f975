"""What an endpoint of `/client` is, who calls it, how its answer is made, and what lets a web page of any site call.

Any origin may (Cross-Origin Resource Sharing), because nothing of a caller's authority travels by itself: the page that has
the Token puts it in a header, and cookies play no part (so `Access-Control-Allow-Credentials` is never sent).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from gate.core import token
from gate.core.model import AppFacts
from gate.core.scopes import user_caller
from gate.http.auth import bearer
from gate.http.bodies import Payer
from gate.http.context import AppContext, AppRequest, Deps
from gate.http.responses import REQUEST_ID
from gate.replica.reader import app_of

# How long a browser need not ask again.
_PREFLIGHT_S = 86_400


class ClientContext(AppContext):
    """A User whose Token was found valid."""

    __slots__ = ()

    user: bytes


@dataclass(slots=True)
class MessageContext(ClientContext):
    """What came as a message."""

    deps: Deps
    facts: AppFacts
    now_ms: int
    user: bytes


@dataclass(slots=True)
class ClientRequest(AppRequest, ClientContext):
    """A request with a Token that is valid."""

    user: bytes
    """Whose Token it is."""

    @property
    def payer(self) -> Payer:
        """The User."""
        return Payer("client", (self.app_key, self.user))


def client_request(request: web.Request, deps: Deps, now_ms: int) -> ClientRequest:
    """The call of the User whose Token the request bears; `TokenRefused` if it is not valid. Redis is not asked."""
    given = bearer(request.headers)
    with deps.replica as snapshot:
        # From one snapshot: the settings are those by which the Token was accepted.
        claims = token.verify(given, snapshot.app, now_ms)
        facts = app_of(snapshot, claims.app).app
    return ClientRequest(request, deps, facts, now_ms, user_caller(claims.user), claims.user)


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
