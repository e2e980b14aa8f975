"""The RESP commands as one table: name, arity, what answers it; and the wording of every error.

A handler takes the connection's `Client` and the arguments (without the name), runs inside a read bracket, and returns the
encoded reply, or a `Demand` when a check asks for a Revision that is not applied here yet. It never blocks and never touches
the socket. It refuses by raising a `GateError`; anything else that escapes is a bug and ends that one connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from gate.core.model import FOREVER_MS
from gate.errors import (
    FeedReset,
    GateError,
    ReplicaError,
    SessionRefused,
    Stale,
    StoreUnavailable,
    TokenRefused,
    Unavailable,
)
from gate.wire import checks, gateways, handshake, presence, replies
from gate.wire.checks import Demand
from gate.wire.client import MAX_STRANGER_COMMANDS, Client, NoAuth
from gate.wire.later import Later

Handler = Callable[[Client, Sequence[bytes]], "bytes | Demand | Later"]

MAX_LISTED = 64
"""Names in one COMMAND INFO, and words of the other commands that take any: each a few microseconds."""
_HTTP_NAMES = frozenset([b"POST", b"HOST:"])
_HTTP_VERSION = b"HTTP/"
_SHOWN_ARGUMENTS_BYTES = 128
"""How much of an unknown command's arguments its error repeats, as Redis does."""


class Command(NamedTuple):
    """One row: arguments without the name, at least and at most (None: as many as the parser takes)."""

    answer: Handler
    least: int
    most: int | None
    needs_app: bool


