"""Shadow mode and the failure policy of an App on a worker whose sockets the core reads."""

from __future__ import annotations

import pytest

from gate import native
from gate.clock import monotonic_ms
from gate.replica.layout import BOARD_FILE
from gate.replica.status_page import StatusPage
from tests.native.peers import BLACKLISTED, Peer, ledger, served
from tests.replica.ledger import Ledger, app_facts, app_set, said
from tests.wire.line import command
from tests.wire.test_listener import event_loop_policy

__all__ = ["event_loop_policy", "ledger"]
pytestmark = pytest.mark.skipif(native.core is None, reason=native.why_not)


async def test_an_app_in_shadow_mode_is_answered_allowed_and_others_are_not(ledger: Ledger) -> None:
    async with served(ledger) as (server, path):
        trial, other = await Peer.to(path), await Peer.to(server.port, is_known=False)
        await other.asked(command("AUTH", "other", "theirs"), b"+OK\r\n")
        ledger.commit(said("blocked", b"alice", b"bob", app="other"))
        for on in (False, True, False, True):
            ledger.commit(app_set(app_facts(shadow=on)))
            answer = b":1\r\n" if on else b":0\r\n"
            for times in (1, 1, 50):
                await trial.asked(BLACKLISTED * times, answer * times)
                await other.asked(BLACKLISTED * times, b":0\r\n" * times)
        assert server.worker.words["blacklisted"] == 2 * 52 + 4 * 52
        counts = server.worker.reading.shadows.take()
        assert {app: (one.checks, one.reasons) for app, one in counts.items()} == {
            "app": (2 * 52, {"blacklisted": 2 * 52})
        }
        trial.close()
        other.close()


async def test_an_app_with_an_age_limit_of_its_own_is_held_to_it(ledger: Ledger) -> None:
    status_page = StatusPage(ledger.directory / BOARD_FILE, write=True)
    status_page.use(1, ledger.file.identity)
    status_page.stamp(monotonic_ms())
    async with served(ledger) as (server, path):
        strict, lax = await Peer.to(path), await Peer.to(server.port, is_known=False)
        await lax.asked(command("AUTH", "other", "theirs"), b"+OK\r\n")
        for _ in range(2):  # armed before the policy is known
            await strict.asked(BLACKLISTED, b":0\r\n")
        ledger.commit(app_set(app_facts(on_stale="refuse", max_staleness_ms=5_000)))
        for age_ms in (0, 60_000, 0, 60_000):
            status_page.stamp(monotonic_ms() - age_ms)
            await strict.send(BLACKLISTED)
            wanted = b"-STALE the Replica is 6" if age_ms else b":0\r\n"
            assert await strict.receive(len(wanted)) == wanted
            if age_ms:
                await strict.loop.sock_recv(strict.socket, 256)
            await lax.asked(BLACKLISTED, b":1\r\n")
        strict.close()
        lax.close()
    status_page.close()
