"""The console's own files. Their addresses change with their content (`?v=`), so browsers may keep them for good."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

from aiohttp import web

from gate.console.pages import TEMPLATES
from gate.console.request_context import ConsoleContext
from gate.console.site import PREFIX
from gate.errors import NotFound

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
FILES = {
    one.name: one.read_bytes()
    for one in files("gate.console").joinpath("static").iterdir()
    if one.name.rpartition(".")[2] in _TYPES
}
"""By name; some ten kilobytes in all."""


async def show(context: ConsoleContext) -> web.Response:
    """One file."""
    name = context.request.path.rpartition("/")[2]
    if name not in FILES:  # slashes after the name
        raise NotFound("there is no such file")
    kept = {"Cache-Control": "public, max-age=31536000, immutable", "Content-Type": _TYPES[name.rpartition(".")[2]]}
    return web.Response(body=FILES[name], headers=kept)


def address(name: str) -> str:
    """Where pages find it."""
    return f"{PREFIX}{name}?v={sha256(FILES[name]).hexdigest()[:12]}"


TEMPLATES.globals["address"] = address