def _listing(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`COMMAND [COUNT|DOCS|INFO|LIST …]`: enough for clients that look before they speak."""
    word = arguments[0].upper() if arguments else b""
    if word == b"COUNT":
        return replies.integer(len(COMMANDS))
    if word == b"DOCS":
        return replies.encode({}, client.resp3)
    if word == b"LIST":
        return replies.encode([name.decode().lower() for name in COMMANDS], client.resp3)
    if word == b"INFO" and len(arguments) > 1:
        return replies.encode([_listed(name.upper()) for name in arguments[1:]], client.resp3)
    return _whole_table(client.resp3)


@cache
def _whole_table(resp3: bool) -> bytes:
    """Many clients ask for it on connecting, and it takes 0.2 ms."""
    return replies.encode([_listed(name) for name in COMMANDS], resp3)


def _listed(name: bytes) -> replies.Value:
    """A command as `COMMAND INFO` describes one: name, arity, flags, and no keys."""
    command = COMMANDS.get(name)
    if command is None:
        return None
    exact = command.least == command.most
    arity = command.least + 1 if exact else -(command.least + 1)
    return [name.decode().lower(), arity, ["readonly", "fast"], 0, 0, 0]


COMMANDS: dict[bytes, Command] = {
    b"GATE.CHECK": Command(checks.check, 2, 6, True),
    b"GATE.MCHECK": Command(checks.check_many, 2, None, True),
    b"GATE.VERDICT": Command(checks.verdict, 2, 6, True),
    b"GATE.EXPLAIN": Command(checks.explain_check, 2, 2, True),
    b"GATE.ONLINE": Command(presence.online, 1, None, True),
    b"GATE.SESSIONS": Command(presence.sessions, 1, 1, True),
    b"GATE.ROUTE": Command(presence.route, 2, 2, True),
    b"GATE.EVENTS": Command(presence.events, 1, 5, True),
    b"GATE.LEASE": Command(gateways.lease, 2, 2, True),
    b"GATE.CONNECT": Command(gateways.connect, 3, 4, True),
    b"GATE.DISCONNECT": Command(gateways.disconnect, 1, 2, True),
    b"GATE.TOUCH": Command(gateways.touch, 1, None, True),
    b"AUTH": Command(handshake.auth, 1, 2, False),
    b"HELLO": Command(handshake.hello, 0, MAX_LISTED, False),
    b"PING": Command(handshake.ping, 0, 1, False),
    b"ECHO": Command(handshake.echo, 1, 1, True),
    b"RESET": Command(handshake.reset, 0, 0, False),
    b"QUIT": Command(handshake.quit_connection, 0, MAX_LISTED, False),
    b"SELECT": Command(handshake.select, 1, 1, False),
    b"COMMAND": Command(_listing, 0, MAX_LISTED, False),
    b"CLIENT": Command(handshake.client_command, 1, None, False),
    b"CONFIG": Command(handshake.configuration, 1, MAX_LISTED, False),
    b"INFO": Command(handshake.about, 0, MAX_LISTED, True),
}


def answer(client: Client, parts: Sequence[bytes], outage: GateError | None = None) -> bytes | Demand | Later:
    """The reply to one parsed command; every documented refusal becomes an error reply.

    `outage` says why there is no bracket: then what asks the Replica is refused with it, and the rest is answered.
    """
    name = parts[0].upper()
    command = COMMANDS.get(name)
    if client.app_reading is None:
        client.stranger_commands += 1
        if client.stranger_commands > MAX_STRANGER_COMMANDS:
            return _end(client, _TOO_MANY_BEFORE_AUTH)
    if command is None:
        if name in _HTTP_NAMES or parts[-1].upper().startswith(_HTTP_VERSION):
            return _end(client, _HTTP_REFUSED)
        client.worker.errors += 1
        return replies.error(_unknown(parts))
    given = len(parts) - 1
    if given < command.least or (command.most is not None and given > command.most):
        client.worker.errors += 1
        return replies.error(f"ERR wrong number of arguments for '{name.decode().lower()}' command")
    try:
        if command.needs_app:
            if outage is not None:
                raise outage
            client.app()
        return command.answer(client, parts[1:])
    except GateError as refusal:
        client.worker.errors += 1
        return refused(refusal)


def _end(client: Client, problem: str) -> bytes:
    """Answer the error, then close."""
    client.worker.errors += 1
    client.quitting = True
    return replies.error(problem)


_TOO_MANY_BEFORE_AUTH = (
    f"NOAUTH More than {MAX_STRANGER_COMMANDS} commands without an App: the connection is closed. "
    "Send AUTH app-key app-secret first"
)
# A page in a browser on the same network may be made to send its request here: not one line of it is taken as a command.
_HTTP_REFUSED = "ERR Protocol error: this is HTTP, and this port speaks RESP: HTTP is another port (gate serve --http)"


def worded(later: Later) -> bytes | Later:
    """The reply that has come, or what else there is to wait for; every documented refusal becomes an error reply."""
    try:
        return later.word()
    except GateError as refusal:
        return refused(refusal)


def refused(refusal: GateError) -> bytes:
    """The error reply for a refusal: the code word by its kind, then its text."""
    if isinstance(refusal, TokenRefused):
        return replies.error(f"{_TOKEN_CODES.get(refusal.fault, 'BADTOKEN')} {refusal}{_until(refusal.until_ms)}")
    if isinstance(refusal, SessionRefused):
        return replies.error(f"{_SESSION_CODES.get(refusal.fault, 'ERR')} {refusal}")
    for kind, code in _CODES:
        if isinstance(refusal, kind):
            return replies.error(f"{code}{refusal}{_outcome(refusal)}")
    return replies.error(f"ERR {refusal}")


def _until(until_ms: int | None) -> str:
    if until_ms is None:
        return ""
    return f" until {until_ms} ms" if until_ms < FOREVER_MS else " without end"


def _outcome(refusal: GateError) -> str:
    unknown = isinstance(refusal, StoreUnavailable) and refusal.outcome == "unknown"
    return "; the outcome is unknown, and it is safe to repeat" if unknown else ""


_TOKEN_CODES = {"user-banned": "BANNED", "user-deactivated": "DEACTIVATED"}
_SESSION_CODES = {"no-lease": "NOLEASE", "fenced": "FENCED"}


_CODES: tuple[tuple[type[GateError], str], ...] = (
    (handshake.Reply, ""),
    (NoAuth, "NOAUTH "),
    (handshake.WrongPass, "WRONGPASS "),
    (handshake.NoProto, "NOPROTO "),
    (Stale, "STALE "),
    (ReplicaError, "UNAVAILABLE "),
    (Unavailable, "UNAVAILABLE "),
    (FeedReset, "RESET "),
)


def _unknown(parts: Sequence[bytes]) -> str:
    shown = parts[0][:_SHOWN_ARGUMENTS_BYTES]
    beginning = b""
    for argument in parts[1:]:
        if len(beginning) >= _SHOWN_ARGUMENTS_BYTES:
            break
        beginning += b"'%b' " % argument[: _SHOWN_ARGUMENTS_BYTES - len(beginning)]
    text = b"ERR unknown command '%b', with args beginning with: %b" % (shown, beginning)
    return text.decode("utf-8", "surrogateescape")  # the reply has the same bytes again
