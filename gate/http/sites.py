"""Pages that hang in the HTTP application without its knowing what they show, such as the console.

A site has every path below its prefix to itself, whatever the method, and words its own refusals; the application counts,
logs and labels its requests like any other. It is given to `make_app` by whoever starts the server: nothing here imports it.
"""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from gate.errors import GateError
from gate.http.dependencies import Deps


class Site(Protocol):
    """All that lies below one prefix."""

    @property
    def prefix(self) -> str:
        """It begins and ends with a slash; without the last one it is the site's too."""
        ...

    @property
    def group(self) -> str:
        """What its requests are counted as."""
        ...

    async def answer(self, request: web.Request, deps: Deps) -> web.StreamResponse:
        """Serve one request of any method. May raise `GateError`, and what is a bug."""
        ...

    def refusal(self, request: web.Request, fault: GateError) -> web.StreamResponse:
        """What to answer where `answer` raised; for a bug, the fault is `Internal`. Never raises."""
        ...


def site_of(sites: tuple[Site, ...], path: str) -> Site | None:
    """The one that this path belongs to."""
    return next((site for site in sites if path.startswith(site.prefix) or f"{path}/" == site.prefix), None)
