"""What an endpoint of `/client` is, who calls it, and how its answer is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from gate.core import token
from gate.http.bodies import Payer
from gate.http.client.asking import ClientContext
from gate.http.context import AppRequest
from gate.http.dependencies import Deps
from gate.http.errors import CredentialsWrong
from gate.http.v1.endpoint import Outcome, replied
from gate.replica.reader import app_of


@dataclass(slots=True)
class ClientRequest(AppRequest, ClientContext):
    """A request with a Token that is valid."""

    user: bytes
    """Whose Token it is."""

    @property
    def payer(self) -> Payer:
        """The User."""
        return Payer("client", (self.app_key, self.user))


Endpoint = Callable[[ClientRequest], Awaitable[Outcome]]


def client_request(request: web.Request, deps: Deps, now_ms: int) -> ClientRequest:
    """The call of the User whose Token the request bears; `TokenRefused` if it is not valid. Redis is not asked."""
    shown = bearer(request.headers)
    with deps.replica.snapshot() as snapshot:
        claims = token.verify(shown, snapshot.app, now_ms)
        facts = app_of(snapshot, claims.app).app
    return ClientRequest(request, deps, facts, now_ms, claims.user)


CLIENT_REQUEST = web.RequestKey("client_request", ClientRequest)


async def answer(endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
    """Run the endpoint; a write is answered once it is effective."""
    call = request[CLIENT_REQUEST]
    return await replied(call, await endpoint(call))


def bearer(headers: Mapping[str, str]) -> str:
    """The Token that a request shows; `CredentialsWrong` if there is none."""
    scheme, _, shown = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise CredentialsWrong("give the User's Token, as Authorization: Bearer TOKEN")
    return shown.strip()
