from __future__ import annotations

import pytest

from gate.core.changes import MAX_SLICE_WEIGHT, check_heads, slices
from gate.core.revision import NOWHERE, Position
from gate.errors import ChangelogBroken
from gate.replica.changelog_checks import lag, reached, verify_history
from tests.replica.model import Changes
from tests.replica.scripted import ScriptedRedis

A, B = "a" * 16, "b" * 16


@pytest.mark.parametrize(
    ("applied", "head", "reason"),
    [
        (Position(A, 3, "w3"), Position(B, 3, "w3"), "epoch"),
        (Position(A, 3, "w3"), NOWHERE, "epoch"),
        (NOWHERE, Position(A, 0, ""), "epoch"),
        (Position(A, 3, "w3"), Position(A, 2, "w2"), "behind"),
        (Position(A, 3, "w3"), Position(A, 3, "other"), "forked"),
    ],
)
def test_heads_that_are_no_future_of_ours(applied: Position, head: Position, reason: str) -> None:
    with pytest.raises(ChangelogBroken) as caught:
        check_heads([Position(A, 0, ""), applied], [Position(A, 9, "w9"), head])
    assert caught.value.reason == reason


def test_another_number_of_partitions() -> None:
    with pytest.raises(ChangelogBroken) as caught:
        check_heads([NOWHERE], [NOWHERE, NOWHERE])
    assert caught.value.reason == "partitions"


@pytest.mark.parametrize("head", [Position(A, 3, "w3"), Position(A, 4, "w4")])
def test_heads_that_may_be_our_future(head: Position) -> None:
    check_heads([Position(A, 3, "w3")], [head])


class TestHistory:
    """`verify_history` also looks at the entries around our Position."""

    def redis(self, writes: int = 5) -> ScriptedRedis:
        redis = ScriptedRedis(1)
        for _ in range(writes):
            redis.write(0, "ban-lifted", b"u")
        return redis

    def at(self, redis: ScriptedRedis, seq: int) -> Position:
        log = redis.logs[0]
        return Position(log.epoch, seq, log.log[seq - 1].write_id if seq else "")

    @pytest.mark.parametrize("seq", [0, 1, 4, 5])
    async def test_ours_is_part_of_it(self, seq: int) -> None:
        redis = self.redis()
        assert await verify_history(redis, [self.at(redis, seq)]) == await redis.heads()

    async def test_our_own_entry_may_be_trimmed(self) -> None:
        redis = self.redis()
        redis.trim(0, 3)
        await verify_history(redis, [self.at(redis, 2)])

    async def test_the_next_one_may_not(self) -> None:
        redis = self.redis()
        redis.trim(0, 4)
        with pytest.raises(ChangelogBroken) as caught:
            await verify_history(redis, [self.at(redis, 2)])
        assert caught.value.reason == "trimmed"

    async def test_restored_and_written_again_past_ours(self) -> None:
        redis = self.redis(2)
        older = redis.saved()
        redis.write(0, "ban-lifted", b"u")
        ours = self.at(redis, 3)
        redis.restore(older)
        for _ in range(4):
            redis.write(0, "ban-imposed", b"u", until_ms=5)
        redis.logs[0].log[2] = redis.logs[0].log[2]._replace(write_id="another")
        with pytest.raises(ChangelogBroken) as caught:
            await verify_history(redis, [ours])
        assert caught.value.reason == "forked"


def test_distance() -> None:
    applied = [Position(A, 3, ""), Position(A, 9, "")]
    heads = [Position(A, 5, ""), Position(A, 7, "")]
    assert lag(applied, heads) == 2
    assert not reached(applied, heads)
    assert reached(applied, [Position(A, 3, ""), Position(A, 9, "")])


class TestSlices:
    def test_little_is_one_commit_with_partition_0_first(self) -> None:
        log = Changes()
        changes = {3: [log("ban-lifted", b"u")], 0: [log("ban-lifted", b"u")]}
        assert [list(portion) for portion in slices(changes)] == [[0, 3]]

    def test_much_is_several_and_nothing_is_lost(self) -> None:
        log = Changes()
        batch = [log("blocked", b"u", [b"m"] * 99) for _ in range(201)]
        portions = list(slices({1: batch}))
        assert [change for portion in portions for change in portion[1]] == batch
        assert len(portions) == -(-201 * 100 // MAX_SLICE_WEIGHT)

    def test_nothing_is_nothing(self) -> None:
        assert list(slices({})) == []
