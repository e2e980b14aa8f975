"""The commands that clients send around the real ones: AUTH, HELLO, PING, CLIENT and their like, answered as Redis does.

Only what common clients (redis-py, go-redis, jedis, redis-cli, redis-benchmark) need on connecting. PING and HELLO work before
AUTH, unlike in Redis, so that a load balancer can ask whether the port lives and a client can agree on RESP3 first.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

from gate import __version__
from gate.clock import monotonic_ms
from gate.core.ids import app_key as checked_key
from gate.errors import GateError, InvalidInput
from gate.wire import replies
from gate.wire.client import MAX_WRONG_AUTHS, Client

SPEAKS_LIKE = "7.2.0"
"""The Redis version that INFO and HELLO name, for clients that choose their own commands by it."""

MAX_DIGITS = 18
"""Of a number in a command: what certainly fits the 64 bits that Redis reads numbers into."""


class WrongPass(GateError):
    """The App key or secret is wrong; which of the two is not said."""


class NoProto(GateError):
    """HELLO asked for a protocol version that is not spoken here."""


class Reply(GateError):
    """An error reply whose text is already as Redis words it."""


def auth(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`AUTH app-key app-secret` binds the connection to an App."""
    if len(arguments) == 1:
        raise Reply("ERR AUTH here takes two arguments: AUTH app-key app-secret")
    _bind(client, arguments[0], arguments[1])
    return replies.OK


