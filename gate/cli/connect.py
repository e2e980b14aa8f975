"""`gate connect`: be a client, as an app or a web page is one, over the WebSocket that docs/websocket.md describes.

After a connection that was online ends, the client reconnects as that page says. If the first attempt fails, it does not try
again: the address or the Token is probably wrong. The exit status is 0 if the user left while online, 1 if the User may not be
online or, with `--once`, a request failed, and 3 if the service was unavailable. The Token is never printed.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Annotated
from urllib.parse import urlsplit

import typer

from gate.cli.client_staying import Client
from gate.cli.command import Command, takes
from gate.cli.options import Mistakes, all_mistakes
from gate.cli.store_connection import run
from gate.cli.time_format import parse_duration
from gate.cli.users import minted_token
from gate.core.presence import parse_platform
from gate.core.registration import registrable
from gate.core.urls import host_of
from gate.errors import InvalidInput

PING_S = 20
LEAST_PING_S = 0.1
# No sign, no exponent, no nan: what `float` takes beyond this is a mistake here.
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,3})?")

# What fits a header. Whether it is a Token the server says.
_TOKEN = re.compile(r"[!-~]{1,4096}")
_ADDRESS = re.compile(r"((?:http|ws)(?P<secure>s?)://)?(?P<place>[^\s/?#@]+)(?P<path>(/[^\s/?#]+)*)/?")

_Token = Annotated[
    str | None, typer.Argument(metavar="TOKEN", envvar="GATE_TOKEN", show_default=False, help="The User's Token.")
]
_User = Annotated[
    str | None, typer.Option("--user", metavar="USER", help="Mint a Token for this User, as gate user token does.")
]
_Platform = Annotated[
    str | None, typer.Option("--platform", metavar="NAME", help="The kind of device; default: Websocket.")
]
_Http = Annotated[
    str | None,
    typer.Option(
        "--http",
        envvar="GATE_HTTP",
        metavar="ADDRESS",
        help="HOST:PORT, or a URL; default: that of the service in DIR, or 127.0.0.1:8080.",
    ),
]
_Once = Annotated[bool, typer.Option("--once", help="Leave when stdin has ended and all of it is answered.")]
_For = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="Leave after so long: 30s, 2h30m, or so many seconds.")
]
_Ping = Annotated[
    str, typer.Option("--ping", metavar="TIME", help="How often to see if the server lives: 20s, or seconds.")
]
_NoReconnect = Annotated[bool, typer.Option("--no-reconnect", help="Leave when the connection ends.")]


@takes("app", "redis")
def connect(
    command: Command,
    token: _Token = None,
    user: _User = None,
    platform: _Platform = None,
    http: _Http = None,
    once: _Once = False,
    for_time: _For = None,
    ping: _Ping = f"{PING_S}s",
    no_reconnect: _NoReconnect = False,
) -> None:
    """Be online as a User, over the WebSocket, and show what comes.

    Lines on stdin are sent: ping, active, logout, presence USER…, blacklist [USER], block USER…, unblock USER…, or a message
    as JSON. quit leaves.
    With --json each line printed is an object, as it came, or one of type closed, refused, unreachable or reconnecting.
    """
    # Its own option: it takes a URL, where the shared one takes HOST:PORT.
    target = replace(command, http=http)
    with all_mistakes() as mistakes:
        url = mistakes.take(lambda: _url(target.http_address()), "")
        for_s = mistakes.take(lambda: None if for_time is None else _seconds(for_time, "--for"), None)
        ping_s = mistakes.take(lambda: _ping_s(ping), 0.0)
        if platform is not None:
            mistakes.take(lambda: parse_platform(os.fsencode(platform)), "")
        # Nothing is minted before all mistakes are known: a Token registers its User.
        given = _as_whom(token, user, mistakes)
    # Minted over Redis, so --user needs the node's rights; a Token alone needs only the address.
    shown = given if isinstance(given, str) else _minted(command, given)
    run(
        Client(once=once, for_s=for_s, reconnects=not no_reconnect, as_json=command.as_json).stay(
            url, shown, platform, ping_s
        )
    )


def _seconds(text: str, option: str) -> float:
    return float(text) if _SECONDS.fullmatch(text) else float(parse_duration(text, option))


def _ping_s(text: str) -> float:
    seconds = _seconds(text, "--ping")
    if seconds < LEAST_PING_S:
        raise InvalidInput("--ping", f"must be at least {LEAST_PING_S} s")
    return seconds


def _as_whom(token: str | None, user: str | None, mistakes: Mistakes) -> str | bytes:
    """A Token, or the User to mint one for."""
    if user is not None and token is None:
        return mistakes.take(lambda: registrable(os.fsencode(user), "--user"), b"")
    if token is None or user is not None:
        mistakes.add(InvalidInput("TOKEN", "say one (or set GATE_TOKEN), or --user, not both"))
    # A line break would end the header, and what follows be one of its own.
    elif not _TOKEN.fullmatch(token):
        mistakes.add(InvalidInput("TOKEN", "holds what no Token holds, such as a space or a line break"))
    return token or ""


def _minted(command: Command, user: bytes) -> str:
    token, _ = command.ask_app(lambda connection, app: minted_token(connection, app, user))
    return token


def _url(address: str) -> str:
    """Scheme, host and port of the server, and the path that it is served below, if any."""
    found = _ADDRESS.fullmatch(address)
    if found is None:  # not quoted: with a query or a password in it, it may hold a secret
        raise InvalidInput("--http", "must be HOST:PORT, or a URL such as https://im.example.com")
    try:
        host_of(urlsplit(f"//{found['place']}").hostname or "")
    except ValueError as fault:
        raise InvalidInput("--http", str(fault)) from None
    return f"http{found['secure'] or ''}://{found['place']}{found['path']}"
