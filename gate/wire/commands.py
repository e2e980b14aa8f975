"""The RESP commands as one table: name, arity, the scopes that it needs, what answers it.

A handler takes the connection's `Client` and the arguments (without the name), runs inside a read bracket, and returns the
encoded reply, or a `RevisionDemand` when a check asks for a Revision that is not applied here yet. It never blocks and never
touches the socket. It refuses by raising a `GateError`, which `refusals` words; anything else that escapes is a bug and ends
that one connection.
"""

from __future__ import annotations

from collections.abc import Sequence

from gate.core.scopes import CHECK, CHECK_AND_PRESENCE, PRESENCE
from gate.errors import GateError
from gate.wire import (
    about,
    checks,
    events,
    gateways,
    habits,
    handshake,
    listing,
    presence,
    replies,
    transactions,
)
from gate.wire.checks import RevisionDemand
from gate.wire.client import MAX_STRANGER_COMMANDS, Client, Habit
from gate.wire.refusals import refused, unknown_command, wrong_number
from gate.wire.table import Command, InMulti, PendingReply

# Names in one COMMAND INFO, and words of the other commands that take any: each a few microseconds.
MAX_LISTED = 64
# In one CONFIG GET: each may take 0.2 ms.
MAX_PATTERNS = 8
_HTTP_NAMES = frozenset([b"POST", b"HOST:"])
_HTTP_VERSION = b"HTTP/"


def _listing(client: Client, arguments: Sequence[bytes]) -> bytes:
    return listing.command(COMMANDS, client, arguments)


# The same names between MULTI and EXEC.
QUEUEING: dict[bytes, Command] = {}
# Before AUTH as well; or once there is an App, with any scopes.
_NO_APP, _ANY_APP = None, ()
_HERE, _REDIS, _AT_ONCE, _NEVER = InMulti.HERE, InMulti.REDIS, InMulti.AT_ONCE, InMulti.NEVER

