"""The console's own files. Their addresses change with their content (`?v=`), so browsers may keep them for good."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from aiohttp import web

from gate.console import PREFIX
from gate.console.request_context import ConsoleContext
from gate.errors import NotFound

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
FILES = {path.name: path for path in (Path(__file__).parent / "static").iterdir() if path.suffix in _TYPES}
_VERSIONS = {name: sha256(path.read_bytes()).hexdigest()[:12] for name, path in FILES.items()}


async def show(context: ConsoleContext) -> web.StreamResponse:
    """One file."""
    name = context.request.path.rpartition("/")[2]
    if name not in FILES:  # slashes after the name
        raise NotFound("there is no such file")
    kept = {"Cache-Control": "public, max-age=31536000, immutable", "Content-Type": _TYPES[FILES[name].suffix]}
    return web.FileResponse(FILES[name], headers=kept)


def address(name: str) -> str:
    """The address that pages load it from."""
    return f"{PREFIX}{name}?v={_VERSIONS[name]}"
