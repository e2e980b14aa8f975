"""The pages, one file each, and the one table of where they are.

A new page is a file here, a template beside the others, and a line below. `OF_APP` are by what follows `/console/APP/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gate.console import static_files
from gate.console.request_context import ConsoleContext
from gate.console.views import apps, check, kick, online, sign_in, user

View = Callable[[ConsoleContext], Awaitable[web.StreamResponse]]
Views = dict[str, dict[str, View]]

OPEN: Views = {
    "sign-in": {"GET": sign_in.show, "POST": sign_in.enter},
    "sign-out": {"POST": sign_in.leave},
    **{name: {"GET": static_files.show} for name in static_files.FILES},
}
"""To anybody."""

OF_ALL: Views = {"": {"GET": apps.show}}
"""To operators, of no App."""

OF_APP: Views = {
    "": {"GET": online.begin},
    "online": {"GET": online.show},
    "online/part": {"GET": online.part},
    "user": {"GET": user.show},
    "user/kick": {"POST": kick.kick},
    "check": {"GET": check.show},
}
"""To operators, of one App."""
