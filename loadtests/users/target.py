"""Where the load goes: `loadtests.run` puts it into the environment, and locust's processes read it here."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

from loadtests.bench.facts import user_id

RESP_VARIABLE = "GATE_LOAD_RESP"
KEY_VARIABLE = "GATE_LOAD_APP_KEY"
SECRET_VARIABLE = "GATE_LOAD_APP_SECRET"
USERS_VARIABLE = "GATE_LOAD_USERS"
SECONDS_VARIABLE = "GATE_LOAD_SECONDS"


@dataclass(frozen=True)
class Target:
    """One service and the facts it was given."""

    resp_host: str
    resp_port: int
    app_key: str
    app_secret: str
    users: int

    def any_user(self) -> str:
        """One of the Users that the facts are about."""
        return user_id(random.randrange(self.users)).decode()


def target() -> Target:
    """The target of this run; `KeyError` names what the environment lacks."""
    host, _, port = os.environ[RESP_VARIABLE].rpartition(":")
    users = int(os.environ[USERS_VARIABLE])
    return Target(host, int(port), os.environ[KEY_VARIABLE], os.environ[SECRET_VARIABLE], users)


def run_seconds() -> float:
    """How long the whole run takes."""
    return float(os.environ.get(SECONDS_VARIABLE, "120"))
