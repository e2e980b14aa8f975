"""Processor time that a server and the roles of a node have used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from harness.processes import family
from harness.servers import RedisServer
from harness.service import GateService

ROLE = "gate.service.role"
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Spent(NamedTuple):
    """Processor time in seconds: of the server's main thread, and of each role of the node."""

    server: float
    roles: dict[str, float]

    def since(self, earlier: Spent) -> Spent:
        return Spent(
            self.server - earlier.server, {role: each - earlier.roles[role] for role, each in self.roles.items()}
        )


def spent(server: RedisServer, node: GateService) -> Spent:
    """As of now."""
    return Spent(server_cpu_s(server), spent_by_role(node))


def server_cpu_s(server: RedisServer) -> float:
    """Of the thread that runs commands, fsync included."""
    cpu = server.client.info("cpu")
    return float(cpu["used_cpu_user_main_thread"]) + float(cpu["used_cpu_sys_main_thread"])


def spent_by_role(node: GateService) -> dict[str, float]:
    """Seconds of processor time of each role's processes."""
    by_role: dict[str, float] = {}
    for one in family(node.pid):
        words = one.command.split()
        role = words[words.index(ROLE) + 1] if ROLE in words else "others"
        fields = Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()
        by_role[role] = by_role.get(role, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
    return by_role
