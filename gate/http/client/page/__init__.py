"""`/client/`: a page that is a client of the WebSocket, for trying it; in `gate-client.js` is what web apps copy of it.

Static files, no credentials: the Token is typed into the page, and kept in its memory only. The policy lets it load its own
files and talk to this server, nothing else; no script or style stands inside the page. No endpoint of the API, so OpenAPI has
nothing of it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from aiohttp import web

from gate.http.routing import Handler

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# No script from elsewhere runs next to a Token, and no other site frames the page.
_POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def _file(name: str) -> Handler:
    kind = f"{_TYPES[Path(name).suffix]}; charset=utf-8"

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=_content(name), headers={"Content-Type": kind, **_POLICY})

    return answer


# Once a process: the files belong to the installed version.
@cache
def _content(name: str) -> bytes:
    return (Path(__file__).parent / name).read_bytes()


async def _with_slash(request: web.Request) -> web.Response:
    # Relative, so that it holds below whatever path a proxy serves this at.
    return web.Response(status=308, headers={"Location": "client/"})


FILES: dict[str, Handler] = {
    "/client": _with_slash,
    "/client/": _file("index.html"),
    **{f"/client/{name}": _file(name) for name in ("page.css", "page.js", "gate-client.js", "mark.svg")},
}
"""By path: what answers it."""
