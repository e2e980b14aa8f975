"""Paths: from the bytes as sent to the route, and to the User or the App that a path names.

The path as sent is looked up. Percent-encoded letters, doubled slashes, dot segments and `;` are not normalized: a proxy that
filters by path must not let a second spelling of a path pass. There are two exceptions. A User's id may hold anything, so it is
percent-encoded, slashes too. And slashes count as one where RongCloud's SDKs send doubled ones: under `/user/`, and in families
of paths that are only ever refused.

aiohttp's router matches a decoded path, so it gets a URL in which each `%` of the path is escaped once more.
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

LOGGED_PATH = web.RequestKey("logged_path", str)
"""Set by mounted pages: what stands in the log for the path, of pages that have no route of their own."""
MALFORMED = "malformed"
"""What requests are counted as that are no HTTP that can be read."""

is_plain_target = re.compile(r"(?:(?:/[\w~-][\w.~-]*)+/?|/)(?:\?.*)?", re.ASCII | re.DOTALL).fullmatch
"""Whether a request target has one spelling only, so that `routed` would not change it."""

# What RongCloud's SDKs can call and Gate does not do: refused by name, so that no caller looks for its own mistake. Code 1009
# with HTTP 430 is the service's own answer for a feature that is not enabled. The body is not read: some of these take JSON.
# Newer Java SDKs take an answer without `code` for a broken host and move all their traffic to another, so each family that
# an SDK knows is answered, whichever of its paths it is.

FEATURES: dict[str, tuple[str, ...]] = {
    "push tags": ("tag/set", "tag/batch/set", "tags/get"),
    "push remarks": ("remarks/set", "remarks/del", "remarks/get"),
    "push periods": ("blockPushPeriod/set", "blockPushPeriod/get", "blockPushPeriod/delete"),
    "hosted profiles": ("profile/set", "profile/clean", "profile/query", "profile/batch/query"),
    "groups": ("group/query",),
    "subscriptions to presence": ("subscribe/set", "subscribe/query"),
    "message blocks": ("message/block/add", "message/block/remove", "message/block/query"),
}

UNSUPPORTED: dict[str, str] = {f"/user/{name}.json": feature for feature, names in FEATURES.items() for name in names}
"""By path: the feature."""

FAMILIES: dict[str, str] = {
    "group": "groups",
    "entrust": "hosted groups",
    "ultragroup": "ultra groups",
    "chatroom": "chatrooms",
    "message": "messages",
    "statusmessage": "status messages",
    "history": "message history",
    "conversation": "conversation settings",
    "friend": "friends",
    "push": "push notifications",
    "sensitiveword": "sensitive words",
    "wordfilter": "sensitive words",
    "discussion": "discussions",
    "bot": "bots",
    "rtc": "audio and video rooms",
    "sms": "text messages by phone",
    "stat": "statistics",
}
"""By the first part of a path, outside `/user/`: what RongCloud's SDKs of any age call it for."""
FAMILY_PATH = rf"/{{path:(?:v[23]/)?(?:{'|'.join(FAMILIES)})(?:/[\s\S]*)?[.]json}}"
"""Template of all paths in those families."""
_ENDING = ".json"

_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_OF_ONE = re.compile(r"/v1/(users|apps)/([^/?]+)((?:/[^/?]+)*)(?:\?.*)?")
_NOUN_OF = {"users": "user", "apps": "app"}
_DOUBLED_BY_SDKS = re.compile(rf"/+(?:user|(?:v[23]/+)?(?:{'|'.join(FAMILIES)}))/")
_SLASHES = re.compile(r"/{2,}")
_VARIABLE = re.compile(r"\{(\w+)\}")


