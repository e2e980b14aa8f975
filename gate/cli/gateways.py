"""`gate gateways`: who holds client connections, under which lease, and how many Sessions that makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gate.cli.command import Command, takes
from gate.cli.output import print_json, print_table, say
from gate.cli.time_format import shown_duration
from gate.clock import wall_ms

if TYPE_CHECKING:
    from gate.core.presence import Lease
    from gate.store.presence import PresenceStore


@takes("app", "redis", "presence_redis")
def gateways(command: Command) -> None:
    """List the App's Gateways: lease, epoch, age, Sessions. A lease that ended stays for a day, for its epoch."""

    async def work(presence: PresenceStore, app_key: str) -> tuple[list[Lease], dict[bytes, int]]:
        (leases,) = await presence.leases([app_key])
        return leases, (await presence.counts(app_key)).by_gateway()

    leases, sessions = command.ask_presence(work)
    rows = [(one, max(0, wall_ms() - one.renewed_at_ms), sessions.get(one.gateway, 0)) for one in leases]
    if command.as_json:
        print_json({"gateways": [_document(*row) for row in rows]})
    elif rows:
        print_table(("Gateway", "lease", "epoch", "renewed", "Sessions"), (_row(*row) for row in rows))
    else:
        say("no Gateway has taken a lease yet")


def _row(lease: Lease, age_ms: int, sessions: int) -> tuple[str, ...]:
    ago = f"{shown_duration(age_ms)} ago"
    state, renewed = ("holds", ago) if lease.holds else (f"ended {ago}", "")
    return lease.gateway.decode(), state, str(lease.epoch), renewed, f"{sessions:,}"


def _document(lease: Lease, age_ms: int, sessions: int) -> dict[str, object]:
    return {
        "gateway": lease.gateway.decode(),
        "epoch": lease.epoch,
        "holds": lease.holds,
        "age_ms": age_ms,
        "sessions": sessions,
    }
