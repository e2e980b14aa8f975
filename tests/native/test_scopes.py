"""The core's poll answers a connection for as long as its key may check."""

from __future__ import annotations

import pytest

from gate import native
from gate.core.app_keys import with_key
from tests.native.peers import Peer, ledger, served
from tests.native.test_worker_sockets import REFUSED
from tests.replica.ledger import Ledger, app_facts, app_set, said
from tests.wire.line import command
from tests.wire.test_listener import event_loop_policy

__all__ = ["event_loop_policy", "ledger"]
pytestmark = pytest.mark.skipif(native.core is None, reason=native.why_not)


async def test_a_key_is_answered_as_long_as_it_may_check(ledger: Ledger) -> None:
    """The poll answers several checks in a row without a look at the connection."""
    pair, secret = command("GATE.CHECK", "bob", "alice"), "the-secret-of-the-router"
    present = with_key(app_facts(), "router-1", ("check",), secret, 1)
    denied = b"-NOPERM this key has no scope 'check': the key 'router-1' has presence; use a key with that scope\r\n"
    ledger.commit(said("blocked", b"alice", b"bob"), app_set(present))
    async with served(ledger) as (server, path):
        for times in (1, 2, 40):
            peer, other = await Peer.to(path), await Peer.to(server.port)
            for one in (peer, other):
                await one.asked(command("AUTH", "app", secret), b"+OK\r\n")
                for _ in range(3):  # by the poll, from the second on
                    await one.asked(pair * times, b":0\r\n" * times)
            ledger.commit(app_set(with_key(app_facts(), "router-1", ("presence",), secret, 1)))
            for one in (peer, other, peer):
                await one.asked(pair * times, denied * times)
            ledger.commit(app_set(present))
            await peer.asked(pair * times, b":0\r\n" * times)
            ledger.commit(app_set(app_facts()))
            await peer.asked(pair, REFUSED)
            await other.asked(pair, REFUSED)
            ledger.commit(app_set(present))
            peer.close()
            other.close()
