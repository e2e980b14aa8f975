"""The console as a site of the HTTP application.

Most nodes are never asked for a page, and templates take a tenth of a second and some megabytes: everything but this file is
loaded with the first request, in a thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from gate.errors import GateError
from gate.http.dependencies import Deps
from gate.http.errors import v1_problem
from gate.http.operators import OperatorAuth

if TYPE_CHECKING:
    from gate.console.desk import Desk

PREFIX = "/console/"


class Console:
    """A `gate.http.sites.Site`. Shares the `door` with the APIs, so that guesses at passwords are counted together."""

    prefix = PREFIX
    group = "console"

    def __init__(self, door: OperatorAuth) -> None:
        self._door = door
        self._desk: Desk | None = None

    async def answer(self, request: web.Request, deps: Deps) -> web.StreamResponse:
        """One request."""
        desk = self._desk
        if desk is None:
            opened = await asyncio.to_thread(_opened, self._door)
            desk = self._desk = self._desk or opened  # another request may have been quicker
        return await desk.answer(request, deps)

    def refusal(self, request: web.Request, fault: GateError) -> web.StreamResponse:
        """A page that says what went wrong."""
        if self._desk is None:
            status = v1_problem(fault, request.path).status
            return web.Response(text=f"The console can not be shown: {fault}\n", status=status)
        return self._desk.refusal(request, fault)


def _opened(door: OperatorAuth) -> Desk:
    from gate.console.desk import Desk

    return Desk(door)
