"""What a request's types alone don't say: lengths, ranges, and members that exclude each other, as JSON Schema keywords.

Each bound is the constant that the endpoint itself enforces. Formats with names of Gate's own say what a schema can't: lengths
in bytes. Keyed by the type and its member; `ANY` is for members that mean the same wherever they stand.
"""

from __future__ import annotations

from collections.abc import Mapping

from gate.core.app_settings import BOUNDS as SETTING_BOUNDS
from gate.core.app_settings import MAX_EXEMPT, MAX_NAME_CHARS, MAX_URL_CHARS
from gate.core.ids import MAX_ID_BYTES
from gate.core.limits import LIMITABLE, MAX_RATE
from gate.core.model import FOREVER_MS
from gate.core.presence import MAX_GATEWAY_BYTES
from gate.core.reasons import MAX_ACTOR_CHARS, MAX_REASON_CHARS
from gate.core.registration import MAX_NAME_BYTES, MAX_PORTRAIT_BYTES
from gate.http.client import own_list
from gate.http.fields import FIRST_UNTIL_MS, MAX_SECONDS
from gate.http.v1 import apps, bulk, check, events, lists, penalties, presence, users

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
    (ANY, "reason"): {"maxLength": MAX_REASON_CHARS, "examples": ["spam"]},
    (ANY, "actor"): {"maxLength": MAX_ACTOR_CHARS, "examples": ["moderator-7"]},
    (ANY, "until"): {"minimum": FIRST_UNTIL_MS, "maximum": FOREVER_MS, "description": "A moment, Unix ms."},
    (ANY, "seconds"): {"minimum": 1, "maximum": MAX_SECONDS, "description": "From now.", "examples": [3600]},
    (ANY, "before"): {
        "minimum": FIRST_UNTIL_MS,
        "maximum": FOREVER_MS,
        "description": "A moment, Unix ms, at most a day ahead; not said: now.",
    },
    (ANY, "users"): _ids(penalties.MAX_USERS),
    (ANY, "members"): _ids(lists.MAX_MEMBERS),
    ("Switching", "users"): _ids(lists.MAX_MEMBERS),
    ("Deleting", "users"): _ids(users.MAX_USERS),
    ("Revoking", "users"): _ids(users.MAX_USERS),
    ("Asking", "users"): _ids(presence.MAX_USERS),
    ("Asking", "as"): {"anyOf": [TEXT_ID, {"$ref": "#/components/schemas/Base64Id"}, {"type": "null"}]},
    ("Watching", "users"): _ids(events.MAX_USERS),
    ("Watching", "kinds"): {"minItems": 1},
    ("Watching", "gateway"): GATEWAY,
    ("Watching", "since"): CURSOR,
    ("Kicking", "platform"): PLATFORM,
    ("Kicking", "session"): {"format": "session-id", "description": "Its id, as it was answered.", "minLength": 1},
    ("Blocking", "users"): _ids(own_list.MAX_USERS),
    ("Unblocking", "users"): _ids(own_list.MAX_USERS),
    ("Profiled", "user"): REGISTRABLE_ID,
    ("Register", "user"): REGISTRABLE_ID,
    ("Mint", "user"): REGISTRABLE_ID,
    ("Profiled", "name"): PROFILE_NAME,
    ("Register", "name"): PROFILE_NAME,
    ("Mint", "name"): PROFILE_NAME,
    ("ProfileChange", "name"): PROFILE_NAME,
    (ANY, "portrait"): PORTRAIT,
    ("Base64Id", "b64"): {
        "format": "base64-id",
        "pattern": _BASE64,
        "minLength": 4,
        "maxLength": _MAX_BASE64_CHARS,
        "description": f"1 to {MAX_ID_BYTES} bytes.",
    },
    ("BulkBody", "operations"): {"minItems": 1, "maxItems": bulk.MAX_OPERATIONS},
    ("CheckPairs", "pairs"): {"maxItems": check.MAX_PAIRS, "examples": [[["alice", "bob"], ["bob", "alice"]]]},
    (ANY, "min"): {"format": "revision", "minLength": 1, "description": "What the answer must not be older than."},
    ("CheckMany", "to"): {"maxItems": check.MAX_PAIRS, "examples": [["bob", "carol"]]},
    ("Creating", "key"): {name: value for name, value in APP_KEY.items() if name != "type"},
    ("Creating", "secret"): APP_SECRET,
    ("Rotating", "secret"): APP_SECRET,
    ("Creating", "name"): {"format": "app-name", "minLength": 1, "maxLength": MAX_NAME_CHARS, "examples": ["Shop"]},
    ("Changing", "name"): {"format": "app-name", "minLength": 1, "maxLength": MAX_NAME_CHARS, "examples": ["Shop"]},
    ("Changing", "exempt"): {"maxItems": MAX_EXEMPT, "uniqueItems": False, "items": TEXT_ID},
    ("Changing", "webhook_url"): WEBHOOK_URL,
    ("Changing", "presence_webhook_url"): WEBHOOK_URL,
    ("Changing", "rate_limits"): {
        "propertyNames": {"enum": sorted(LIMITABLE)},
        "additionalProperties": {"type": "integer", "minimum": 1, "maximum": MAX_RATE},
        "description": "Calls a second, by endpoint or by what several begin alike with.",
    },
    **{("Changing", name): {"minimum": least, "maximum": most} for name, (least, most) in SETTING_BOUNDS.items()},
}
"""By type and member."""

OF_TYPE: Mapping[str, Schema] = {
    "Imposing": EXACTLY_ONE_END,
    "Ban": EXACTLY_ONE_END,
    "Mute": EXACTLY_ONE_END,
    "Adding": AT_MOST_ONE_END,
    "Blocking": AT_MOST_ONE_END,
    "Block": AT_MOST_ONE_END,
    "Admit": AT_MOST_ONE_END,
    "Changing": {"anyOf": [{"required": [name]} for name in apps.Changing.__struct_fields__ if name != "reason"]},
    "CheckPairs": {"not": {"anyOf": [{"required": ["from"]}, {"required": ["to"]}]}},
    "CheckMany": {"not": {"required": ["pairs"]}},
}
"""Of a whole type."""
