"""pycasbin with one deny rule an edge: Blacklists only. Its effect has no clock, so entries' ends can't be said."""

from __future__ import annotations

from collections.abc import Callable

import casbin

from gate.core.model import ListKind
from loadtests.bench.facts import FactSet, user_id

MODEL = """
[request_definition]
r = sub, obj
[policy_definition]
p = sub, obj, eft
[policy_effect]
e = !some(where (p.eft == deny))
[matchers]
m = r.sub == p.sub && r.obj == p.obj
"""


def load(facts: FactSet) -> Callable[[bytes, bytes], bool]:
    """An enforcer that holds every Blacklist entry; the check."""
    model = casbin.Model()
    model.load_model_from_text(MODEL)
    enforcer = casbin.Enforcer(model)
    enforcer.add_policies(
        [
            (user_id(member).decode(), user_id(owned.owner).decode(), "deny")
            for owned in facts.lists()
            if owned.kind is ListKind.BLACKLIST
            for member in (*owned.members, *owned.ending)
        ]
    )
    return lambda sender, recipient: bool(enforcer.enforce(sender.decode(), recipient.decode()))
