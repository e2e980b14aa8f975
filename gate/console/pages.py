"""From values to bytes: templates, redirects, and the headers that every answer of the console bears.

The policy lets a browser load nothing but this host's own files and run no script or style that stands in a page, so that an id
which slipped through the escaping (it can't: `autoescape`) would still be text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from gate.console.id_format import age_of, named
from gate.console.request_context import ConsoleContext
from gate.console.static_files import address
from gate.core.shown import counted, shown_duration, shown_facts, shown_moment
from gate.errors import ReplicaError
from gate.http.context import Deps
from gate.replica.status_page import NEVER_FRESH_MS

HTML = "text/html; charset=utf-8"
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SEAL = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: under that browsers send `Origin: null` with a form, and the console wants to see its own.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer, redirects and refusals included."""
NOT_KEPT = {"Cache-Control": "no-store"}
_SIGNED_OUT: dict[str, Any] = {"operator": None, "app": None, "here": "", "away": ""}
"""Values of the frame around each page when no operator is signed in."""


def _made_environment() -> Environment:
    made = Environment(
        loader=PackageLoader("gate.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(moment=shown_moment, duration=shown_duration, named=named, facts=shown_facts)
    made.globals.update(counted=counted, address=address)
    return made


TEMPLATES = _made_environment()


def page(context: ConsoleContext, template: str, status: int = 200, **values: Any) -> web.Response:
    """A page of an operator's."""
    known, facts = context.known, context.facts
    away = values.pop("away", "") or (known.away if known is not None else "")
    return html(
        template,
        status,
        operator=known.operator if known is not None else None,
        form_token=context.form_token() if known is not None else "",
        app=facts,
        away=away,
        facts_age=facts_age(context.deps) if away else "",
        may_kick=known is not None and not away and context.may("operator"),
        here=template.partition(".")[0],
        now_ms=context.now_ms,
        **values,
    )


def html(template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> web.Response:
    """A template, filled."""
    body = TEMPLATES.get_template(template).render(_SIGNED_OUT | values).encode("utf-8", "backslashreplace")
    return web.Response(body=body, status=status, headers={"Content-Type": HTML, **NOT_KEPT, **(headers or {})})


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
            response.body = response.body.replace(b'="/console/', f'="{public_path}/console/'.encode())
    return response


def facts_age(deps: Deps) -> str:
    """How old this node's facts are, in words that follow "its facts are"."""
    try:
        stale_ms = deps.replica.view().stale_ms
    except ReplicaError:
        return "not there yet"
    if stale_ms >= NEVER_FRESH_MS:
        return "of an unknown age"
    return age_of(stale_ms)