def hello(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`HELLO [2|3] [AUTH key secret] [SETNAME name]` → a map about the server."""
    resp3 = client.resp3
    if arguments:
        if arguments[0] not in (b"2", b"3"):
            if not arguments[0].isdigit():
                raise Reply("ERR Protocol version is not an integer or out of range")
            raise NoProto("unsupported protocol version")
        resp3 = arguments[0] == b"3"
    credentials, name = _hello_options(arguments[1:])
    if credentials is not None:
        _bind(client, *credentials)
    if name is not None:
        client.name = name
    client.resp3 = resp3
    described: dict[str, replies.Value] = {
        "server": "gate",
        "version": SPEAKS_LIKE,
        "proto": 3 if resp3 else 2,
        "id": client.id,
        "mode": "standalone",
        "role": "master",
        "modules": [],
    }
    return replies.encode(described, resp3)


def _hello_options(options: Sequence[bytes]) -> tuple[tuple[bytes, bytes] | None, bytes | None]:
    credentials, name, at = None, None, 0
    while at < len(options):
        word, left = options[at].upper(), len(options) - at - 1
        if word == b"AUTH" and left >= 2:
            credentials = (options[at + 1], options[at + 2])
            at += 3
        elif word == b"SETNAME" and left >= 1:
            name = _client_name(options[at + 1])
            at += 2
        else:
            raise Reply(f"ERR Syntax error in HELLO option '{_shown(options[at])}'")
    return credentials, name


def _bind(client: Client, key: bytes, secret: bytes) -> None:
    try:
        app_key = checked_key(key.decode("ascii"))
    except (UnicodeDecodeError, InvalidInput):
        app_key = ""
    app = client.worker.reading.app(app_key) if app_key else None
    secrets = app.app.secrets if app is not None else ("",)
    # Every secret is compared, and one where there is no App, so that time tells nothing.
    matches = [hmac.compare_digest(known.encode(), secret) for known in secrets]
    if app is None or not any(matches) or not secret:
        raise WrongPass(f"invalid username-password pair or user is disabled.{_wrong_again(client)}")
    client.bind(app_key, app, secret.decode())


def _wrong_again(client: Client) -> str:
    client.wrong_auths += 1
    if client.wrong_auths < MAX_WRONG_AUTHS:
        return ""
    client.quitting = True
    return f" This was the {MAX_WRONG_AUTHS}th on this connection, which is closed: look at the App key and secret"


def ping(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`PING [message]`."""
    return replies.bulk(arguments[0]) if arguments else replies.PONG


def echo(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`ECHO message`."""
    return replies.bulk(arguments[0])


def reset(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`RESET`: unbind the App, back to RESP2."""
    client.unbind()
    return replies.simple("RESET")


def quit_connection(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`QUIT`: answer, then close."""
    client.quitting = True
    return replies.OK


def select(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`SELECT 0`: there is only one database."""
    if not arguments[0].isdigit() or len(arguments[0]) > MAX_DIGITS:
        raise Reply("ERR value is not an integer or out of range")
    if arguments[0] != b"0":
        raise Reply("ERR DB index is out of range: there is only database 0 here")
    return replies.OK


def configuration(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`CONFIG GET name …`: redis-benchmark asks; nothing is configured over this port."""
    if arguments[0].upper() != b"GET" or len(arguments) < 2:
        raise Reply("ERR CONFIG has only GET here; settings are options of gate serve")
    known = {b"save": "", b"appendonly": "no", b"databases": "1"}
    return replies.encode({name.decode(): known[name] for name in arguments[1:] if name in known}, client.resp3)


def client_command(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`CLIENT ID|SETNAME|GETNAME|SETINFO|INFO|LIST|NO-EVICT|NO-TOUCH`."""
    word, rest = arguments[0].upper(), arguments[1:]
    arity = _CLIENT_ARITY.get(word)
    if arity is None:
        raise Reply(f"ERR unknown subcommand '{_shown(arguments[0])}'. Try CLIENT ID, SETNAME, GETNAME, SETINFO, INFO.")
    if len(rest) != arity:
        raise Reply(f"ERR wrong number of arguments for 'client|{word.decode().lower()}' command")
    if word == b"ID":
        return replies.integer(client.id)
    if word == b"GETNAME":
        return replies.bulk(client.name) if client.name else replies.encode(None, client.resp3)
    if word in (b"INFO", b"LIST"):
        line = b"id=%d addr=%s name=%s resp=%d" % (client.id, client.peer.encode(), client.name, 2 + client.resp3)
        return replies.bulk(line + b"\n")
    if word == b"SETNAME":
        client.name = _client_name(rest[0])
    elif word == b"SETINFO" and rest[0].upper() not in (b"LIB-NAME", b"LIB-VER"):
        raise Reply(f"ERR Unrecognized option '{_shown(rest[0])}'")
    return replies.OK


_CLIENT_ARITY = {
    b"ID": 0,
    b"GETNAME": 0,
    b"INFO": 0,
    b"LIST": 0,
    b"SETNAME": 1,
    b"SETINFO": 2,
    b"NO-EVICT": 1,
    b"NO-TOUCH": 1,
}


_CLIENT_NAME = re.compile(rb"[!-~]*+")


def _client_name(name: bytes) -> bytes:
    if _CLIENT_NAME.fullmatch(name) is None:
        raise Reply("ERR Client names cannot contain spaces, newlines or special characters.")
    return name[:64]


def _shown(argument: bytes) -> str:
    """The beginning of an argument, byte for byte once the reply is encoded."""
    return argument[:64].decode("utf-8", "surrogateescape")


def about(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`INFO [section …]`: this worker, in Redis's `name:value` lines."""
    worker = client.worker
    fields: dict[str, dict[str, str | int]] = {
        "Server": {
            "redis_version": SPEAKS_LIKE,
            "redis_mode": "standalone",
            "gate_version": __version__,
            "uptime_in_seconds": (monotonic_ms() - worker.started_at_ms) // 1000,
        },
        "Clients": {"connected_clients": worker.connections},
        "Stats": {
            "total_connections_received": worker.connections_total,
            "gate_checks": sum(worker.words.values()),
            "gate_denied": sum(worker.words.values()) - worker.words["allowed"],
        },
        "Replica": {"gate_replica_stale_ms": worker.age_ms()},
    }
    wanted = {argument.decode("latin-1").lower() for argument in arguments} - {"all", "default", "everything"}
    lines: list[str] = []
    for section, values in fields.items():
        if not wanted or section.lower() in wanted:
            lines += [f"# {section}", *(f"{name}:{value}" for name, value in values.items()), ""]
    return replies.bulk("\r\n".join(lines).encode())
