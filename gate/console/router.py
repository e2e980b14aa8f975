"""From a request to a page: which view answers, whether an operator asks, and what is said where it fails.

    /console/                    the Apps                    /console/APP/online         how many are online
    /console/sign-in, sign-out   open to anybody             /console/APP/user           a User's Sessions and state
    /console/console.css, …      files                       /console/APP/check          may A message B?

An App's key holds no dot and its pages lie a part deeper, so that no App can stand in the way of the others. Users are named
in the query only, which is never logged.
"""

from __future__ import annotations

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import problem_text
from gate.console.languages import ENGLISH, LANGUAGE_COOKIE, LANGUAGES, N_, Language, chosen
from gate.console.live import ended
from gate.console.pages import LANGUAGE_FIELD, SEAL, below, facts_age, html, see_other
from gate.console.request_context import SESSION_COOKIE, ConsoleContext, FormForeign, LastRead, Section, View
from gate.console.session_auth import SessionAuth
from gate.console.views import OF_ALL, OF_APP, OPEN, STATIC, Page, section
from gate.console.views.sign_in import sign_in_place
from gate.core.operators import may
from gate.errors import AppUnknown, GateError, InvalidInput, StoreUnavailable
from gate.http.auth import called_by, watched
from gate.http.context import WHO, Deps
from gate.http.errors import MethodWrong, PathUnknown, RoleInsufficient, v1_problem
from gate.http.operators import OperatorAuth
from gate.http.routing import LOGGED_PATH, UNKNOWN
from gate.http.sign_ins import ProxyUntrusted, asserted_by_proxy

# True if an operator is signed in: only operators see the address of Redis and why it can't be reached.
_IS_KNOWN = web.RequestKey("is_known", bool)
# Of faults that the APIs word otherwise, or never meet.
_STATUSES: tuple[tuple[type[GateError], int], ...] = ((FormForeign, 403), (ProxyUntrusted, 403), (AppUnknown, 404))
_TITLES = {
    400: N_("That could not be read"),
    403: N_("That is not allowed"),
    404: N_("There is nothing here"),
    405: N_("That is not allowed here"),
    413: N_("That is too long"),
    415: N_("That can not be read"),
    429: N_("Too many tries"),
    500: N_("Something is broken here"),
    503: N_("That is not possible at the moment"),
}
_OTHER_TITLE = N_("That did not work")
# What the most frequent refusals say in other languages, before the details.
_REASONS: tuple[tuple[type[GateError], str], ...] = (
    (FormForeign, N_("The form is not from a page of this console, or from another sign-in. Load the page again.")),
    (AppUnknown, N_("There is no such App, or it is not one of yours. If it was made just now, load this page again.")),
    (RoleInsufficient, N_("Your role does not permit this.")),
    (PathUnknown, N_("The console has no such page.")),
)
_LANGUAGE_KEPT_S = 365 * 86_400


class ConsoleRouter:
    """One a process."""

    def __init__(self, operator_auth: OperatorAuth) -> None:
        self._session_auth = SessionAuth(operator_auth)
        self._last_read = LastRead()
        self._deps: Deps | None = None

    async def answer(self, request: web.Request, deps: Deps) -> web.StreamResponse:
        """The answer to any request below the prefix."""
        # Kept for `refusal`, which is called without them.
        self._deps = deps
        response = await self._answer(request, deps)
        # On every answer, also files and redirects: nothing here is for another site's frame.
        response.headers.update(SEAL)
        return below(deps.options.public_path, response)

    def refusal(self, request: web.Request, fault: GateError) -> web.StreamResponse:
        """A page that says what went wrong."""
        problem = v1_problem(fault, request.path)
        status = next((status for kind, status in _STATUSES if isinstance(fault, kind)), problem.status)
        kept = {name: value for name, value in problem.headers.items() if name in ("Allow", "Retry-After")}
        is_redis = isinstance(fault, StoreUnavailable)
        language = _language_of(request)
        response = html(
            language,
            "refusal.html",
            status,
            kept,
            title=language.gettext("Redis can not be reached" if is_redis else _TITLES.get(status, _OTHER_TITLE)),
            shows_reason=request.get(_IS_KNOWN, False) or not is_redis,
            reason=next((language.gettext(text) for kind, text in _REASONS if isinstance(fault, kind)), ""),
            problem=_detail(fault, language),
            is_english=language is ENGLISH or _detail(fault, language) == _detail(fault, ENGLISH),
            is_redis=is_redis,
            is_unknown=isinstance(fault, StoreUnavailable) and fault.outcome == "unknown",
            facts_age=facts_age(self._deps, language) if is_redis and self._deps is not None else "",
        )
        response.headers.update(SEAL)
        return below(self._deps.options.public_path if self._deps is not None else "", response)

    async def _answer(self, request: web.Request, deps: Deps) -> web.StreamResponse:
        # `/console` without its slash; relative links would lead elsewhere.
        if len(request.path) < len(PREFIX):
            return see_other(PREFIX)
        rest = request.path[len(PREFIX) :]
        # Set before anything can fail: a log must not hold an App's key or a guessed path.
        request[LOGGED_PATH] = _template_of(rest)
        context = ConsoleContext(request, deps, deps.now_ms(), self._session_auth, self._last_read)
        # Before cookies and languages are read: files are the same for everybody.
        if rest in STATIC:
            return await _chosen(STATIC[rest], request)(context)
        if (changed := _changed_language(context)) is not None:
            return changed
        context.language = _language_of(request)
        with watched(request, deps, "console"):
            context.asserted = asserted_by_proxy(request, deps.options.sign_in, deps.options.trusted_proxies)
        if rest in OPEN:
            return await _chosen(OPEN[rest], request)(context)
        key, _, name = rest.partition("/")
        # A page of the deployment wins: no App's key can shadow it, since its pages lie a part deeper.
        page = OF_ALL.get(rest) or (OF_APP.get(name) if key else None)
        context.known = await self._session_auth.known(
            deps.store,
            request.cookies.get(SESSION_COOKIE, ""),
            context.now_ms,
            context.asserted,
            # A page that renews itself would keep a session open for ever.
            counts=page is None or not page.renewed,
        )
        request[_IS_KNOWN] = context.known is not None
        if context.known is None:
            # A stream can't follow a redirect to a form: its event makes the page load itself again.
            return ended() if page is not None and page.renewed else see_other(sign_in_place(request))
        request[WHO] = {"operator": context.known.operator.name}
        called_by(request, deps, "operator", context.known.operator.name)
        if page is None:
            # Only after the sign-in: strangers learn of no page whether it exists.
            raise PathUnknown(f"the console has no page {request.path[:200]}")
        if rest not in OF_ALL:
            # Before the role: an App that is not one's own looks as if it were not there.
            _choose_app(context, key)
        # Before the role, so that a GET of an act says which method it takes.
        view = _chosen(page, request)
        _refuse_role(context, page)
        context.navigation = _navigation(context, "" if rest in OF_ALL else key, page.path)
        return await view(context)


