"""cedarpy with the decision as Cedar policies, parsed once, over Users as entities, parsed once.

A Cedar set has no ends for its members, so list entries never end here; Bans, Mutes, switches and both lists are all there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cedarpy

from gate.clock import wall_ms
from gate.core.model import ListKind
from loadtests.bench.facts import FactSet, user_id

POLICIES = """
permit(principal, action, resource);
forbid(principal, action, resource) when { principal has ban && principal.ban > context.now };
forbid(principal, action, resource) when { principal has mute && principal.mute > context.now };
forbid(principal, action, resource) when { resource has white && !resource.white.contains(principal) };
forbid(principal, action, resource) when { resource has black && resource.black.contains(principal) };
"""


def load(facts: FactSet) -> Callable[[bytes, bytes], bool]:
    """Policies and entities as handles; the check."""
    policies = cedarpy.PolicySet.from_str(POLICIES)
    entities = cedarpy.Entities.from_json_str(json.dumps(_entities(facts)))
    now_ms = wall_ms()

    def check(sender: bytes, recipient: bytes) -> bool:
        request = {
            "principal": _reference(sender),
            "action": 'Action::"message"',
            "resource": _reference(recipient),
            "context": {"now": now_ms},
        }
        return bool(cedarpy.is_authorized(request, policies, entities).allowed)

    return check


def _reference(user: bytes) -> str:
    return f'User::"{user.decode()}"'


def _entities(facts: FactSet) -> list[dict[str, Any]]:
    attributes: dict[int, dict[str, Any]] = {}
    for number in facts.banned:
        attributes.setdefault(number, {})["ban"] = facts.until_ms
    for number in facts.muted:
        attributes.setdefault(number, {})["mute"] = facts.until_ms
    for owned in facts.lists():
        name = "white" if owned.kind is ListKind.WHITELIST else "black"
        members = [_entity(member) for member in (*owned.members, *owned.ending)]
        attributes.setdefault(owned.owner, {})[name] = [{"__entity": member} for member in members]
    return [{"uid": _entity(number), "attrs": attrs, "parents": []} for number, attrs in attributes.items()]


def _entity(number: int) -> dict[str, str]:
    return {"type": "User", "id": user_id(number).decode()}
