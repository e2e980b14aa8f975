"""What RongCloud's SDKs can call under `/user/` and Gate does not do: answered by name, so that nobody looks for a mistake.

Code 1009 with HTTP 430 is the service's own answer for a feature that is not enabled. The body is not read: some of these take
JSON.
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

ABSENT: dict[str, str] = {f"/user/{name}.json": feature for feature, names in FEATURES.items() for name in names}
"""By path: the feature."""
