"""The check of `gate doctor` that names Apps in shadow mode, which enforces nothing."""

from __future__ import annotations

from collections.abc import Iterator

from gate.cli.findings import Finding, warn
from gate.cli.options import Target
from gate.cli.store_connection import StoreConnection, run_with
from gate.errors import InvalidConfig, Unavailable

MAX_SHOWN = 8


def findings(target: Target) -> Iterator[Finding]:
    """A warning if there is one; nothing while Redis is away: other checks say that."""

    async def work(connection: StoreConnection) -> list[str]:
        return sorted(app.key for app in await connection.store.apps.list() if app.shadow)

    try:
        keys = run_with(target, work)
    except (InvalidConfig, Unavailable):
        return
    if keys:
        more = f" and {len(keys) - MAX_SHOWN} more" if len(keys) > MAX_SHOWN else ""
        shown = ", ".join(keys[:MAX_SHOWN]) + more
        advice = "if they shall be enforced: gate app set KEY --no-shadow"
        yield warn("shadow mode", f"every check is answered allowed, for {shown}", advice)
