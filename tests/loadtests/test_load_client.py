"""The load client in C, against a real Redis: what it counts, and that no wrong reply passes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.servers import RedisServer
from loadtests.bench import comparison
from loadtests.bench.bed import Bed
from loadtests.bench.client import Peer, encode
from loadtests.bench.load import SOURCE, Load, NoCompiler, Target, WrongReply, build, run, write_script
from loadtests.bench.pairs import make_pairs
from loadtests.bench.rows import ROWS
from loadtests.bench.systems import frames, prepared
from loadtests.bench.systems.redis_peers import MemberSystem, PlainSystem
from loadtests.bench.turns import Bound, compared, judged, ratio, summary

PAIRS = make_pairs("uniform", 50, 400)
SECONDS = 0.05


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("the load client takes a C compiler")
    return build(SOURCE, tmp_path_factory.mktemp("load") / "load", "-Wall", "-Wextra", "-Werror")


def members(server: RedisServer) -> None:
    """Half of the pairs are on a list."""
    for sender, recipient in PAIRS[::2]:
        server.client.sadd(b"s:" + recipient, sender)


@pytest.mark.any_keys
@pytest.mark.parametrize(("pipeline", "connections"), [(1, 1), (1, 7), (16, 1), (16, 7), (400, 3)])
def test_every_command_is_counted_once(
    program: Path, redis_server: RedisServer, tmp_path: Path, pipeline: int, connections: int
) -> None:
    members(redis_server)
    script, answers = prepared(MemberSystem(redis_server, "sismember"), PAIRS, tmp_path / "script")
    assert 0 < answers.count(False) < len(answers)
    before = redis_server.client.info("commandstats")["cmdstat_sismember"]["calls"]
    load = run(program, script, pipeline, connections, SECONDS)
    asked = redis_server.client.info("commandstats")["cmdstat_sismember"]["calls"] - before
    # What was under way when the time was over is not counted.
    assert load.commands % pipeline == 0
    assert load.commands <= asked <= load.commands + pipeline * connections
    assert load.server_us > 0 and load.server > 0 and load.client > 0
    assert 0 < load.p50_us <= load.p99_us <= load.p999_us <= load.p9999_us <= load.max_us


@pytest.mark.any_keys
def test_several_commands_are_one_check_and_one_command_is_many(
    program: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    plain, answers = prepared(PlainSystem(redis_server, "plain"), PAIRS, tmp_path / "script")
    assert all(answers)
    load = run(program, plain, 16, 3, SECONDS)
    assert load.per_s == pytest.approx(load.commands / 4 / load.seconds, rel=0.01)
    hundred = run(program, plain._replace(commands_a_check=1 / 100), 100, 1, SECONDS)
    assert hundred.per_s == pytest.approx(hundred.commands * 100 / hundred.seconds, rel=0.01)


@pytest.mark.any_keys
@pytest.mark.parametrize("connections", [1, 5])
@pytest.mark.parametrize("rate", [0, 2_000])
def test_a_reply_that_differs_ends_the_run(
    program: Path, redis_server: RedisServer, tmp_path: Path, connections: int, rate: int
) -> None:
    members(redis_server)
    script, _ = prepared(MemberSystem(redis_server, "sismember"), PAIRS, tmp_path / "script")
    (sender, recipient), *_ = PAIRS
    redis_server.client.srem(b"s:" + recipient, sender)
    with pytest.raises(WrongReply, match=r"wrong reply: :0[\s:01]+expected: :1"):
        run(program, script, 1, connections, 5.0, rate)
    redis_server.client.delete(b"s:" + recipient)
    redis_server.client.set(b"s:" + recipient, "of another type, so the reply is longer and an error")
    with pytest.raises(WrongReply, match="WRONGTYPE"):
        run(program, script, 1, connections, 5.0, rate)


@pytest.mark.parametrize("connections", [1, 5])
def test_a_reply_too_many_ends_the_run(
    program: Path, redis_server: RedisServer, tmp_path: Path, connections: int
) -> None:
    target = Target(redis_server.port, redis_server.pid)
    two = write_script(tmp_path / "script", target, [(encode("PING") * 2, b"+PONG\r\n")] * 8, 1)
    with pytest.raises(WrongReply):
        run(program, two, 1, connections, 5.0)


def test_an_open_loop_keeps_its_rate_and_counts_from_when_a_check_was_due(
    program: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    script = write_script(
        tmp_path / "script", Target(redis_server.port, redis_server.pid), [(encode("PING"), b"+PONG\r\n")] * 100, 1
    )
    load = run(program, script, 1, 4, 0.5, 1_000)
    assert load.commands == pytest.approx(500, abs=2)
    # The first one keeps the server busy for long; a client that waited with it would see one slow reply, and not hundreds.
    codes = ("local n=0 for i=1,2e7 do n=n+i end return 'x'", *["return 'x'"] * 399)
    exchanges = [(encode("EVAL", code, 0), b"$1\r\nx\r\n") for code in codes]
    paused = run(program, write_script(tmp_path / "paused", script.target, exchanges, 1), 1, 1, 0.3, 1_000)
    assert paused.commands == pytest.approx(300, abs=2)
    assert paused.p99_us > paused.max_us / 4


def test_a_server_that_is_not_there_or_refuses_is_no_wrong_reply(
    program: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    pings = [(encode("PING"), b"+PONG\r\n")] * 4
    refused = Target(redis_server.port, redis_server.pid, encode("AUTH", "stranger", "wrong"), b"+OK\r\n")
    for target in (refused, Target(1, redis_server.pid)):
        with pytest.raises(Peer) as failed:
            run(program, write_script(tmp_path / "script", target, pings, 1), 1, 1, 0.05)
        assert not isinstance(failed.value, WrongReply)


def test_replies_are_split_whatever_they_hold() -> None:
    replies = [
        b":1\r\n",
        b"+OK\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"$4\r\n\r\n\r\n\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n:7\r\n",
        b"*0\r\n",
    ]
    assert list(frames(b"".join(replies))) == replies


def load_of(per_s: float, server_us: float) -> Load:
    return Load(100, 1, per_s, server_us, 0.5, 0.25, 0.1, 10, 20, 30, 40, 50, 1)


def test_a_bound_is_judged_by_the_median_of_the_ratios_of_each_round() -> None:
    loads = {
        "gate": [load_of(200, 1), load_of(100, 2), load_of(300, 3)],
        "redis lua": [load_of(100, 4), load_of(10, 4), load_of(300, 4)],
    }
    assert ratio([200, 100, 300], [100, 10, 300]) == (2.0, 1.0, 10.0)
    assert judged("checks", "what", loads, "gate", Bound(1, "redis lua", 2.0)).met is True
    missed = judged("checks", "what", loads, "gate", Bound(1, "redis lua", 2.1, "the stretch"))
    assert missed.met is False
    assert missed.target == ">= 2.1 x (the stretch)"
    assert missed.measured == compared(loads, "gate", "redis lua")
    assert "2.00 x (1.00 to 10.00), 200 to 100" in missed.measured
    assert "server CPU 0.50 x (0.25 to 0.75), 2.00 to 4.00 us" in missed.measured
    assert summary(loads["gate"]) | {"checks_per_s": 200, "least_per_s": 100, "most_per_s": 300} == summary(
        loads["gate"]
    )


@pytest.mark.parametrize(
    ("raised", "met"), [(WrongReply("a wrong reply: :0"), False), (NoCompiler("no compiler"), None)]
)
def test_a_wrong_reply_is_not_met_and_without_a_compiler_a_row_is_left_out(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, met: bool | None
) -> None:
    def fails(_: Bed) -> Sequence[Any]:
        raise raised

    monkeypatch.setitem(ROWS, "roundtrip", fails)
    (row,) = comparison.rows_of("roundtrip", None)  # type: ignore[arg-type]
    assert (row.met, row.measured) == (met, str(raised))


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoCompiler, match="apt-get install gcc"):
        build(SOURCE, tmp_path / "load")
