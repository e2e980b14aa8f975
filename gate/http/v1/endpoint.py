"""How an endpoint of `/v1` is run."""

from __future__ import annotations

from aiohttp import web

from gate.http.context import APP_REQUEST, AppRequest
from gate.http.endpoint import Endpoint, responded


async def answer(endpoint: Endpoint[AppRequest], request: web.Request) -> web.StreamResponse:
    """Run the endpoint for the App that was authenticated."""
    return responded(await endpoint(request[APP_REQUEST]))
