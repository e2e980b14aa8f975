"""One request to the console, as views see it: who asks, about which App, and what a form of theirs brought.

A form is accepted only from a page of ours. Three things say so, each enough against an ordinary forgery: the cookies are
`SameSite=Strict`, the browser names the page's own origin, and the form carries a token that only the page could have had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from gate.console.languages import ENGLISH, Language
from gate.console.session_auth import Known, SessionAuth
from gate.console.session_cookie import form_token, is_same
from gate.core.model import AppFacts
from gate.core.operators import OperatorRole, may
from gate.errors import GateError, StoreUnavailable
from gate.http.bodies import MAX_CLIENT_BYTES, read_body
from gate.http.context import Deps, RequestContext
from gate.http.forms import FORM_TYPE, Form
from gate.http.peers import forwarded_host, forwarded_proto, is_believed
from gate.http.sign_ins import Asserted
from gate.store.console_sessions import MAX_AGENT_CHARS
from gate.store.overview import Overview

SESSION_COOKIE = "gate-console"
FORM_FIELD = "form_token"


class FormForeign(GateError):
    """A form that was not sent from a page of this console, or from one of another sign-in."""


class AppName(NamedTuple):
    """An App, as it is chosen by."""

    key: str
    name: str
    environment: str


class Link(NamedTuple):
    """One link of the navigation."""

    title: str
    href: str
    is_current: bool


class Section(NamedTuple):
    """Links of the navigation that belong together, with their name for screen readers."""

    name: str
    links: Sequence[Link]


@dataclass(slots=True)
class LastRead:
    """What was read for others: to show while Redis is away, or to read once for all. One a process."""

    apps: Sequence[AppName] = ()
    looks: dict[tuple[str, bool, bool], tuple[int, asyncio.Future[Overview]]] = field(default_factory=dict)
    """Looks at what happens now (`gate.console.views.overview`), with their moments."""


@dataclass(slots=True)
class ConsoleContext(RequestContext):
    """A request. `known` is None on pages that are open to anybody, `facts` None on those that are of no App."""

    request: web.Request
    deps: Deps
    now_ms: int
    session_auth: SessionAuth
    last_read: LastRead
    known: Known | None = None
    asserted: Asserted | None = None
    """What a trusted proxy says about who asks."""
    facts: AppFacts | None = None
    language: Language = ENGLISH
    needed: OperatorRole = "viewer"
    """The least role for this request, by the table of pages."""
    navigation: Sequence[Section] = ()
    """The links of the header: of the deployment, then of the App."""

    @property
    def operator(self) -> Known:
        """Who asks, on a page that is open to operators only."""
        assert self.known is not None, "asked only where the router has looked"
        return self.known

    @property
    def app(self) -> AppFacts:
        """The App that the page is of."""
        assert self.facts is not None, "asked only on pages of an App"
        return self.facts

    @property
    def app_key(self) -> str:
        """Its key."""
        return self.app.key

    @property
    def address(self) -> str:
        """The address of the browser, behind proxies that are trusted."""
        return self.deps.address_of(self.request)

    @property
    def agent(self) -> str:
        """What the browser calls itself, as far as it can be shown."""
        # Shown to other operators, so what can't be printed is left out, and the rest is cut.
        named = self.request.headers.get("User-Agent", "")[:MAX_AGENT_CHARS]
        return "".join(character for character in named if character.isprintable())

    @property
    def gettext(self) -> Callable[..., str]:
        """A text in the language of the browser: `context.gettext("%(user)s is banned", user=…)`."""
        return self.language.gettext

    @property
    def ngettext(self) -> Callable[..., str]:
        """A text for a count: `context.ngettext("%(num)s User", "%(num)s Users", 3)`."""
        return self.language.ngettext

    @property
    def is_https(self) -> bool:
        """Whether the browser came by TLS, as `--public-url` or a proxy says: a lie makes the liar's own cookie stricter."""
        options = self.deps.options
        # What the deployment says, before what any proxy forwards.
        if options.public_url:
            return options.public_url.startswith("https:")
        # Anybody can send X-Forwarded-Proto; only a trusted proxy is believed.
        is_trusted = is_believed(self.request, options.trusted_proxies)
        return self.request.secure or (is_trusted and forwarded_proto(self.request) == "https")

    def may(self, role: OperatorRole) -> bool:
        """Whether the operator may do now what needs this role. False for every operator while Redis is unreachable."""
        # Buttons vanish with Redis away; `sent` refuses the act itself.
        return not self.operator.away and may(self.operator.operator.role, role)

    def form_token(self) -> str:
        """What the page's forms carry."""
        return form_token(self.operator.operator, self.operator.cookie)

    async def form(self) -> Form:
        """The body as a form."""
        return Form(await read_body(self.request, self.deps.bodies, self.payer, MAX_CLIENT_BYTES, FORM_TYPE))

    async def sent(self) -> Form:
        """The form that an operator posted, whose role the router has checked. `FormForeign`, `StoreUnavailable`."""
        # Before the body is read: a form of another site costs nothing.
        refuse_foreign_origin(self.request, self.deps)
        form = await self.form()
        # The token is derived from the cookie, so one of an earlier sign-in is refused too.
        if not is_same(form.text(FORM_FIELD) or "", self.form_token()):
            raise FormForeign("the form is of another sign-in: go back, reload the page, and send the form again")
        # A viewer's acts concern its own sessions, and have their own answer while Redis is away.
        if self.operator.away and self.needed != "viewer":
            raise StoreUnavailable(self.operator.away)
        return form


# What answers a request.
View = Callable[[ConsoleContext], Awaitable[web.StreamResponse]]


def refuse_foreign_origin(request: web.Request, deps: Deps) -> None:
    """`FormForeign` unless the browser says that the form is of this host, or of `--public-url`.

    Behind a proxy that rewrites `Host`, what it forwards counts: another site's page can't make a browser send that header.
    """
    # Browsers send it with each POST; its absence is refused, since another client needs no console.
    origin = request.headers.get("Origin", "")
    host = _host_of(origin)
    # Host and public URL without the scheme: behind a proxy that ends TLS it differs.
    ours = {request.headers.get("Host", "").lower(), urlsplit(deps.options.public_url).netloc.lower()}
    if is_believed(request, deps.options.trusted_proxies):
        ours.add(forwarded_host(request))
    if not host or host.lower() not in ours:
        raise FormForeign("the form was not sent from a page of this console (its Origin says so), so nothing was done")


def _host_of(origin: str) -> str:
    """The host and port; "" for anything that no browser sends as its origin."""
    try:
        return urlsplit(origin).netloc if origin.startswith(("http://", "https://")) else ""
    except ValueError:  # as for `http://[`
        return ""
