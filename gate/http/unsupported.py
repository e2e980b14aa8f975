"""What RongCloud's SDKs can call and Gate does not do: refused by name, so that no caller looks for its own mistake.

Code 1009 with HTTP 430 is the service's own answer for a feature that is not enabled. The body is not read: some of these take
JSON. Newer Java SDKs take an answer without `code` for a broken host and move all their traffic to another, so each family
that an SDK knows is answered, whichever of its paths it is.
"""

from __future__ import annotations

FEATURES: dict[str, tuple[str, ...]] = {
    "push tags": ("tag/set", "tag/batch/set", "tags/get"),
    "push remarks": ("remarks/set", "remarks/del", "remarks/get"),
    "push periods": ("blockPushPeriod/set", "blockPushPeriod/get", "blockPushPeriod/delete"),
    "hosted profiles": ("profile/set", "profile/clean", "profile/query", "profile/batch/query"),
    "groups": ("group/query",),
    "subscriptions to presence": ("subscribe/set", "subscribe/query"),
    "message blocks": ("message/block/add", "message/block/remove", "message/block/query"),
}

UNSUPPORTED: dict[str, str] = {f"/user/{name}.json": feature for feature, names in FEATURES.items() for name in names}
"""By path: the feature."""

FAMILIES: dict[str, str] = {
    "group": "groups",
    "entrust": "hosted groups",
    "ultragroup": "ultra groups",
    "chatroom": "chatrooms",
    "message": "messages",
    "statusmessage": "status messages",
    "history": "message history",
    "conversation": "conversation settings",
    "friend": "friends",
    "push": "push notifications",
    "sensitiveword": "sensitive words",
    "wordfilter": "sensitive words",
    "discussion": "discussions",
    "bot": "bots",
    "rtc": "audio and video rooms",
    "sms": "text messages by phone",
    "stat": "statistics",
}
"""By the first part of a path, outside `/user/`: what RongCloud's SDKs of any age call it for."""
FAMILY_PATH = rf"/{{path:(?:v[23]/)?(?:{'|'.join(FAMILIES)})(?:/[\s\S]*)?[.]json}}"
"""Template of all paths in those families."""
_ENDING = ".json"


def unsupported_feature(path: str) -> str | None:
    """The feature of RongCloud's that this path belongs to, for a path in a family that Gate does not serve; else None."""
    if not path.endswith(_ENDING):
        return None
    words = path.removesuffix(_ENDING).lstrip("/").split("/")
    # RongCloud numbers some of its paths: /v2/message/… is a message too. Gate's own /v1 is not among them.
    return FAMILIES.get(words[1] if words[0] in ("v2", "v3") and len(words) > 1 else words[0])
