"""What the console knows of a page: where it is, who may see it and who may act on it, what shows it.

`gate.console.views` has the table of all pages. The router, the navigation and the tests of roles and of accessibility read it,
so a page that is in the table has all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from aiohttp import web

from gate.console.request_context import ConsoleContext, Link, Section
from gate.core.operators import Operator, OperatorRole, may

View = Callable[[ConsoleContext], Awaitable[web.StreamResponse]]


class Page(NamedTuple):
    """One path below `/console/` or below `/console/APP/`."""

    path: str
    show: View | None = None
    """Answers GET."""
    act: View | None = None
    """Answers POST: a form, whose token the view checks by `ConsoleContext.sent`."""
    title: str = ""
    """In the navigation, in English; "" for a page that is reached from others only."""
    reads: OperatorRole = "viewer"
    """The least role that may GET."""
    acts: OperatorRole = "operator"
    """The least role that may POST."""
    of_all_apps: bool = False
    """Whether only an operator who is not limited to Apps may use it."""
    renewed: bool = False
    """Whether an open page loads it by itself, which is no sign that a person is there."""

    @property
    def methods(self) -> dict[str, View]:
        """The views by HTTP method."""
        return {name: view for name, view in (("GET", self.show), ("POST", self.act)) if view is not None}

    def needed(self, method: str) -> OperatorRole:
        """The least role for a request by this method."""
        return self.acts if method == "POST" else self.reads

    def reached_by(self, operator: Operator, method: str = "GET") -> bool:
        """Whether this operator may make such a request."""
        return may(operator.role, self.needed(method)) and not (self.of_all_apps and operator.apps is not None)


def by_path(*pages: Page) -> dict[str, Page]:
    """A table of pages."""
    return {page.path: page for page in pages}


def section(
    name: str, place: str, pages: Iterable[Page], operator: Operator, here: str, text: Callable[[str], str]
) -> Section:
    """The links to those pages that this operator may see. `here` is the path of the page that is shown, "-" for none."""
    begin = here.partition("/")[0]
    links = [
        Link(text(page.title), f"{place}{page.path}", page.path.partition("/")[0] == begin)
        for page in pages
        if page.title and page.reached_by(operator)
    ]
    return Section(text(name), links)
