"""The console as pages mounted in the HTTP application.

Most nodes are never asked for a page, and templates take a tenth of a second and some megabytes: everything but this file is
loaded with the first request, in a thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from gate.console import PREFIX
from gate.errors import GateError
from gate.http.context import Deps
from gate.http.errors import v1_problem
from gate.http.operators import OperatorAuth

if TYPE_CHECKING:
    from gate.console.router import ConsoleRouter


class Console:
    """Pages that `gate.http.app` mounts.

    They share the `operator_auth` with the APIs, so that guesses at passwords are counted together.
    """

    prefix = PREFIX
    group = "console"

    def __init__(self, operator_auth: OperatorAuth) -> None:
        self._operator_auth = operator_auth
        self._router: ConsoleRouter | None = None

    async def answer(self, request: web.Request, deps: Deps) -> web.StreamResponse:
        """One request."""
        # Read once: another request may set it while this one waits.
        router = self._router
        if router is None:
            opened = await asyncio.to_thread(_opened, self._operator_auth)
            router = self._router = self._router or opened  # another request may have been quicker
        return await router.answer(request, deps)

    def refusal(self, request: web.Request, fault: GateError) -> web.StreamResponse:
        """A page that says what went wrong."""
        # Not loaded, for example since a template is broken: plain text needs nothing of it.
        if self._router is None:
            status = v1_problem(fault, request.path).status
            return web.Response(text=f"The console can not be shown: {fault}\n", status=status)
        return self._router.refusal(request, fault)


def _opened(operator_auth: OperatorAuth) -> ConsoleRouter:
    from gate.console.router import ConsoleRouter

    return ConsoleRouter(operator_auth)
