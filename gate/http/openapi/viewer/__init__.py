"""`/docs`: the OpenAPI document as a page to read, in Swagger UI, vendored by `scripts/vendor-viewer`. See decision 20.

Static files, no credentials. The policy lets the page load its own files and the document, nothing else; no script or style
stands inside the page. No endpoint of the API, so OpenAPI describes only the page itself.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from aiohttp import web

from gate.http.routing import Handler

_HERE = Path(__file__).parent
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_POLICY = {
    # `data:` is for the arrows and locks that Swagger UI's style sheet holds.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


async def _file(name: str, request: web.Request) -> web.StreamResponse:
    kind = f"{_TYPES[Path(name).suffix]}; charset=utf-8"
    # With an ETag, so that two megabytes are sent once.
    return web.FileResponse(_HERE / name, headers={"Content-Type": kind, **_POLICY})


PAGE: Handler = partial(_file, "index.html")
FILES: dict[str, Handler] = {
    f"/docs/{name}": partial(_file, name) for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js")
}
"""By path: what answers it."""
