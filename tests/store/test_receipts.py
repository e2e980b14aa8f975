"""The receipt of several writes: it is effective when each of them is, whatever happened to the servers in between."""

from __future__ import annotations

import pytest

from gate.core.revision import Revision
from gate.store import durability, keys
from gate.store.acks import Acknowledger, Announcement, pack_announcement
from gate.store.durability import Durability, EachDurable
from gate.store.store import Store
from gate.store.writer import UNKNOWN, Origin, WriteReceipt, joined, unpacked_origin
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.store.conftest import APP

NODES = frozenset({"n1"})


def receipt(
    *revisions: Revision, run: str = "run-a", registry: str = "r", servers: tuple[str, ...] = ()
) -> WriteReceipt:
    return WriteReceipt(revisions, NODES, run, registry, servers)


def test_no_write_has_no_receipt() -> None:
    assert joined([]) is None


def test_the_newest_revision_of_each_partition_counts() -> None:
    writes = [receipt(Revision(1, "e", 5), Revision(2, "e", 9)), receipt(Revision(1, "e", 7)), receipt()]
    assert joined(writes) == receipt(Revision(1, "e", 7), Revision(2, "e", 9))
    assert joined(reversed(writes)) == receipt(Revision(1, "e", 7), Revision(2, "e", 9))


def test_the_text_has_the_newest_of_each_partition_in_order_of_partition() -> None:
    epoch = "1f00c3a95be2d844"
    written = [Revision(3, epoch, 5), Revision(0, epoch, 1), Revision(3, epoch, 9), Revision(3, epoch, 7)]
    assert receipt(*written).text == f"0:{epoch}:1,3:{epoch}:9"
    later = epoch[::-1]
    assert receipt(Revision(3, epoch, 5), Revision(3, later, 5)).text == f"3:{later}:5", "the one named last"
    assert receipt().text == ""


def test_nodes_of_every_write_are_waited_for() -> None:
    first, second = receipt()._replace(live_nodes=frozenset({"n2"})), receipt()
    whole = joined([first, second])
    assert whole is not None and whole.live_nodes == {"n1", "n2"}


@pytest.mark.parametrize("registries", [("r", "other"), ("r", ""), ("", "r"), ("r", "other", "r")])
def test_a_list_that_changed_meanwhile_is_not_certain(registries: tuple[str, ...]) -> None:
    whole = joined([receipt(registry=registry) for registry in registries])
    assert whole is not None and whole.registry == ""


def test_each_partition_keeps_the_server_that_took_it() -> None:
    whole = joined(
        [
            receipt(Revision(1, "e", 5), Revision(2, "e", 5), servers=("a", "b")),
            receipt(Revision(3, "e", 1), Revision(2, "e", 6), servers=("c", "b")),
        ]
    )
    assert whole is not None
    assert dict(zip(whole.revisions, whole.servers, strict=True)) == {
        Revision(1, "e", 5): "a",
        Revision(2, "e", 6): "b",
        Revision(3, "e", 1): "c",
    }


BEFORE, AFTER = Revision(1, "e", 5), Revision(1, "e", 6)
CHANGED = {
    "another run": [receipt(BEFORE), receipt(AFTER, run="run-b")],
    "another run and back": [receipt(BEFORE), receipt(AFTER, run="run-b"), receipt(AFTER)],
    "another run of a master": [receipt(BEFORE, servers=("a",)), receipt(AFTER, servers=("b",))],
    "another epoch": [receipt(BEFORE), receipt(Revision(1, "f", 1))],
    "a server that is not known": [receipt(BEFORE, servers=("a",)), receipt(AFTER, servers=("",))],
}


@pytest.mark.parametrize("writes", CHANGED.values(), ids=CHANGED)
async def test_a_write_before_a_lost_history_is_never_confirmed(
    store: Store, acks: Acknowledger, writes: list[WriteReceipt]
) -> None:
    """The server that came after may lack the first write, and may have given its number to another one."""
    whole = joined(writes)
    assert whole is not None
    for epoch in ("e", "f"):
        for run in ("run-a", "run-b", "a", "b", ""):
            said = Announcement("n1", {1: (epoch, 9)}, run, servers={run: [1]})
            await store.client.publish(keys.APPLIED_CHANNEL, pack_announcement(said))
            assert await acks.wait(whole, 20) == "pending", (epoch, run)


async def test_a_write_to_a_run_after_another_waits_for_that_run(store: Store, acks: Acknowledger) -> None:
    """Partitions of their own: each write is whole on the run that took it."""
    whole = joined([receipt(BEFORE), receipt(Revision(2, "e", 3), run="run-b")])
    assert whole is not None
    applied = {1: ("e", 5), 2: ("e", 3)}
    for run, expected in {"run-b": "pending", "run-a": "pending"}.items():
        await store.client.publish(keys.APPLIED_CHANNEL, pack_announcement(Announcement("n1", applied, run)))
        assert await acks.wait(whole, 20) == expected
    said = Announcement("n1", applied, "", servers={"run-a": [1], "run-b": [2]})
    await store.client.publish(keys.APPLIED_CHANNEL, pack_announcement(said))
    assert await acks.wait(whole, 10_000) == "all"


async def test_a_receipt_of_a_moved_server_is_not_certain(store: Store, acks: Acknowledger) -> None:
    """A bulk write has connections of its own: the registry that is read after it may be another server's."""
    written = await store.bans.impose(APP, [b"ann"], 5_000, 1)
    assert written.registry, "it was settled"
    runs = [written.server_of(number) for number in range(len(written.revisions))]
    assert (await store.writer.written(written.revisions, runs)).registry == written.registry
    moved = await store.writer.written(written.revisions, ["an earlier run"])
    assert (moved.registry, moved.server_of(0)) == ("", "an earlier run")


async def test_connections_to_runs_that_ended_are_closed(
    valkey_store: Store, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover every minute must not leave a connection each."""
    monkeypatch.setattr(durability, "MAX_RUNS_KEPT", 2)
    each = EachDurable(valkey_store.client, Durability("replica", 0))

    def connections() -> int:
        return len(redis_server.client.client_list())

    before = connections()
    for number in range(8):
        asked = each.ask(receipt(Revision(1, "e", 1), servers=(f"run-{number}",)), 5_000)
        assert "the server that took the write was restarted or replaced" in await each.outcome(asked)
        await each.forget(asked)
        await wait_until_async(lambda: connections() <= before + 4, 10, "the connections of earlier runs to end")
    await each.aclose()


def test_the_origin_of_an_older_entry_is_unknown() -> None:
    assert unpacked_origin(None) == UNKNOWN
    assert unpacked_origin(b"martian 7 ::1 a name") == Origin("unknown", "a name", "7", "::1")
