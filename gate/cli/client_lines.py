"""What is typed at `gate connect` as messages of the WebSocket, and what comes over it as lines for people. Pure.

A word and ids of Users make a message; what begins with a brace is a message already, for ids with spaces and for options that
have no word here. What other people chose, ids first of all, is shown escaped: none of it can move the cursor.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson

from gate.cli.output import json_id, shown_id
from gate.cli.time_format import shown_moment
from gate.core.ids import user_id
from gate.errors import InvalidInput

WORDS = "ping, active, logout, presence USER…, blacklist [USER], block USER…, unblock USER…, a message as JSON, or quit"
# For a longer message the server closes the connection.
MAX_MESSAGE_BYTES = 128 * 1024

Message = dict[str, Any]

_ALONE = (b"ping", b"active", b"logout")
_OF_USERS = (b"presence", b"block", b"unblock")
_APPLIED = {"all": "effective on every live node", "node": "effective on this node", "pending": "written"}


def message_of(line: bytes) -> str:
    """The message for a line that is not empty. Raises `InvalidInput` for an invalid line."""
    # On bytes: ids need not be UTF-8. Blanks separate, so an id with one takes the JSON form.
    word, *ids = line.split()
    # Before the words: a message may begin with any type, also one that a later server knows.
    if word.startswith(b"{"):
        text = _given(line)
    elif word in _ALONE and not ids:
        text = orjson.dumps({"type": word.decode()}).decode()
    elif (word in _OF_USERS and ids) or (word == b"blacklist" and len(ids) < 2):
        users = [json_id(user_id(one, "USER")) for one in ids]
        named: Message = {"users": users} if word in _OF_USERS else {"user": users[0]} if users else {}
        text = orjson.dumps({"type": word.decode(), **named}).decode()
    else:
        raise InvalidInput("line", f"{shown_id(line[:80])!r} is none of: {WORDS}")
    # Refused here: the server would close the connection for it, with all else that is under way.
    if len(text.encode()) > MAX_MESSAGE_BYTES:
        raise InvalidInput("line", f"is a message of more than {MAX_MESSAGE_BYTES} bytes: name fewer Users")
    return text


def line_of(message: Message) -> str:
    """The text form of a message from the server. A message of an unknown type is shown unchanged."""
    match message:
        case {"type": "welcome", "user": user, "platform": platform, "session": session}:
            return f"online as {_id(user)} on {_plain(platform)}, Session {_plain(session)}"
        case {"type": "closing", "reason": reason}:
            return f"closing: {_plain(reason)}: {closing_text(message)}"
        case {"type": "presence", "presence": [*rows]}:
            return "\n".join(map(_presence, rows)) or "the request names no User"
        # Before the list: an answer about one User has no `members`.
        case {"type": "blacklist", "listed": is_listed, "user": user}:
            return f"{_id(user)} is {_until(message) if is_listed else 'not on the Blacklist'}"
        case {"type": "blacklist", "members": [*rows]}:
            lines = [f"{_id(row.get('user'))} is {_until(row)}" for row in rows if isinstance(row, dict)]
            return "\n".join([*lines, *_more(message)]) or "the Blacklist is empty"
        case {"type": "block" | "unblock" as word, "applied": applied}:
            return f"{word}ed: {_APPLIED.get(str(applied), _plain(applied))}"
        case {"type": "error", "error": word, "message": text}:
            return f"error: {_plain(word)}: {_plain(text)}"
        case {"type": "pong" | "active" | "logout" as kind}:
            return str(kind)
    return _plain(orjson.dumps(message).decode())


def closing_text(message: Message) -> str:
    """Why the connection ends and, if known, until when; from a `closing` or the body of a refusal."""
    text = _plain(message.get("message") or message.get("error") or message.get("reason") or "")
    if "until" not in message:
        return text
    until = message["until"]
    return f"{text} (until {shown_moment(until)})" if isinstance(until, int) else f"{text} (without end)"


def _given(line: bytes) -> str:
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError as fault:
        raise InvalidInput("line", f"begins with a brace, but is no JSON: {fault}") from None
    # Encoded again, in one line: what was typed may hold line breaks.
    return orjson.dumps(message).decode()


def _presence(row: object) -> str:
    match row:
        case {"user": user, "online": True, "platforms": [*platforms]}:
            names = ", ".join(_plain(one.get("platform")) for one in platforms if isinstance(one, dict))
            return f"{_id(user)} is online on {names}"
        case {"user": user, "last_seen_ms": int(seen_ms)}:
            return f"{_id(user)} is offline, last seen {shown_moment(seen_ms)}"
        case {"user": user}:
            return f"{_id(user)} is offline, never seen"
    return _plain(row)


def _until(row: Message) -> str:
    until = row.get("until")
    return f"on the Blacklist until {shown_moment(until)}" if isinstance(until, int) else "on the Blacklist"


def _more(message: Message) -> list[str]:
    following = message.get("next")
    return [f'more: {{"type":"blacklist","cursor":"{_plain(following)}"}}'] if following else []


def _id(given: object) -> str:
    if isinstance(given, dict):
        try:
            return shown_id(base64.b64decode(str(given.get("b64")), validate=True))
        except (binascii.Error, ValueError):
            return _plain(given)
    return _plain(given)


def _plain(text: object) -> str:
    return shown_id(str(text).encode(errors="backslashreplace"))
