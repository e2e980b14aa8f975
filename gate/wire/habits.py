"""What clients send by habit, on connecting or to look around, and what lets each of them go on: CLIENT, CONFIG, CLUSTER, …

A refusal with which a client goes on is a `Habit`, which is not counted as an error: else every connection of some clients
would count as one. What a client would rely on is not promised: no key is ever invalidated, nothing is published.
"""

from __future__ import annotations

from collections.abc import Sequence

from gate.clock import wall_ms
from gate.wire import replies
from gate.wire.client import Client, Habit, Reply
from gate.wire.handshake import client_name, shown_argument
from gate.wire.listing import alike
from gate.wire.table import Handler

# What clients and redis-benchmark ask for.
_SETTINGS = {
    "appendonly": "no",
    "databases": "1",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "replica-read-only": "yes",
    "save": "",
    "slave-read-only": "yes",
    "timeout": "0",
}
# StackExchange.Redis reads this key on connecting, to choose between two primaries.
_TIE_BREAK = b"__Booksleeve_TieBreak"


def configuration(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`CONFIG GET pattern …`: nothing is configured over this port."""
    if arguments[0].upper() != b"GET" or len(arguments) < 2:
        raise Reply("ERR CONFIG has only GET here: settings are options of gate serve")
    # A set: each setting is answered once, however many patterns fit it.
    asked_for = {name for pattern in arguments[1:] for name in alike(_SETTINGS, pattern)}
    return replies.encode({name: value for name, value in _SETTINGS.items() if name in asked_for}, client.resp3)


def client_command(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`CLIENT subcommand …`: about this connection only."""
    word, rest = arguments[0].upper(), arguments[1:]
    if word == b"TRACKING" and rest:
        return _tracking(rest)
    arity = _CLIENT_ARITY.get(word)
    if arity is None:
        raise Habit(
            f"ERR unknown subcommand '{shown_argument(arguments[0])}'. "
            "Try CLIENT ID, SETNAME, GETNAME, SETINFO, INFO, LIST, NO-EVICT, NO-TOUCH."
        )
    if len(rest) != arity:
        raise Reply(f"ERR wrong number of arguments for 'client|{word.decode().lower()}' command")
    if word == b"ID":
        return replies.integer(client.id)
    if word == b"GETREDIR":
        # As where tracking is off.
        return replies.integer(-1)
    if word == b"GETNAME":
        return replies.bulk(client.name) if client.name else replies.encode(None, client.resp3)
    if word in (b"INFO", b"LIST"):
        # This connection alone: what others are is not shown to strangers.
        line = b"id=%d addr=%s name=%s resp=%d" % (client.id, client.peer.encode(), client.name, 2 + client.resp3)
        return replies.bulk(line + b"\n")
    if word == b"SETNAME":
        client.name = client_name(rest[0])
    elif word == b"REPLY" and rest[0].upper() != b"ON":
        raise Reply("ERR CLIENT REPLY has only ON here: read the replies, or pipeline")
    # Only behind TRACKING with OPTIN, which is answered OK.
    elif word == b"CACHING":
        raise Reply(_NO_TRACKING)
    elif word == b"SETINFO" and rest[0].upper() not in (b"LIB-NAME", b"LIB-VER"):
        raise Habit(f"ERR Unrecognized option '{shown_argument(rest[0])}': CLIENT SETINFO takes LIB-NAME and LIB-VER")
    return replies.OK


_NO_TRACKING = (
    "ERR CLIENT TRACKING is not supported: a verdict that a client keeps would outlive a Ban. "
    "Switch the client-side cache off, and ask GATE.CHECK on each send"
)


def _tracking(rest: Sequence[bytes]) -> bytes:
    """OFF, and ON OPTIN, with which nothing is kept until `CLIENT CACHING YES`: rueidis begins every connection so."""
    words = [one.upper() for one in rest]
    if words == [b"OFF"] or (words[0] == b"ON" and b"OPTIN" in words and b"BCAST" not in words):
        return replies.OK
    raise Habit(_NO_TRACKING)


# Arguments behind the word. What most clients send on connecting is among these.
_CLIENT_ARITY = {
    b"CACHING": 1,
    b"CAPA": 1,
    b"GETNAME": 0,
    b"GETREDIR": 0,
    b"ID": 0,
    b"INFO": 0,
    b"LIST": 0,
    b"NO-EVICT": 1,
    b"NO-TOUCH": 1,
    b"REPLY": 1,
    b"SETINFO": 2,
    b"SETNAME": 1,
}


def no_cluster(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`CLUSTER …`: StackExchange.Redis asks any server."""
    raise Habit(
        "ERR This instance has cluster support disabled: connect with a client for one server, not for a cluster"
    )


def ok(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`READONLY`, `READWRITE`: every node answers checks."""
    return replies.OK


def role(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`ROLE`: as `INFO replication` says it."""
    return replies.encode(["master", 0, []], client.resp3)


def moment(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`TIME` → seconds and microseconds."""
    now_ms = wall_ms()
    return replies.encode([str(now_ms // 1000), str(now_ms % 1000 * 1000)], client.resp3)


def modules(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`MODULE LIST`."""
    if arguments[0].upper() != b"LIST":
        raise Reply("ERR MODULE has only LIST here: no module can be loaded")
    return replies.EMPTY_ARRAY


def tie_break(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`GET`: only of the key that StackExchange.Redis reads."""
    if arguments[0] == _TIE_BREAK:
        return replies.null(client.resp3)
    raise Reply("ERR unknown command 'GET': there are no keys here. Ask GATE.CHECK from to; COMMAND lists the others")


def no_subscribing(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`SUBSCRIBE`, `PSUBSCRIBE`, `SSUBSCRIBE`, `MONITOR`, `PUBLISH`."""
    raise Reply(
        "ERR there is no pub/sub here: send GATE.EVENTS cursor|$ [COUNT n] [GATEWAY name] [BLOCK ms], which waits for events"
    )


def unsubscribed(kind: bytes) -> Handler:
    """`UNSUBSCRIBE` and its like, which some clients send as a heartbeat: there was no subscription."""

    def answer(client: Client, arguments: Sequence[bytes]) -> bytes:
        # In RESP3 a push, which a client does not take for the reply to its next command.
        begin = b">3\r\n" if client.resp3 else b"*3\r\n"
        # Without a channel Redis answers once, with null in its place.
        channels = [replies.bulk(one) for one in arguments] or [replies.null(client.resp3)]
        return b"".join(begin + replies.bulk(kind) + channel + replies.ZERO for channel in channels)

    return answer
