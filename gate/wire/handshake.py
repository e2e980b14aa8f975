"""The commands that begin and end a connection: AUTH, HELLO, PING, RESET and their like, answered as Redis does.

PING and HELLO work before
AUTH, unlike in Redis, so that a load balancer can ask whether the port lives and a client can agree on RESP3 first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gate.auth_failures import auth_failed
from gate.core.app_secrets import caller_with
from gate.core.ids import app_key as checked_key
from gate.core.model import AppFacts
from gate.errors import InvalidInput
from gate.wire import replies
from gate.wire.client import MAX_WRONG_AUTHS, Client, NoProto, Reply, WrongPass

# The Redis version that INFO and HELLO name, for clients that choose their own commands by it.
SPEAKS_LIKE = "7.2.0"

_PASSWORD_ALONE = (
    "a password alone names no App: send AUTH app-key app-secret. In a client, the user name is the App key and the password "
    "its secret"
)
# Stands in for an App that does not exist.
_NO_APP = AppFacts(key="", secrets=("",))
_WRONG = "invalid username-password pair or user is disabled: check the App key (user name) and its secret (password)"

# Of a number in a command: what certainly fits the 64 bits that Redis reads numbers into.
MAX_DIGITS = 18


def auth(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`AUTH app-key app-secret` binds the connection to an App; the secret may be that of one of its keys."""
    # In Redis the password of the user `default`, which a client sends that was given no user name.
    if len(arguments) == 1:
        auth_failed("resp", "missing", peer=client.peer)
        raise Reply(f"WRONGPASS {_PASSWORD_ALONE}")
    _bind(client, arguments[0], arguments[1])
    return replies.OK


def hello(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`HELLO [2|3] [AUTH key secret] [SETNAME name]` → a map about the server."""
    # The client changes only once all of it was found right: a HELLO that is refused leaves the connection as it was.
    resp3 = client.resp3
    if arguments:
        if arguments[0] not in (b"2", b"3"):
            if not arguments[0].isdigit():
                raise Reply("ERR Protocol version is not an integer or out of range: HELLO takes 2 or 3")
            raise NoProto("unsupported protocol version: HELLO takes 2 or 3")
        resp3 = arguments[0] == b"3"
    credentials, name = _hello_options(client, arguments[1:])
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


def _hello_options(client: Client, options: Sequence[bytes]) -> tuple[tuple[bytes, bytes] | None, bytes | None]:
    credentials, name, at = None, None, 0
    while at < len(options):
        # `left` words stand behind this one.
        word, left = options[at].upper(), len(options) - at - 1
        if word == b"AUTH" and left >= 2:
            credentials = (options[at + 1], options[at + 2])
            at += 3
        elif word == b"AUTH" and left == 1:
            auth_failed("resp", "missing", peer=client.peer)
            raise Reply(f"WRONGPASS {_PASSWORD_ALONE}")
        elif word == b"SETNAME" and left >= 1:
            name = client_name(options[at + 1])
            at += 2
        else:
            raise Reply(
                f"ERR Syntax error in HELLO option '{shown_argument(options[at])}': "
                "expected HELLO [2|3] [AUTH app-key app-secret] [SETNAME name]"
            )
    return credentials, name


def _bind(client: Client, key: bytes, secret: bytes) -> None:
    try:
        app_key = checked_key(key.decode("ascii"))
    except (UnicodeDecodeError, InvalidInput):
        app_key = ""
    app = client.worker.reading.app(app_key) if app_key else None
    # Compare with every secret, and with one if the App is unknown, so that the response time reveals nothing.
    caller = caller_with(_NO_APP if app is None else app.app, secret)
    # An empty secret is never right, though the one of `_NO_APP` is.
    if app is None or caller is None or not secret:
        auth_failed("resp", "unknown-app" if app is None else "wrong-secret", app_key if app else "", client.peer)
        # The name that clients send by themselves where only a password is configured.
        problem = _PASSWORD_ALONE if app is None and key == b"default" else _WRONG
        raise WrongPass(f"{problem}.{_wrong_again(client)}")
    client.bind(app_key, app, secret, caller)


def _wrong_again(client: Client) -> str:
    # Never set back, also not by a right secret: one that is known must not buy more tries at others.
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
    if (queued := client.end_queue()) is not None:
        queued.drop()
    client.unbind()
    return replies.simple("RESET")


def quit_connection(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`QUIT`: answer, then close."""
    client.quitting = True
    return replies.OK


def select(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`SELECT 0`: there is only one database."""
    if not arguments[0].isdigit() or len(arguments[0]) > MAX_DIGITS:
        raise Reply("ERR value is not an integer or out of range: SELECT takes 0")
    if arguments[0] != b"0":
        raise Reply("ERR DB index is out of range: there is only database 0 here, so use SELECT 0 or leave it out")
    return replies.OK


# Possessive: a name of 64 kB with a space at its end is read once.
_CLIENT_NAME = re.compile(rb"[!-~]*+")


def client_name(name: bytes) -> bytes:
    if _CLIENT_NAME.fullmatch(name) is None:
        raise Reply(
            "ERR Client names cannot contain spaces, newlines or special characters. Use letters, digits and punctuation"
        )
    # It is kept as long as the connection: ten thousand long ones would be memory that strangers fill.
    return name[:64]


def shown_argument(argument: bytes) -> str:
    """The beginning of an argument, byte for byte once the reply is encoded."""
    return argument[:64].decode("utf-8", "surrogateescape")
