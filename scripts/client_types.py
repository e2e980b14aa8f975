"""Writes `client/src/messages.ts`: the types of the npm package, from the declarations by which the server reads and answers.

    .venv/bin/python -m scripts.client_types             writes the file
    .venv/bin/python -m scripts.client_types --print     shows it

A test compares the file with what this would write, so a message can't change without its type.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import UnsetType

from gate.core.closing import ENDINGS, REFUSALS
from gate.http.client import endpoint, messages
from gate.http.client.notices import NOTICES, Closing
from gate.http.fields import IdJson
from gate.http.v1.gating import MembersPage
from gate.http.v1.presence import PlatformOnline, UserPresenceShown

TARGET = Path(__file__).parents[1] / "client" / "src" / "messages.ts"
_HEAD = """\
// Written by scripts/client_types.py from the declarations of the server: change those.

/** A User's id: text or, where it is not UTF-8, its bytes in base64. */
export type UserId = string | { b64: string };
"""
_NAMES: dict[type[msgspec.Struct], str] = {UserPresenceShown: "UserPresence"}
_PLAIN = {str: "string", int: "number", float: "number", bool: "boolean", NoneType: "null", bytes: "UserId"}
# What answers a request, next to its type.
_ANSWERS: dict[str, str] = {
    "ping": '{ type: "pong" }',
    "active": '{ type: "active" }',
    "logout": '{ type: "logout" }',
    "token": '{ type: "token"; expires: number | null }',
    "presence": '{ type: "presence"; presence: UserPresence[] }',
    "watch": '{ type: "watch"; presence: UserPresence[] }',
    "unwatch": '{ type: "unwatch"; watching: number }',
    "blacklist": '{ type: "blacklist" } & (MembersPage | ListedOrNot)',
    "block": '{ type: "block" } & Effect',
    "unblock": '{ type: "unblock" } & Effect',
}


def written() -> str:
    """The whole file."""
    requests = messages.TYPES
    parts = [_HEAD, _words()]
    answered: list[type[msgspec.Struct]] = [PlatformOnline, UserPresenceShown, *_members(), MembersPage]
    parts += [*map(_interface, answered), _interface(endpoint.ListedOrNot), _EFFECT]
    parts += [_interface(one, _name(one) + "Request", kind) for kind, one in requests.items()]
    parts.append("export type Request =\n" + "\n".join(f"  | {_name(one)}Request" for one in requests.values()) + ";\n")
    answers = "\n".join(f"  {kind}: {_ANSWERS[kind]};" for kind in requests)
    parts.append(
        f"/** What answers a request of this type, if no error does. */\nexport interface Answers {{\n{answers}\n}}\n"
    )
    parts.append('export type Answer<T extends Request["type"]> = Answers[T];\n')
    parts += [_interface(one, kind=str(one.__struct_config__.tag)) for one in NOTICES]
    parts.append("export type Notice = " + " | ".join(_name(one) for one in NOTICES) + ";\n")
    return "\n".join(parts)


_EFFECT = """\
/** A write: its Revision, and how far it got. */
export interface Effect {
  revision: string;
  applied: "all" | "node" | "pending";
  pending_reason?: string;
}
"""


def _members() -> list[type[msgspec.Struct]]:
    (of_list,) = [one.type for one in msgspec.structs.fields(MembersPage) if one.name == "members"]
    return [get_args(of_list)[0]]


def _words() -> str:
    words = dict.fromkeys((*ENDINGS, *REFUSALS))
    return (
        "/** Why the server closes a connection. */\nexport type ClosingReason =\n"
        + "\n".join(f'  | "{word}"' for word in words)
        + ";\n"
    )


def _interface(declared: type[msgspec.Struct], name: str = "", kind: str = "") -> str:
    text = " ".join((inspect.getdoc(declared) or "").split())
    lines = [f"/** {text} */", f"export interface {name or _name(declared)} {{"]
    if kind:
        lines.append(f'  type: "{kind}";')
    for one in msgspec.structs.fields(declared):
        # A default that is not sent may be left out by the client, and is left out by the server.
        mark = "" if one.required else "?"
        shown = "ClosingReason" if (declared, one.name) == (Closing, "reason") else _type(one.type)
        lines.append(f"  {one.encode_name}{mark}: {shown};")
    return "\n".join([*lines, "}", ""])


def _type(declared: Any) -> str:
    if declared == IdJson:
        return "UserId"
    origin = get_origin(declared)
    if origin is Annotated:
        return _type(declared.__origin__)
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(_type(one) for one in get_args(declared) if one is not UnsetType))
    if origin is list:
        of = _type(get_args(declared)[0])
        return f"({of})[]" if " | " in of else f"{of}[]"
    if isinstance(declared, type) and issubclass(declared, msgspec.Struct):
        return _name(declared)
    return _PLAIN[declared]


def _name(declared: type[msgspec.Struct]) -> str:
    return _NAMES.get(declared, declared.__name__)


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(written(), end="")
    else:
        TARGET.write_text(written())
