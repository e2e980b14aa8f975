"""A turn for every connection: one pass of the loop is short whatever a peer sends, and who goes before whom."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from gate.wire import client, connection
from gate.wire import turns as module
from gate.wire.client import Usage, Worker
from gate.wire.resp import CommandReader
from gate.wire.turns import LIGHT_SHARE, MOST_IN_A_ROUND, ROUND_US, SLICE_US, TURN_BYTES, Turns
from loadtests.bench.rows.fairness import kind_names, kinds
from tests.wire.line import AUTH, Line, command
from tests.wire.malformed import echo

PASSES = 12
MOST_CPU_S = 0.012
"""Of one pass: 2 ms are allowed, and a command; the rest is for a machine that is slower than those that measured 5 ms."""
SENT_BYTES = 1 << 18
"""What one read of a socket could bring before there were turns."""


@pytest.fixture
def collects_nothing() -> Iterator[None]:
    """A collection looks through all that the tests hold, which a worker does not."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collects_nothing")
@pytest.mark.parametrize("name", kind_names())
async def test_one_pass_of_the_loop_is_short_whatever_is_sent(worker: Worker, name: str) -> None:
    line, kind = Line(worker), kinds()[name]
    if kind.first:
        assert line.send(AUTH) == b"+OK\r\n"
    line.transport.incoming = kind.sent * (1 + SENT_BYTES // len(kind.sent))
    longest_s = 0.0
    for _ in range(PASSES):
        line.transport.written = b""
        began_s = time.thread_time()
        line.one_pass()
        longest_s = max(longest_s, time.thread_time() - began_s)
    assert longest_s < MOST_CPU_S


@pytest.mark.parametrize("sent", [b"\r\n", b"\n", b" \t\r\n", b"*0\r\n", b"*-1\r\n", b"*-9223372036854775808\r\n"])
def test_what_asks_nothing_is_skipped_and_what_follows_is_answered(worker: Worker, sent: bytes) -> None:
    line = Line(worker)
    assert line.send(AUTH + sent * (40_000 // len(sent)) + command("PING") + sent) == b"+OK\r\n+PONG\r\n"


@pytest.mark.parametrize("offset", range(-3, 4))
@pytest.mark.parametrize("word", [b"\r\n", b"*0\r\n", b"PING\r\n", echo(b"ab"), echo(b"\r\n*0\r\n")])
def test_commands_may_lie_across_the_end_of_a_turn(worker: Worker, word: bytes, offset: int) -> None:
    line = Line(worker)
    line.send(AUTH)
    padding = b"\r\n" * ((TURN_BYTES + offset) // 2 - len(word)) + b"\n" * (offset % 2)
    wanted = b"".join(line.send(word) for _ in range(3))
    assert line.send(padding + word * 3) == wanted
    assert line.send(command("PING")) == b"+PONG\r\n"


def test_reading_stops_while_work_is_left_and_begins_again(worker: Worker) -> None:
    line = Line(worker)
    line.send(AUTH)
    line.transport.incoming = b"PING\r\n" * 20_000
    assert line.one_pass()
    assert len(line.transport.incoming) == 20_000 * 6 - TURN_BYTES and not line.transport.reading
    line.go_on()
    assert line.transport.written == b"+OK\r\n" + b"+PONG\r\n" * 20_000
    assert line.transport.reading


def test_a_peer_that_waits_for_its_turn_owes_nothing(worker: Worker) -> None:
    line = Line(worker)
    line.send(AUTH)
    line.transport.incoming = b"PING\r\n" * 20_000 + b"PI"
    line.one_pass()
    assert line.connection.stalled_ms(1_000) == 0
    line.go_on()
    assert line.connection.stalled_ms(1_000) == 1
    assert line.connection in line.watch.watched


def test_a_reader_takes_a_small_piece_of_what_c_cannot_read() -> None:
    reader = CommandReader()
    commands, rest = reader.take(b"PING\r\n" * 2_000)
    assert 100 < len(commands) < 400 and len(rest) > 8_000
    commands, rest = CommandReader().take(echo(b"x") * 500)
    assert len(commands) == 500 and rest == b""


# The order of turns


@pytest.fixture
def soon() -> deque[Callable[[], None]]:
    return deque()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    now_us = [0]
    for where in (module, client, connection):
        monkeypatch.setattr(where, "monotonic_us", lambda: now_us[0])
    yield now_us


def test_a_pass_gives_strangers_one_turn_and_the_known_a_bounded_time(
    soon: deque[Callable[[], None]], clock: list[int]
) -> None:
    turns, order = Turns(soon.append), list[str]()

    def busy(name: str, is_stranger: bool) -> Callable[[], None]:
        def take_turn() -> None:
            order.append(name)
            clock[0] += ROUND_US // 4
            turns.wait(take_turn, is_stranger=is_stranger)

        return take_turn

    for number in range(3):
        turns.wait(busy(f"stranger {number}", True), is_stranger=True)
    for number in range(5):
        turns.wait(busy(f"known {number}", False))
    assert len(soon) == 1, "one pass for all"
    soon.popleft()()
    assert order == ["known 0", "known 1", "known 2", "known 3", "stranger 0"]
    soon.popleft()()
    assert order[5:] == ["known 4", "known 0", "known 1", "known 2", "stranger 1"]


def test_long_turns_of_strangers_and_clients_alternate(soon: deque[Callable[[], None]], clock: list[int]) -> None:
    turns, order = Turns(soon.append), list[str]()

    def busy(name: str, is_stranger: bool) -> Callable[[], None]:
        def take_turn() -> None:
            order.append(name)
            clock[0] += 5 * ROUND_US
            turns.wait(take_turn, is_stranger=is_stranger)

        return take_turn

    turns.wait(busy("stranger", True), is_stranger=True)
    turns.wait(busy("known", False))
    for _ in range(2):
        soon.popleft()()
    assert order == ["known", "stranger"] * 2


def test_a_turn_that_fails_keeps_no_other_from_theirs(soon: deque[Callable[[], None]]) -> None:
    turns, order = Turns(soon.append), list[str]()

    def fail() -> None:
        raise ZeroDivisionError

    turns.wait(fail)
    turns.wait(lambda: order.append("next"))
    with pytest.raises(ZeroDivisionError):
        soon.popleft()()
    soon.popleft()()
    assert order == ["next"] and not soon and not turns.is_busy


def test_a_stranger_waits_behind_all_who_wait_and_a_client_does_not(worker: Worker) -> None:
    stranger = Line(worker)
    client = stranger.of_the_same_worker()
    client.send(AUTH)
    worker.turns.wait(lambda: None)
    stranger.transport.incoming = client.transport.incoming = command("PING")
    stranger.transport.deliver()
    client.transport.deliver()
    assert (stranger.transport.written, client.transport.written) == (b"", b"+OK\r\n+PONG\r\n")
    client.go_on()
    assert stranger.transport.written == b"+PONG\r\n"


def test_where_a_round_is_filled_one_that_used_much_waits(worker: Worker, clock: list[int]) -> None:
    line = Line(worker)
    line.send(AUTH)
    for _ in range(MOST_IN_A_ROUND):
        worker.turns.wait(lambda: None)
    check = command("GATE.CHECK", "bob", "alice")
    assert line.only_me(check) == b":0\r\n", "a check alone never waits"
    assert line.only_me(check * 2) == b""
    line.go_on()
    assert line.transport.written == b"+OK\r\n" + b":0\r\n" * 3
    for _ in range(MOST_IN_A_ROUND):
        worker.turns.wait(lambda: None)
    clock[0] += LIGHT_SHARE * 60_000
    assert line.only_me(check * 2) == b":0\r\n" * 2


def test_usage_is_forgotten_at_the_rate_of_a_light_share(clock: list[int]) -> None:
    usage = Usage()
    light = [usage.is_light]
    clock[0] += 100 * LIGHT_SHARE
    light.append(usage.is_light)
    usage.add(clock[0], clock[0] + SLICE_US)
    light.append(usage.is_light)
    clock[0] += SLICE_US * LIGHT_SHARE
    light.append(usage.is_light)
    assert light == [False, True, False, True], "newcomers may be many"
