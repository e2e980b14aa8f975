"""From values to bytes: templates, redirects, and the headers that every answer of the console bears.

The policy lets a browser load nothing but this host's own files and run no script or style that stands in a page, so that an id
which slipped through the escaping (it can't: `autoescape`) would still be text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from gate.console import PREFIX
from gate.console.charts import shown_value
from gate.console.id_format import named
from gate.console.languages import LANGUAGES, N_, Language, installed
from gate.console.problems import translated
from gate.console.request_context import ConsoleContext
from gate.console.session_cookie import opened_message
from gate.core.shown import shown_moment
from gate.errors import InvalidInput, NotFound, ReplicaError
from gate.http.context import Deps

HTML = "text/html; charset=utf-8"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
FILES = {path.name: path for path in (Path(__file__).parent / "static").iterdir() if path.suffix in _TYPES}
# Their addresses change with their content (`?v=`), so browsers may keep them for good.
_VERSIONS = {name: sha256(path.read_bytes()).hexdigest()[:12] for name, path in FILES.items()}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# On every answer, redirects and refusals included.
SEAL = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: under that browsers send `Origin: null` with a form, and the console wants to see its own.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOT_KEPT = {"Cache-Control": "no-store"}
# In an address: the language that the browser is to have from now on.
LANGUAGE_FIELD = "lang"
# In an address: what was done, signed (`gate.console.acts.done`).
SAID_FIELD = "said"
# The attributes by which templates link. A blank before the name: in text of others quotes are escaped, so none can follow it.
_LINK = re.compile(rb'( (?:href|src|action|formaction|data-live|data-goes-on)=")(/console/)')
# Values of the frame around each page when no operator is signed in.
_SIGNED_OUT: dict[str, Any] = {
    "operator": None,
    "app": None,
    "navigation": (),
    "away": "",
    "said": None,
    "in_languages": (),
}


async def static_file(context: ConsoleContext) -> web.StreamResponse:
    """One of the console's own files."""
    name = context.request.path.rpartition("/")[2]
    if name not in FILES:  # slashes after the name
        raise NotFound("there is no such file")
    kept = {"Cache-Control": "public, max-age=31536000, immutable", "Content-Type": _TYPES[FILES[name].suffix]}
    return web.FileResponse(FILES[name], headers=kept)


def address(name: str) -> str:
    """The address that pages load a file from."""
    return f"{PREFIX}{name}?v={_VERSIONS[name]}"


def iso_moment(moment_ms: int) -> str:
    """For the attribute `datetime`."""
    return shown_moment(moment_ms).replace(" ", "T")


def _made_environment(language: Language) -> Environment:
    made = Environment(
        loader=PackageLoader("gate.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    made.policies["ext.i18n.trimmed"] = True
    made.install_gettext_callables(language.gettext, language.plural, newstyle=True)  # type: ignore[attr-defined]
    made.filters.update(moment=language.moment, duration=language.duration, facts=language.facts)
    made.filters.update(in_words=partial(translated, language=language))
    made.filters.update(named=named, when=iso_moment, number=shown_value)
    made.globals.update(installed(language), address=address)
    return made


# By language: a template is compiled once for each that is used.
TEMPLATES = {code: _made_environment(language) for code, language in LANGUAGES.items()}


def page(context: ConsoleContext, template: str, status: int = 200, **values: Any) -> web.Response:
    """A page of an operator's."""
    known, facts = context.known, context.facts
    away = values.pop("away", "") or (known.away if known is not None else "")
    return html(
        context.language,
        template,
        status,
        operator=known.operator if known is not None else None,
        form_token=context.form_token() if known is not None else "",
        app=facts,
        away=away,
        facts_age=facts_age(context.deps, context.language) if away else "",
        may=lambda role: known is not None and not away and context.may(role),
        navigation=context.navigation,
        in_languages=in_languages(_place_of(context)),
        said=_said(context),
        now_ms=context.now_ms,
        **values,
    )


def html(
    language: Language, template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> web.Response:
    """A template, filled."""
    body = rendered(language, template, **_SIGNED_OUT | values).encode("utf-8", "backslashreplace")
    return web.Response(body=body, status=status, headers={"Content-Type": HTML, **NOT_KEPT, **(headers or {})})


def rendered(language: Language, template: str, **values: Any) -> str:
    """A template as text: a part of a page."""
    return TEMPLATES[language.code].get_template(template).render(values)


def in_languages(place: str) -> list[tuple[Language, str]]:
    """Each language with the address of this page in it."""
    return [(one, f"{place}{'&' if '?' in place else '?'}{LANGUAGE_FIELD}={one.code}") for one in LANGUAGES.values()]


def _place_of(context: ConsoleContext) -> str:
    """The address of the page that was asked for. The answer to a form has none: the first page then."""
    place = context.request.raw_path
    return place if context.request.method != "POST" and place.startswith(PREFIX) else PREFIX


def _said(context: ConsoleContext) -> str | None:
    """What the act that led here did."""
    if context.known is None:
        return None
    try:
        sealed = context.query().text(SAID_FIELD) or ""
    except InvalidInput:
        return None
    return opened_message(context.known.operator, context.known.cookie, sealed, context.now_ms) if sealed else None


def see_other(place: str) -> web.Response:
    """Go and GET that, a path of the console that was made here."""
    return web.Response(status=303, headers={"Location": place, **NOT_KEPT})


def below(public_path: str, response: web.StreamResponse) -> web.StreamResponse:
    """The answer for a browser that sees the console below a path: of its links, its redirect and its cookies.

    Everything here is made for `/console/`. Text of others can't be taken for a link, since its quotes are escaped.
    """
    if public_path:
        if "Location" in response.headers:
            response.headers["Location"] = public_path + response.headers["Location"]
        for cookie in response.cookies.values():
            cookie["path"] = public_path + cookie["path"]
        if isinstance(response, web.Response) and response.headers.get("Content-Type") == HTML:
            assert isinstance(response.body, bytes), "as `html` makes it"
            response.body = public_html(response.body, public_path)
    return response


def public_html(html: bytes, public_path: str) -> bytes:
    """HTML whose links are of the path that the browser sees; a `value` that begins like one is somebody's text."""
    return _LINK.sub(lambda link: link[1] + public_path.encode() + link[2], html) if public_path else html


def facts_age(deps: Deps, language: Language) -> str:
    """How old this node's facts are, in words that follow "its facts are"."""
    try:
        return language.age(deps.replica.view().stale_ms)
    except ReplicaError:
        return language.gettext(N_("not there yet"))