COMMANDS: dict[bytes, Command] = {
    b"GATE.CHECK": Command(checks.check, 2, 6, CHECK, _HERE, checks.weight),
    b"GATE.MCHECK": Command(checks.check_many, 2, None, CHECK, _HERE, lambda ids: len(ids) - 1),
    b"GATE.VERDICT": Command(checks.verdict, 2, 6, CHECK, _HERE, checks.weight),
    b"GATE.EXPLAIN": Command(checks.explain_check, 2, 3, CHECK, _HERE, lambda _: 50),
    b"GATE.ONLINE": Command(presence.online, 1, None, PRESENCE, _REDIS, len),
    b"GATE.SESSIONS": Command(presence.sessions, 1, 1, PRESENCE, _REDIS, lambda _: 10),
    b"GATE.ROUTE": Command(presence.route, 2, 2, CHECK_AND_PRESENCE, _REDIS, lambda _: 5, presence.route_decided),
    b"GATE.EVENTS": Command(events.events, 1, 7, PRESENCE, _REDIS, events.weight),
    b"GATE.LEASE": Command(gateways.lease, 2, 2, PRESENCE, _REDIS, lambda _: 5),
    b"GATE.CONNECT": Command(gateways.connect, 3, 4, PRESENCE, _REDIS, lambda _: 5),
    b"GATE.DISCONNECT": Command(gateways.disconnect, 1, 2, PRESENCE, _REDIS, lambda _: 5),
    b"GATE.TOUCH": Command(gateways.touch, 1, None, PRESENCE, _REDIS, len),
    b"MULTI": Command(transactions.multi(QUEUEING), 0, 0, _ANY_APP, _AT_ONCE),
    b"EXEC": Command(transactions.execute, 0, 0, _NO_APP, _AT_ONCE),
    b"DISCARD": Command(transactions.discard, 0, 0, _NO_APP, _AT_ONCE),
    b"UNWATCH": Command(transactions.unwatch, 0, 0, _NO_APP),
    b"AUTH": Command(handshake.auth, 1, 2, _NO_APP, _NEVER),
    b"HELLO": Command(handshake.hello, 0, MAX_LISTED, _NO_APP, _NEVER),
    b"PING": Command(handshake.ping, 0, 1, _NO_APP),
    b"ECHO": Command(handshake.echo, 1, 1, _ANY_APP),
    b"RESET": Command(handshake.reset, 0, 0, _NO_APP, _AT_ONCE),
    b"QUIT": Command(handshake.quit_connection, 0, MAX_LISTED, _NO_APP, _AT_ONCE),
    b"SELECT": Command(handshake.select, 1, 1, _NO_APP),
    b"COMMAND": Command(_listing, 0, MAX_LISTED, _NO_APP, _HERE, lambda _: 500),
    b"CLIENT": Command(habits.client_command, 1, None, _NO_APP),
    b"CONFIG": Command(habits.configuration, 1, 1 + MAX_PATTERNS, _NO_APP, _HERE, lambda words: 20 * len(words)),
    b"INFO": Command(about.about, 0, MAX_LISTED, _ANY_APP, _HERE, lambda _: 50),
    b"ROLE": Command(habits.role, 0, 0, _NO_APP),
    b"TIME": Command(habits.moment, 0, 0, _NO_APP),
    b"MODULE": Command(habits.modules, 1, 2, _NO_APP),
    b"READONLY": Command(habits.ok, 0, 0, _NO_APP),
    b"READWRITE": Command(habits.ok, 0, 0, _NO_APP),
    # From here on: always refused, or answered as if there were nothing.
    b"WATCH": Command(transactions.watch, 1, None, _NO_APP, _AT_ONCE, is_listed=False),
    b"CLUSTER": Command(habits.no_cluster, 1, None, _NO_APP, is_listed=False),
    b"GET": Command(habits.tie_break, 1, 1, _NO_APP, is_listed=False),
    **{
        name: Command(habits.no_subscribing, 0, None, _NO_APP, _AT_ONCE, is_listed=False)
        for name in (b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"MONITOR", b"PUBLISH", b"SPUBLISH", b"PUBSUB")
    },
    **{
        name: Command(habits.unsubscribed(name.lower()), 0, MAX_LISTED, _NO_APP, _NEVER, is_listed=False)
        for name in (b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE")
    },
}

# Filled later, since the handler of MULTI holds the table itself.
QUEUEING.update({name: transactions.queueing(row) for name, row in COMMANDS.items()})
QUEUEING[b"MULTI"] = COMMANDS[b"MULTI"]._replace(answer=transactions.nested, needs=_NO_APP)


def answer(
    client: Client, parts: Sequence[bytes], outage: GateError | None = None
) -> bytes | RevisionDemand | PendingReply:
    """The reply to one parsed command; every documented refusal becomes an error reply.

    `outage` says why there is no bracket: then what asks the Replica is refused with it, and the rest is answered.
    """
    # Names in lower case are as good, as in Redis; the fast ways leave those to this one.
    name = parts[0].upper()
    command = client.table.get(name)
    if client.app_reading is None:
        client.stranger_commands += 1
        if client.stranger_commands > MAX_STRANGER_COMMANDS:
            return _end(client, _TOO_MANY_BEFORE_AUTH)
    if command is None:
        # Of a request line and of a Host header: what a browser can be made to send.
        if name in _HTTP_NAMES or parts[-1].upper().startswith(_HTTP_VERSION):
            return _end(client, _HTTP_REFUSED)
        _note_error(client)
        return unknown_command(parts)
    given = len(parts) - 1
    if given < command.least or (command.most is not None and given > command.most):
        _note_error(client)
        return wrong_number(name)
    try:
        if command.needs is not None:
            if outage is not None:
                raise outage
            client.permit(command.needs)
        return command.answer(client, parts[1:])
    except GateError as refusal:
        _note_error(client, is_counted=not isinstance(refusal, Habit))
        return refused(refusal)


def _note_error(client: Client, *, is_counted: bool = True) -> None:
    """A transaction that met an error while it was queued is not carried out."""
    client.worker.errors += is_counted
    if client.queued is not None:
        client.queued.spoil()


def _end(client: Client, problem: str) -> bytes:
    """Answer the error, then close."""
    _note_error(client)
    client.quitting = True
    return replies.error(problem)


_TOO_MANY_BEFORE_AUTH = (
    f"NOAUTH More than {MAX_STRANGER_COMMANDS} commands without an App: the connection is closed. "
    "Send AUTH app-key app-secret first"
)
# A page in a browser on the same network may be made to send its request here: not one line of it is taken as a command.
_HTTP_REFUSED = "ERR Protocol error: this is HTTP, and this port speaks RESP: HTTP is another port (gate serve --http)"
