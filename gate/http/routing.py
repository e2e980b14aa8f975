"""Paths: from the bytes as sent to the route, and to the User or the App that a path names.

aiohttp's router matches the decoded path. Ids are read from the bytes as sent: a User's id may hold anything, slashes too.
Doubled slashes count as one, since an official SDK sends them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from urllib.parse import unquote_to_bytes

from aiohttp import web
from yarl import URL

from gate.core.ids import app_key, user_id
from gate.http.bodies import expect_continue
from gate.http.errors import MethodWrong, PathUnknown

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

UNKNOWN = "unknown"
"""What requests to paths without an endpoint are counted as."""

has_odd_slashes = re.compile(r"[^?#]*?(?://|%2[fF])").match
"""Whether `routed_url` may change this request target."""

_OF_ONE = re.compile(r"/+v1/+(users|apps)/+([^/?]+)((?:/+[^/?]+)*)(?:\?.*)?")
_NOUN_OF = {"users": "user", "apps": "app"}
_SLASHES = re.compile(r"/{2,}")
_ANY_SLASHES = re.compile(r"(?:/|%2[fF])+")
_VARIABLE = re.compile(r"\{(\w+)\}")


class Routes:
    """Adds routes to applications, and knows what the requests of each are counted as."""

    def __init__(self) -> None:
        self.groups: dict[Handler, str] = {}

    def add(
        self,
        app: web.Application,
        path: str,
        group: str,
        methods: Mapping[str, Handler],
        prefix: str = "",
        unlisted: Mapping[str, Handler] | None = None,
    ) -> None:
        """Serve this path, a template such as `/v1/users/{user}`, in the application below `prefix`.

        HEAD goes with GET. `unlisted` are methods that the 405 of others does not name.
        """
        resource = app.router.add_resource(_VARIABLE.sub(r"{\1:[^/]+}", path.removeprefix(prefix)))
        handlers = {**methods, **(unlisted or {})}
        if "GET" in handlers:
            handlers["HEAD"] = handlers["GET"]
        # A handler of ours in the place of aiohttp's 405, which would answer `Expect` by itself.
        handlers["*"] = partial(_refuse_method, ", ".join(sorted(methods)))
        for method, handler in handlers.items():
            resource.add_route(method, handler, expect_handler=expect_continue)
            self.groups[handler] = group

    def add_others(self, app: web.Application, answer: Handler | None = None, group: str = UNKNOWN) -> None:
        """Serve all other paths of the application, also with a line break in them; 404 unless `answer` says otherwise."""
        handler = answer or partial(_refuse_path)
        self.groups[handler] = group
        for path in ("", r"/{path:[\s\S]*}"):
            if path or not any(resource.canonical == "" for resource in app.router.resources()):
                app.router.add_resource(path).add_route("*", handler, expect_handler=expect_continue)


def routed_url(url: URL) -> URL:
    """The URL with single slashes between the parts of its path; the router goes by this one."""
    raw = url.raw_path
    # An escaped slash separates parts too, but in an id.
    path = _ANY_SLASHES.sub("/", raw) if template_of(raw) is None else _SLASHES.sub("/", raw)
    return url.with_path(path, encoded=True, keep_query=True, keep_fragment=True)


def sent_path(request: web.Request) -> str:
    """The path as the client sent it, decoded."""
    raw = re.split("[?#]", request.raw_path, maxsplit=1)[0]
    return URL.build(path=raw, encoded=True).path if raw.startswith("/") else request.path


def template_of(raw_path: str) -> str | None:
    """The path with `{user}` or `{app}` where the id or the key stands; None for a path that names none."""
    match = _OF_ONE.fullmatch(raw_path)
    return None if match is None else f"/v1/{match[1]}/{{{_NOUN_OF[match[1]]}}}" + _SLASHES.sub("/", match[3])


def user_in(raw_path: str) -> bytes:
    """The User's id in a path; `InvalidInput` if it is too long."""
    return user_id(_named(raw_path), "user")


def app_in(raw_path: str) -> str:
    """The App key in a path; `InvalidInput` if no App can have it."""
    return app_key(_named(raw_path).decode("utf-8", "replace"))


def _named(raw_path: str) -> bytes:
    match = _OF_ONE.fullmatch(raw_path)
    if match is None:  # the slashes around the id are escaped
        raise PathUnknown("there is no such endpoint")
    return unquote_to_bytes(match[2])


async def _refuse_method(allowed: str, request: web.Request) -> web.StreamResponse:
    raise MethodWrong(request.method, allowed)


async def _refuse_path(request: web.Request) -> web.StreamResponse:
    raise PathUnknown(f"there is no endpoint {request.path[:200]}")
