"""The pages, one file each, and the one table of where they are.

A new page needs a file here, a template in `templates/`, and a line below. The keys of `OF_APP` are paths below
`/console/APP/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gate.console import static_files
from gate.console.request_context import ConsoleContext
from gate.console.views import apps, check, kick, online, sessions, sign_in, user

View = Callable[[ConsoleContext], Awaitable[web.StreamResponse]]
Views = dict[str, dict[str, View]]

OPEN: Views = {
    "sign-in": {"GET": sign_in.show, "POST": sign_in.enter},
    "sign-out": {"POST": sign_in.leave},
}
"""Pages without a sign-in."""

STATIC: Views = {name: {"GET": static_files.show} for name in static_files.FILES}
"""Files, which are the same for everybody."""

OF_ALL: Views = {"": {"GET": apps.show}, "sessions": {"GET": sessions.show, "POST": sessions.end}}
"""Pages for operators that belong to no App."""

OF_APP: Views = {
    "": {"GET": online.begin},
    "online": {"GET": online.show},
    "online/part": {"GET": online.part},
    "user": {"GET": user.show},
    "user/kick": {"POST": kick.kick},
    "check": {"GET": check.show},
}
"""Pages for operators about one App."""

RENEWED = {"online/part"}
"""Of one App: what a page loads by itself, which is no sign that a person is there."""
