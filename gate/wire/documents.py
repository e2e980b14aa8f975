"""What `COMMAND DOCS` says of each command. redis-cli shows it as hints while somebody types, and under HELP."""

from __future__ import annotations

from typing import NamedTuple


class Argument(NamedTuple):
    """One argument, in the order in which they are typed."""

    name: str
    kind: str = "string"
    token: str = ""
    optional: bool = False
    multiple: bool = False
    choices: tuple[Argument, ...] = ()


class Document(NamedTuple):
    """One command."""

    group: str
    summary: str
    arguments: tuple[Argument, ...] = ()


def _option(token: str, name: str, kind: str = "string") -> Argument:
    return Argument(name, kind, token, optional=True)


_FROM, _TO = Argument("from"), Argument("to")
_FACTS = (_option("MIN", "revision"), _option("FRESH", "ms", "integer"))
_WORD = Argument("subcommand", optional=True)

DOCUMENTS: dict[bytes, Document] = {
    b"GATE.CHECK": Document("gate", "May the first User message the second? 1 may, 0 may not.", (_FROM, _TO, *_FACTS)),
    b"GATE.MCHECK": Document(
        "gate", "May one User message each of many? An array of 1 and 0.", (_FROM, Argument("to", multiple=True))
    ),
    b"GATE.VERDICT": Document("gate", "The reason word: allowed, or which rule denies.", (_FROM, _TO, *_FACTS)),
    b"GATE.EXPLAIN": Document(
        "gate",
        "Every rule with its facts; with SHORT one line a rule.",
        (_FROM, _TO, Argument("short", "pure-token", "SHORT", optional=True)),
    ),
    b"GATE.ONLINE": Document(
        "gate", "Who of these Users is online? An array of 1 and 0.", (Argument("user", multiple=True),)
    ),
    b"GATE.SESSIONS": Document("gate", "The Sessions of a User.", (Argument("user"),)),
    b"GATE.ROUTE": Document("gate", "The reason word, and where the recipient is connected.", (_FROM, _TO)),
    b"GATE.EVENTS": Document(
        "gate",
        "What happened since a cursor: presence changes and kicks.",
        (
            Argument("since", "oneof", choices=(Argument("cursor"), Argument("newest", "pure-token", "$"))),
            _option("COUNT", "n", "integer"),
            _option("GATEWAY", "name"),
            _option("BLOCK", "ms", "integer"),
        ),
    ),
    b"GATE.LEASE": Document(
        "gate",
        "Takes or renews the lease of a Gateway; ms until it ends.",
        (Argument("gateway"), Argument("epoch", "integer")),
    ),
    b"GATE.CONNECT": Document(
        "gate",
        "Opens a Session of a User; its id.",
        (Argument("token"), Argument("platform"), Argument("gateway"), Argument("ip", optional=True)),
    ),
    b"GATE.DISCONNECT": Document(
        "gate",
        "Closes a Session; 0 if it was gone.",
        (Argument("session"), Argument("logout", "pure-token", "LOGOUT", optional=True)),
    ),
    b"GATE.TOUCH": Document(
        "gate", "The Users of these Sessions were active just now.", (Argument("session", multiple=True),)
    ),
    b"MULTI": Document("transactions", "Begins a transaction: commands are queued until EXEC."),
    b"EXEC": Document("transactions", "Carries out what was queued; one array of replies."),
    b"DISCARD": Document("transactions", "Forgets what was queued."),
    b"UNWATCH": Document("transactions", "OK: nothing is watched."),
    b"AUTH": Document("connection", "Binds the connection to an App.", (Argument("app-key"), Argument("app-secret"))),
    b"HELLO": Document(
        "connection",
        "Chooses RESP2 or RESP3, and may bind the connection to an App.",
        (
            Argument("protover", "integer", optional=True),
            Argument("auth", "block", "AUTH", optional=True, choices=(Argument("app-key"), Argument("app-secret"))),
            _option("SETNAME", "clientname"),
        ),
    ),
    b"PING": Document("connection", "PONG, or the message.", (Argument("message", optional=True),)),
    b"ECHO": Document("connection", "The message.", (Argument("message"),)),
    b"RESET": Document("connection", "Forgets the App, the transaction and the protocol version."),
    b"QUIT": Document("connection", "Closes the connection."),
    b"SELECT": Document("connection", "OK for 0: there is one database.", (Argument("index", "integer"),)),
    b"CLIENT": Document(
        "connection",
        "About this connection.",
        (Argument("subcommand"), Argument("argument", optional=True, multiple=True)),
    ),
    b"COMMAND": Document(
        "server", "The commands of this port.", (_WORD, Argument("name", optional=True, multiple=True))
    ),
    b"CONFIG": Document(
        "server",
        "What some clients ask for; settings are options of gate serve.",
        (Argument("pattern", token="GET", multiple=True),),
    ),
    b"INFO": Document("server", "This worker, in sections.", (Argument("section", optional=True, multiple=True),)),
    b"ROLE": Document("server", "master: every node answers checks."),
    b"TIME": Document("server", "The clock of this node."),
    b"MODULE": Document("server", "No modules.", (Argument("list", "pure-token", "LIST"),)),
    b"READONLY": Document("server", "OK: every node answers checks."),
    b"READWRITE": Document("server", "OK: every node takes presence."),
}


def expected(name: bytes) -> str:
    """For the error behind a wrong number of arguments: how the command is typed, as redis-cli shows it."""
    document = DOCUMENTS.get(name)
    return ": expected " + " ".join([name.decode(), *map(_typed, document.arguments)]) if document else ""


def _typed(argument: Argument) -> str:
    if argument.kind == "pure-token":
        text = argument.token
    else:
        between = "|" if argument.kind == "oneof" else " "
        text = between.join(map(_typed, argument.choices)) or argument.name
        text = f"{argument.token} {text}" if argument.token else text
    # Once as required, then once more for those that may follow.
    text = f"{text} [{text} …]" if argument.multiple and not argument.optional else text
    return f"[{text}{' …' if argument.multiple else ''}]" if argument.optional else text
