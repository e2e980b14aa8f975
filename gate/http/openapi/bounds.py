"""What a request's types alone don't say: lengths, ranges, and members that exclude each other, as JSON Schema keywords.

Each bound is the constant that the endpoint itself enforces. Formats with names of Gate's own say what a schema can't: lengths
in bytes. Keyed by the type and its member; `ANY` is for members that mean the same wherever they stand.
"""

from __future__ import annotations

from collections.abc import Mapping

from gate.core.app_settings import MAX_URL_CHARS
from gate.core.ids import MAX_ID_BYTES
from gate.core.model import FOREVER_MS
from gate.core.presence import MAX_GATEWAY_BYTES
from gate.core.registration import MAX_NAME_BYTES, MAX_PORTRAIT_BYTES
from gate.http.client import own_list
from gate.http.fields import FIRST_UNTIL_MS, MAX_SECONDS

Schema = dict[str, object]

ANY = "*"
_B64_CHARS = "[A-Za-z0-9+/]"
_BASE64 = f"^(?:{_B64_CHARS}{{4}})*(?:{_B64_CHARS}{{2}}==|{_B64_CHARS}{{3}}=|{_B64_CHARS}{{4}})$"
_MAX_BASE64_CHARS = -(-MAX_ID_BYTES // 3) * 4

TEXT_ID: Schema = {
    "type": "string",
    "format": "user-id",
    "minLength": 1,
    "maxLength": MAX_ID_BYTES,
    "description": f"1 to {MAX_ID_BYTES} bytes of UTF-8.",
    "examples": ["alice"],
}
REGISTRABLE_ID: Schema = {
    "type": "string",
    "pattern": "^[A-Za-z0-9+|=_-]+$",
    "minLength": 1,
    "maxLength": MAX_ID_BYTES,
    "description": "Letters, digits and + | = - _: what a User may be registered under.",
    "examples": ["alice"],
}
PROFILE_NAME: Schema = {"format": "profile-name", "maxLength": MAX_NAME_BYTES, "examples": ["Alice"]}
PORTRAIT: Schema = {
    "format": "portrait",
    "maxLength": MAX_PORTRAIT_BYTES,
    "examples": ["https://portraits.example/alice.png"],
}
APP_KEY: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,32}$", "examples": ["shop"]}
APP_SECRET: Schema = {"pattern": "^[!-~]{8,128}$", "examples": ["a-secret-of-our-own"]}
WEBHOOK_URL: Schema = {
    "format": "webhook-url",
    "maxLength": MAX_URL_CHARS,
    "description": "Empty for none.",
    "examples": ["https://app.example/gate"],
}
PLATFORM: Schema = {"pattern": "^[A-Za-z0-9._-]{1,32}$", "examples": ["iOS"]}
GATEWAY: Schema = {"pattern": "^[!-~]+$", "minLength": 1, "maxLength": MAX_GATEWAY_BYTES, "examples": ["edge-1"]}
CURSOR: Schema = {
    "format": "feed-cursor",
    "pattern": r"^[0-9a-f]{1,16}-[0-9]{1,16}-[0-9a-f]{1,16}(\.[0-9a-f]{1,16}-[0-9]{1,16}-[0-9a-f]{1,16}){0,63}$",
    "description": "A place in the App's feed, as an answer gave it. Longer where Presence has slices; what it says is Gate's.",
}


def _ids(most: int) -> Schema:
    return {"minItems": 1, "maxItems": most, "examples": [["alice", "bob"]]}


def _given(name: str, **said: object) -> Schema:
    return {"required": [name], "properties": {name: said}}


EXACTLY_ONE_END: Schema = {
    "oneOf": [
        _given("until", type="integer"),
        _given("seconds", type="integer"),
        _given("permanent", const=True),
    ]
}
AT_MOST_ONE_END: Schema = {
    "not": {
        "required": ["until", "seconds"],
        "properties": {"until": {"type": "integer"}, "seconds": {"type": "integer"}},
    }
}

OF_MEMBER: Mapping[tuple[str, str], Schema] = {
    (ANY, "until"): {"minimum": FIRST_UNTIL_MS, "maximum": FOREVER_MS, "description": "A moment, Unix ms."},
    (ANY, "seconds"): {"minimum": 1, "maximum": MAX_SECONDS, "description": "From now.", "examples": [3600]},
    ("Blocking", "users"): _ids(own_list.MAX_USERS),
    ("Unblocking", "users"): _ids(own_list.MAX_USERS),
}
"""By type and member."""

OF_TYPE: Mapping[str, Schema] = {"Blocking": AT_MOST_ONE_END}
"""Of a whole type."""
