"""What breaks the history that a replicator follows, and what it does then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gate.core.model import FOREVER_MS
from gate.errors import ReplicaError, ReplicaForeign, ReplicaFull
from gate.replica import files
from gate.replica.lost import FOLDER
from gate.replica.status_page import FRESH_GRACE_MS, State
from gate.replica.writer import FactsFile
from tests.replica.node import Node, running
from tests.replica.scripted import Listener, ScriptedRedis
from tests.replica.test_replicator import directory, listener, node, redis

__all__ = ["directory", "listener", "node", "redis"]

Fault = Callable[[ScriptedRedis], None]


def emptied(redis: ScriptedRedis) -> None:
    redis.restart_empty()
    redis.write(0, "app-set", app="app")


def emptied_and_written_past_ours(redis: ScriptedRedis) -> None:
    redis.restart_empty()
    for _ in range(30):
        redis.write(0, "app-set", app="app")
        redis.write(1, "ban-lifted", b"bad")


def trimmed(redis: ScriptedRedis) -> None:
    for _ in range(10):
        redis.write(1, "ban-lifted", b"bad")
    redis.trim(1, 9)


def trimmed_to_nothing(redis: ScriptedRedis) -> None:
    """No read will ever bring an entry whose number shows that others are missing."""
    for _ in range(10):
        redis.write(1, "ban-lifted", b"bad")
    redis.trim(1, 99)


def hole(redis: ScriptedRedis) -> None:
    for _ in range(10):
        redis.write(1, "ban-lifted", b"bad")
    redis.lose_entry(1, 5)


FAULTS: list[tuple[Fault, set[str]]] = [
    (emptied, {"epoch", "behind"}),
    (emptied_and_written_past_ours, {"epoch", "forked"}),
    (trimmed, {"trimmed", "hole"}),
    (trimmed_to_nothing, {"trimmed"}),
    (hole, {"hole"}),
]


class TestBreaks:
    """While the node runs and while it is down; a fault is noticed, the old facts are served, a fresh snapshot heals it."""

    @pytest.mark.parametrize(("fault", "reasons"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
    async def test_noticed_while_following(
        self, node: Node, redis: ScriptedRedis, fault: Fault, reasons: set[str]
    ) -> None:
        assert node.word(b"bad", b"b") == "sender-banned"
        fault(redis)
        await node.until_reloaded(2)
        assert node.word(b"bad", b"b") == "allowed"
        assert set(node.reasons()) <= {"missing", *reasons}
        assert node.status_page.reloads == 1

    @pytest.mark.parametrize(("fault", "reasons"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
    async def test_noticed_at_start(
        self, directory: Path, redis: ScriptedRedis, listener: Listener, fault: Fault, reasons: set[str]
    ) -> None:
        async with running(directory, redis, listener) as node:
            await node.until_ready()
        fault(redis)
        async with running(directory, redis, listener) as node:
            await node.until_ready()
            assert node.word(b"bad", b"b") == "allowed"
            assert len(node.reasons()) == 1
            assert set(node.reasons()) <= reasons

    @pytest.mark.parametrize("writes_after", [0, 1, 2, 3, 30])
    async def test_restored_from_an_older_file(self, node: Node, redis: ScriptedRedis, writes_after: int) -> None:
        """Also where new writes reach or pass our own Position before we look: numbers alone can't show that."""
        older = redis.saved()
        for i in range(2):
            redis.write(1, "ban-imposed", b"lost%d" % i, until_ms=FOREVER_MS)
        await node.until_word(b"lost1", b"b", "sender-banned")
        redis.restore(older)
        for i in range(writes_after):
            redis.write(1, "ban-imposed", b"new%d" % i, until_ms=FOREVER_MS)
        await node.until_reloaded(2)
        assert node.word(b"lost1", b"b") == "allowed"
        if writes_after:
            assert node.word(b"new0", b"b") == "sender-banned"

    async def test_a_loss_that_can_not_be_listed_delays_no_facts(self, node: Node, redis: ScriptedRedis) -> None:
        older = redis.saved()
        redis.write(1, "ban-imposed", b"lost", until_ms=FOREVER_MS)
        await node.until_word(b"lost", b"b", "sender-banned")
        (node.directory / FOLDER).write_text("in the place of the folder")
        redis.restore(older)
        await node.until_reloaded(2)
        assert node.word(b"lost", b"b") == "allowed"
        assert "the facts that Redis lost could not be listed" in [line["event"] for line in node.logged]

    async def test_old_facts_are_served_and_marked_stale_until_the_swap(self, node: Node, redis: ScriptedRedis) -> None:
        for i in range(40):
            redis.write(0, "ban-imposed", b"u%d" % i, until_ms=FOREVER_MS)
        await node.until_word(b"u39", b"b", "sender-banned")
        seen: list[tuple[State, str, int]] = []
        hold = True

        def look(step: int) -> None:
            seen.append((node.status_page.state, node.word(b"bad", b"b"), node.status_page.generation))
            if step == 5 and hold:
                redis.is_away = True

        redis.during_snapshot = look
        redis.restart_empty()
        for i in range(10):
            redis.write(0, "app-set", app="app")
            redis.write(1, "blocked", b"u%d" % i, [b"m"], until_ms=FOREVER_MS)
        await node.until(lambda: len(seen) >= 6, "a load that is cut off in its middle")
        await node.until(lambda: node.status_page.stale_ms > 0, "the old facts to be marked stale")
        assert node.word(b"bad", b"b") == "sender-banned"
        hold = False
        redis.is_away = False
        await node.until_reloaded(2)
        assert node.status_page.stale_ms == 0
        assert node.word(b"bad", b"b") == "allowed"
        assert {(state, word) for state, word, _ in seen} == {(State.RELOADING, "sender-banned")}
        assert {generation for *_, generation in seen} == {1}

    async def test_broken_while_loading_it_starts_again(self, node: Node, redis: ScriptedRedis) -> None:
        breaks = 2

        def again(step: int) -> None:
            nonlocal breaks
            if breaks and step == 0:
                breaks -= 1
                emptied(redis)

        redis.during_snapshot = again
        emptied(redis)
        await node.until(lambda: breaks == 0 and node.status_page.state is State.CURRENT, "the third load to succeed")
        assert redis.snapshots >= 4

    async def test_an_app_made_again_under_its_key(self, node: Node, redis: ScriptedRedis) -> None:
        redis.write(0, "app-removed", app="app")
        redis.write(0, "app-set", app="app")
        redis.write(1, "ban-imposed", b"other", until_ms=FOREVER_MS)
        await node.until_reloaded(2)
        assert node.reasons()[-1] == "recreated"
        assert node.word(b"bad", b"b") == "allowed"
        assert node.word(b"other", b"b") == "sender-banned"

    async def test_the_log_says_it_once(self, node: Node, redis: ScriptedRedis) -> None:
        emptied(redis)
        await node.until_reloaded(2)
        warnings = [line for line in node.logged if "can't be followed" in line["event"]]
        assert len(warnings) == 1
        assert warnings[0]["reason"] in {"epoch", "behind"}

    async def test_replaced_files_are_deleted_at_last(
        self, directory: Path, redis: ScriptedRedis, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gate.replica.replaced.OLD_FACTS_KEPT_S", 0.05)
        async with running(directory, redis, listener) as node:
            await node.until_ready()
            emptied(redis)
            await node.until_reloaded(2)
            await node.until(lambda: not list(directory.glob("facts-1.*")), "the replaced file to be deleted")
            assert node.word(b"bad", b"b") == "allowed"

    async def test_positions_are_not_said_to_a_server_whose_history_is_another(
        self, node: Node, redis: ScriptedRedis, listener: Listener
    ) -> None:
        """It assigns our numbers to other writes; our announcement must not acknowledge those."""
        older = redis.saved()
        for i in range(5):
            redis.write(1, "ban-imposed", b"lost%d" % i, until_ms=FOREVER_MS)
        await node.until_word(b"lost4", b"b", "sender-banned")
        redis.is_away = True
        await node.until_state(State.CUT_OFF)
        redis.restore(older)
        redis.write(1, "ban-imposed", b"new", until_ms=FOREVER_MS)
        new_head = (redis.logs[1].epoch, redis.logs[1].log[-1].seq)
        listener.said.clear()
        redis.is_away = False
        await node.until_reloaded(2)
        first_true = next(i for i, said in enumerate(listener.said) if 1 in said)
        said = listener.said[first_true][1]
        assert (said.epoch, said.seq) == new_head
        assert said.tip == redis.logs[1].log[-1].write_id


class TestCutOff:
    async def test_checks_go_on_and_staleness_grows(self, node: Node, redis: ScriptedRedis) -> None:
        redis.is_away = True
        await node.until_state(State.CUT_OFF)
        await node.until(lambda: node.status_page.stale_ms > FRESH_GRACE_MS, "staleness to show")
        assert node.word(b"bad", b"b") == "sender-banned"
        assert node.status_page.ready

    async def test_it_comes_back_by_itself(self, node: Node, redis: ScriptedRedis) -> None:
        redis.is_away = True
        await node.until_state(State.CUT_OFF)
        redis.write(1, "ban-lifted", b"bad")
        redis.is_away = False
        await node.until_word(b"bad", b"b", "allowed")
        await node.until_state(State.CURRENT)
        assert redis.snapshots == 1

    async def test_history_is_proved_again_before_facts_are_called_fresh(
        self, node: Node, redis: ScriptedRedis
    ) -> None:
        redis.is_away = True
        await node.until_state(State.CUT_OFF)
        emptied_and_written_past_ours(redis)
        redis.is_away = False
        await node.until_reloaded(2)

    async def test_the_log_says_it_once(self, node: Node, redis: ScriptedRedis) -> None:
        redis.is_away = True
        await node.until(lambda: node.status_page.stale_ms > FRESH_GRACE_MS + 500, "a while")
        assert len([line for line in node.logged if line.get("reason") == "redis-away"]) == 1

    async def test_the_lease_is_renewed_again(self, node: Node, redis: ScriptedRedis, listener: Listener) -> None:
        redis.is_away = True
        await node.until_state(State.CUT_OFF)
        before = listener.renewals
        redis.is_away = False
        await node.until(lambda: listener.renewals > before + 1, "renewals")

    @pytest.mark.slow
    async def test_no_room_for_changes_then_room_again(
        self, directory: Path, redis: ScriptedRedis, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with running(directory, redis, listener, map_bytes=512 << 10) as node:
            await node.until_ready()
            before = redis.saved()
            for i in range(500):
                redis.write(1, "blocked", b"%064d" % i, [b"%064d" % j for j in range(100)], until_ms=FOREVER_MS)
            await node.until_state(State.CUT_OFF)
            await node.until(lambda: node.status_page.stale_ms > 0, "staleness to show")
            await node.until(lambda: node.status_page.stale_ms > FRESH_GRACE_MS + 500, "several attempts")
            assert len([line for line in node.logged if line.get("reason") == "no-room"]) == 1
            assert node.word(b"bad", b"b") == "sender-banned"
            redis.restore(before)
            await node.until_state(State.CURRENT)


class TestNoRoom:
    """The disk refuses a step of a reload: the old facts go on, and the step is repeated."""

    async def test_a_file_that_can_not_be_made_current(
        self, node: Node, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_current, tried = files.make_current, list[Path]()

        def refuses_once(path: Path) -> None:
            tried.append(path)
            if len(tried) == 1:
                raise ReplicaFull("no room")
            make_current(path)

        monkeypatch.setattr(files, "make_current", refuses_once)
        files.request_rebuild(node.directory)
        await node.until(lambda: tried, "the first attempt")
        assert node.word(b"bad", b"b") == "sender-banned"
        await node.until_reloaded(2)
        assert node.word(b"bad", b"b") == "sender-banned"
        assert len(tried) == 2
        redis.write(1, "ban-lifted", b"bad")
        await node.until_word(b"bad", b"b", "allowed")

    @pytest.mark.parametrize("refusal", [ReplicaFull("no room"), ReplicaForeign("unreadable")], ids=type)
    async def test_a_successor_that_can_not_be_named(
        self, node: Node, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch, refusal: ReplicaError
    ) -> None:
        """Readers move by the status page. A full disk may have room later; an unreadable file will not be readable."""
        name_successor, tried = FactsFile.name_successor, list[str]()

        def refuses_twice(file: FactsFile, successor: str) -> None:
            tried.append(successor)
            if len(tried) <= 2:
                raise refusal
            name_successor(file, successor)

        monkeypatch.setattr(FactsFile, "name_successor", refuses_twice)
        assert node.word(b"bad", b"b") == "sender-banned"
        files.request_rebuild(node.directory)
        await node.until_reloaded(2)
        redis.write(1, "ban-lifted", b"bad")
        await node.until_word(b"bad", b"b", "allowed")
        wanted = 3 if isinstance(refusal, ReplicaFull) else 1
        await node.until(lambda: len(tried) == wanted, "the last attempt")

    async def test_a_file_that_can_not_be_closed_in_order(
        self, directory: Path, redis: ScriptedRedis, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuses(_: FactsFile) -> None:
            raise ReplicaFull("no room")

        with monkeypatch.context() as patched:
            patched.setattr(FactsFile, "close_clean", refuses)
            async with running(directory, redis, listener) as node:
                await node.until_ready()
            assert "the Replica was not closed in order; a reboot will rebuild it" in [
                line["event"] for line in node.logged
            ]
        async with running(directory, redis, listener) as node:
            await node.until_ready()
            assert node.word(b"bad", b"b") == "sender-banned"
            assert node.reasons() == [], "the machine was not started again: its pages are whole"
