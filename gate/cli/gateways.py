"""`gate gateways`: who holds client connections, under which lease, and how many Sessions that makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.cli.command import Command, Listing, takes
from gate.cli.time_format import shown_duration
from gate.clock import wall_ms

if TYPE_CHECKING:
    from gate.core.presence import Lease
    from gate.store.presence import PresenceStore


@takes("app", "redis", "presence_redis", afar=True)
def gateways(command: Command) -> None:
    """List the App's Gateways: lease, epoch, age, Sessions. A lease that ended stays for a day, for its epoch."""

    async def work(presence: PresenceStore, app_key: str) -> list[dict[str, Any]]:
        (leases,) = await presence.leases([app_key])
        sessions = (await presence.counts(app_key)).by_gateway()
        return [_document(one, max(0, wall_ms() - one.renewed_at_ms), sessions.get(one.gateway, 0)) for one in leases]

    rows = command.ask_presence(work, lambda remote: remote.get("/v1/gateways")["gateways"])
    listing: Listing[dict[str, Any]] = Listing(
        "gateways",
        dict,
        ("Gateway", "lease", "epoch", "renewed", "Sessions"),
        _row,
        "no Gateway has taken a lease yet",
    )
    command.print_rows(listing, rows)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    ago = f"{shown_duration(one['age_ms'])} ago"
    state, renewed = ("holds", ago) if one["holds"] else (f"ended {ago}", "")
    return one["gateway"], state, str(one["epoch"]), renewed, f"{one['sessions']:,}"


def _document(lease: Lease, age_ms: int, sessions: int) -> dict[str, Any]:
    return {
        "gateway": lease.gateway.decode(),
        "epoch": lease.epoch,
        "holds": lease.holds,
        "age_ms": age_ms,
        "sessions": sessions,
    }
