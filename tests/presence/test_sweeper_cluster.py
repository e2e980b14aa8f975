"""The sweeper on a Cluster of which one master is away: it ends what the others have."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gate.core.model import AppFacts
from gate.errors import StoreUnavailable
from gate.presence.sweeper import Sweeper
from gate.store import presence_keys
from gate.store.topology import slot_of
from harness.clusters import ClusterSetup
from harness.waiting import wait_until_async
from tests.presence.played import Gateway, presence_on
from tests.presence.test_sweeper import TTL_MS, HandClock, looks


async def test_apps_of_other_masters_are_swept_while_one_is_away(tmp_path: Path) -> None:
    setup = ClusterSetup.start("valkey-9", tmp_path, replicas=0, extra=("--cluster-require-full-coverage", "no"))
    presence = presence_on(setup.url)
    try:
        away = setup.owner(slot_of(presence_keys.APPS))  # so that the list of Apps can't be read either
        apps = [AppFacts(key=f"app-{nth}", secrets=("s" * 20,)) for nth in range(40)]
        owners = {app.key: setup.owner(slot_of(presence_keys.leases(app.key))) for app in apps}
        there = next(app for app in apps if owners[app.key] is not away)
        gone = next(app for app in apps if owners[app.key] is away)
        for app in (there, gone):
            await (await Gateway(presence, app, b"dead").lease()).open(b"u")
        clock = HandClock()
        sweeper = Sweeper(presence, TTL_MS, clock=clock)
        await sweeper.look()
        away.kill()

        async def ended() -> bool:
            clock.now_ms += TTL_MS // 2
            await looks(sweeper)
            with suppress(StoreUnavailable):  # on a busy machine
                return await presence.online(there.key, [b"u"]) == [False]
            return False

        await wait_until_async(ended, 20, "the lease that the other master has to be ended")
        try:
            await presence.online(gone.key, [b"u"])
        except StoreUnavailable:
            pass
        else:
            raise AssertionError("the master that was killed still answers")
    finally:
        await presence.client.aclose()
        setup.stop()