class Routes:
    """Adds routes to an application."""

    def __init__(self, app: web.Application, served: Callable[[Handler, str, str], Handler]) -> None:
        """`served` makes the handler of a route out of its answer, its group, and what stands in the log for the path."""
        self._router = app.router
        self._served = served

    def add(
        self,
        path: str,
        group: str,
        methods: Mapping[str, Handler],
        unlisted: Mapping[str, Handler] | None = None,
        logged: str = "",
    ) -> None:
        """Serve this path, a template such as `/v1/users/{user}`.

        HEAD goes with GET. `unlisted` are methods that the 405 of others does not name. The path is logged as `logged`, or as
        the template.
        """
        resource = self._router.add_resource(_VARIABLE.sub(r"{\1:[^/]+}", path))
        answers = {**methods, **(unlisted or {})}
        # An answer of ours in the place of aiohttp's 405, which would answer `Expect` by itself.
        answers["*"] = partial(_refuse_method, ", ".join(sorted(methods)))
        for method, answer in answers.items():
            handler = self._served(answer, group, logged or path)
            for one in ("GET", "HEAD") if method == "GET" else (method,):
                resource.add_route(one, handler, expect_handler=expect_continue)

    def add_others(self, prefix: str = "", handler: Handler | None = None) -> None:
        """Serve all other paths below `prefix`, also with a line break in them; 404 unless `handler` says otherwise."""
        handler = handler or self._served(refuse_path, UNKNOWN, UNKNOWN)
        for path in (prefix, rf"{prefix}/{{path:[\s\S]*}}"):
            if path:
                self._router.add_resource(path).add_route("*", handler, expect_handler=expect_continue)


def routed(target: str) -> tuple[str, URL]:
    """The request target in its origin form, and the URL that the router goes by."""
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        target = target[absolute.end() :]
    if not target.startswith("/"):  # `http://host?query`, `*`, or the `host:port` of a CONNECT
        target = f"/{target}"
    path, _, query = target.partition("?")
    named = _OF_ONE.fullmatch(path)
    if named is not None:
        # Here the router takes what is escaped for the id's own bytes.
        path = f"/v1/{named[1]}/{named[2].replace('#', '%23')}{_as_sent(named[3])}"
    else:
        path = _as_sent(_SLASHES.sub("/", path) if _DOUBLED_BY_SDKS.match(path) else path)
    return target, URL.build(path=path, query_string=query, encoded=True)


def _as_sent(path: str) -> str:
    """The path that decodes to these characters."""
    return path.replace("%", "%25").replace("#", "%23")


def sent_path(request: web.Request) -> str:
    """The path as the client sent it, decoded."""
    raw = re.split("[?#]", request.raw_path, maxsplit=1)[0]
    return URL.build(path=raw, encoded=True).path if raw.startswith("/") else request.path


def template_of(raw_path: str) -> str | None:
    """The path with `{user}` or `{app}` where the id or the key stands; None for a path that names none."""
    match = _OF_ONE.fullmatch(raw_path)
    return None if match is None else f"/v1/{match[1]}/{{{_NOUN_OF[match[1]]}}}{match[3]}"


def user_in(raw_path: str) -> bytes:
    """The User's id in a path; `InvalidInput` if it is too long."""
    return user_id(unquote_to_bytes(_named(raw_path)), "user")


def app_in(raw_path: str) -> str:
    """The App key in a path; `InvalidInput` if no App can have it."""
    # As sent: no key needs percent-encoding, so each App has one spelling that a proxy can filter by.
    return app_key(_named(raw_path))


def _named(raw_path: str) -> str:
    match = _OF_ONE.fullmatch(raw_path)
    assert match is not None, "asked only on routes of these paths"
    return match[2]


async def _refuse_method(allowed: str, request: web.Request) -> web.StreamResponse:
    raise MethodWrong(request.method, allowed)


async def refuse_path(request: web.Request) -> web.StreamResponse:
    """Answer as where there is no endpoint."""
    raise PathUnknown(f"there is no endpoint {request.path[:200]}")


def unsupported_feature(path: str) -> str | None:
    """The feature of RongCloud's that this path belongs to, for a path in a family that Gate does not serve; else None."""
    if not path.endswith(_ENDING):
        return None
    words = path.removesuffix(_ENDING).lstrip("/").split("/")
    # RongCloud numbers some of its paths: /v2/message/… is a message too. Gate's own /v1 is not among them.
    return FAMILIES.get(words[1] if words[0] in ("v2", "v3") and len(words) > 1 else words[0])