def _detail(fault: GateError, language: Language) -> str:
    """What went wrong exactly, as far as the language has words for it."""
    problem = problem_text(fault, language)
    if not isinstance(fault, InvalidInput):
        return problem
    return language.gettext(N_("the field %(field)s %(problem)s"), field=fault.parameter, problem=problem)


def _language_of(request: web.Request) -> Language:
    return chosen(request.cookies.get(LANGUAGE_COOKIE, ""), request.headers.get("Accept-Language", ""))


def _changed_language(context: ConsoleContext) -> web.Response | None:
    """The way back to the page, with the language that its address asks for; None if it asks for none."""
    place, _, query = context.request.raw_path.partition("?")
    parts = query.split("&")
    # On the raw query: decoded and encoded again, an id of any bytes would not survive.
    asked = [part for part in parts if part.startswith(f"{LANGUAGE_FIELD}=")]
    if context.request.method != "GET" or not asked or not place.startswith(PREFIX):
        return None
    rest = "&".join(part for part in parts if part not in asked)
    response = see_other(f"{place}?{rest}" if rest else place)
    code = asked[-1].partition("=")[2]
    # An unknown one is dropped from the address, and the browser keeps what it has.
    if code in LANGUAGES:
        response.set_cookie(
            LANGUAGE_COOKIE, code, max_age=_LANGUAGE_KEPT_S, path=PREFIX, httponly=True, samesite="Lax",
            secure=context.is_https,
        )  # fmt: skip
    return response


def _choose_app(context: ConsoleContext, key: str) -> None:
    with context.deps.replica as snapshot:
        app = snapshot.app(key) if context.operator.operator.reaches(key) else None
        context.facts = None if app is None else app.app
    if context.facts is None:
        raise AppUnknown(f"there is no App {key[:40]!r}; if it was made just now, load this page again")


def _refuse_role(context: ConsoleContext, page: Page) -> None:
    operator = context.operator.operator
    context.needed = page.needed(context.request.method)
    if not page.reached_by(operator, context.request.method):
        if not may(operator.role, context.needed):
            raise RoleInsufficient(f"this takes the role {context.needed}, and {operator.name} is {operator.role}")
        raise RoleInsufficient(f"this takes an operator of all Apps, and {operator.name} is limited to some")


def _navigation(context: ConsoleContext, app: str, here: str) -> list[Section]:
    operator, text = context.operator.operator, context.gettext
    of_all = section(N_("Pages of the deployment"), PREFIX, OF_ALL.values(), operator, "-" if app else here, text)
    if not app:
        return [of_all]
    return [of_all, section(N_("Pages of the App"), f"{PREFIX}{app}/", OF_APP.values(), operator, here, text)]


def _template_of(rest: str) -> str:
    """The path of a page with `{app}` for the key of an App; one word for all that are no pages."""
    key, _, name = rest.partition("/")
    if rest in STATIC or rest in OPEN or rest in OF_ALL:
        return PREFIX + rest
    return f"{PREFIX}{{app}}/{name}" if key and name in OF_APP else f"{PREFIX}{UNKNOWN}"


def _chosen(page: Page, request: web.Request) -> View:
    # aiohttp sends no body to a HEAD, so the view of GET answers it.
    view = page.methods.get("GET" if request.method == "HEAD" else request.method)
    if view is None:
        raise MethodWrong(request.method, ", ".join(sorted(page.methods)))
    return view
