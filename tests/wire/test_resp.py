"""What the command reader returns, refuses and holds, for both readers: they are one contract."""

from __future__ import annotations

import gc
import threading
import tracemalloc

import hiredis
import pytest

from gate.wire import resp, strict
from gate.wire.resp import (
    MAX_ARGS,
    MAX_BULK_BYTES,
    MAX_COMMAND_BYTES,
    MAX_LINE_BYTES,
    Command,
    CommandReader,
    StrictReader,
)
from tests.wire.malformed import (
    BAD_COUNT,
    ODD_BUT_GOOD,
    REDIS_ONLY_GOOD,
    REDIS_ONLY_REFUSED,
    REFUSED,
    STRICTER,
    echo,
)

CHECK = [b"GATE.CHECK", b"alice", b"bob"]
PIECE_BYTES, SLOW_PIECE_BYTES = 16_384, 1_024
"""What one call takes at the most: of whole commands, and of anything else."""


@pytest.fixture(params=[CommandReader, StrictReader], ids=["fast", "strict"])
def reader(request: pytest.FixtureRequest) -> StrictReader:
    made: StrictReader = request.param()
    return made


def command(*args: bytes) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)


def test_one_command(reader: StrictReader) -> None:
    assert reader.feed(command(*CHECK)) == [CHECK]
    assert (reader.pending, reader.error) == (0, None)


@pytest.mark.parametrize("batch", [2, 3, 64, 400, 5_000])
def test_a_pipeline_keeps_its_order(reader: StrictReader, batch: int) -> None:
    sent = [[b"GATE.CHECK", b"%d" % number, b"x" * (number % 70)] for number in range(batch)]
    assert reader.feed(b"".join(command(*args) for args in sent)) == sent
    assert reader.pending == 0


@pytest.mark.parametrize("sent, echoed", ODD_BUT_GOOD + REDIS_ONLY_GOOD)
def test_odd_but_good(reader: StrictReader, sent: bytes, echoed: list[bytes]) -> None:
    assert reader.feed(sent) == [[b"ECHO", payload] for payload in echoed]
    assert (reader.pending, reader.error) == (0, None)


@pytest.mark.parametrize("sent, error", REFUSED + REDIS_ONLY_REFUSED + [row[1:] for row in STRICTER])
def test_the_commands_before_a_fault_are_returned_and_nothing_after(
    reader: StrictReader, sent: bytes, error: str
) -> None:
    before = [[b"PING"], CHECK]
    got = reader.feed(command(b"PING") + command(*CHECK) + sent)
    assert got[:2] == before
    assert all(args[0] == b"ECHO" for args in got[2:])
    assert reader.error == error
    assert reader.pending == 0
    assert reader.feed(command(b"PING")) == []
    assert reader.error == error


@pytest.mark.parametrize(
    "first", [b"$4\r\n", b"+OK\r\n", b":0\r\n", b"_\r\n", b"#f\r\n", b"%0\r\n", b"~0\r\n", b">0\r\n"]
)
def test_a_reply_at_top_level_is_an_inline_command(reader: StrictReader, first: bytes) -> None:
    ping = command(b"PING")
    assert reader.feed(ping + first + ping) == [[b"PING"], [first[:-2]], [b"PING"]]


@pytest.mark.parametrize("first", [b"%1", b"~1", b">1", b"|1", b"$1"])
def test_a_reply_of_many_lines_at_top_level_is_as_many_inline_commands(reader: StrictReader, first: bytes) -> None:
    lines = [first, b"$1", b"a", b"$1", b"b"]
    ping = command(b"PING") * 10
    assert (
        reader.feed(ping + b"\r\n".join(lines) + b"\r\n" + ping)
        == [[b"PING"]] * 10 + [[line] for line in lines] + [[b"PING"]] * 10
    )


@pytest.mark.parametrize("kind", [b"*", b"~", b">", b"|"])
def test_an_announced_length_is_never_allocated(reader: StrictReader, kind: bytes) -> None:
    # As an element after an argument that ends oddly, so that the header begins no line.
    tracemalloc.start()
    try:
        reader.feed(b"*2\r\n$1\r\naXX" + kind + b"90000000\r\n" + command(b"PING") * 20)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.error is not None
    assert peak_bytes < 200_000


def test_a_tail_is_pending_until_it_is_whole(reader: StrictReader) -> None:
    whole = command(*CHECK)
    assert reader.feed(whole * 3 + whole[:-9]) == [CHECK] * 3
    assert reader.pending == len(whole) - 9
    assert reader.feed(whole[-9:-1]) == []
    assert reader.pending == len(whole) - 1
    assert reader.feed(whole[-1:] + whole + whole[:5]) == [CHECK] * 2
    assert reader.pending == 5


def test_half_an_inline_command_is_pending(reader: StrictReader) -> None:
    assert reader.feed(b"GATE.CHECK al") == []
    assert reader.pending == 13
    assert reader.feed(b"ice bob") == []
    assert reader.feed(b"\r\nPI") == [CHECK]
    assert reader.pending == 2


@pytest.mark.parametrize("size", [9_999, 10_000, MAX_ARGS])
def test_a_command_of_many_arguments(reader: StrictReader, size: int) -> None:
    args = [b"%d" % number for number in range(size)]
    assert reader.feed(command(b"PING") + command(*args) + command(*CHECK)) == [[b"PING"], args, CHECK]


def test_the_largest_argument_and_one_more(reader: StrictReader) -> None:
    largest = b"x" * MAX_BULK_BYTES
    assert reader.feed(echo(largest) + echo(b"a")) == [[b"ECHO", largest], [b"ECHO", b"a"]]
    assert reader.feed(echo(largest + b"x")) == []
    assert reader.error == "ERR Protocol error: invalid bulk length"


def test_the_longest_inline_command_and_one_more(reader: StrictReader) -> None:
    longest = b"a" * MAX_LINE_BYTES
    assert reader.feed(longest + b"\n") == [[longest]]
    assert reader.feed(longest + b"a\n") == []
    assert reader.error == "ERR Protocol error: too big inline request"


def test_the_longest_blank_line_and_one_more(reader: StrictReader) -> None:
    longest = b" " * MAX_LINE_BYTES
    assert reader.feed(longest + b"\n" + command(*CHECK)) == [CHECK]
    assert reader.feed(longest + b" \n" + command(*CHECK)) == []
    assert reader.error == "ERR Protocol error: too big inline request"


@pytest.mark.parametrize("args", [[b"ab", b""], [b"a", b"$0", b""], [b"", b""], [b"$1"], [b""]])
def test_arguments_that_look_like_lengths_and_empty_ones(reader: StrictReader, args: list[bytes]) -> None:
    assert reader.feed(command(*args)) == [args]


@pytest.mark.parametrize("start", [b"a", b"*", b"*1\r\n$"])
def test_a_line_that_never_ends_is_refused_in_small_chunks_too(reader: StrictReader, start: bytes) -> None:
    reader.feed(start)
    for _ in range(MAX_LINE_BYTES // 1_000 + 1):
        reader.feed(b"1" * 1_000)
    assert reader.error is not None
    assert reader.pending == 0


def test_an_inline_command_of_too_many_arguments(reader: StrictReader) -> None:
    assert reader.feed(b"a " * MAX_ARGS + b"\r\n") == [[b"a"] * MAX_ARGS]
    assert reader.feed(b"a " * (MAX_ARGS + 1) + b"\r\n") == []
    assert reader.error == "ERR Protocol error: too big inline request"


@pytest.mark.parametrize("chunk_bytes", [1_000, 100_000, 10_000_000])
def test_one_command_holds_no_more_than_its_limit(reader: StrictReader, chunk_bytes: int) -> None:
    huge = command(*[b"x" * MAX_BULK_BYTES] * 40)
    held_bytes = 0
    for start in range(0, len(huge), chunk_bytes):
        assert reader.feed(huge[start : start + chunk_bytes]) == []
        held_bytes = max(held_bytes, reader.pending)
    assert reader.error == "ERR Protocol error: too big request"
    assert held_bytes <= MAX_COMMAND_BYTES


def test_the_largest_command_of_ids_fits(reader: StrictReader) -> None:
    args = [b"i" * 64] * MAX_ARGS
    assert reader.feed(command(*args)) == [args]


class CountingReader(CommandReader):
    """Counts what the exact parser was asked to read, which is the work that slicing could multiply."""

    __slots__ = ("cut_bytes", "cut_commands")

    def __init__(self) -> None:
        super().__init__()
        self.cut_bytes = 0
        self.cut_commands = 0

    def _cut(self, buffer: bytes, commands: list[Command], one_only: bool) -> int:
        self.cut_bytes += len(buffer)
        before = len(commands)
        start = super()._cut(buffer, commands, one_only)
        self.cut_commands += len(commands) - before
        return start


@pytest.mark.parametrize(
    "sent",
    [command(*[b"x" * 60_000] * 4), command(*[b"%d" % n for n in range(9_000)]), b"a" * 60_000 + b"\r\n"],
    ids=["large arguments", "many arguments", "inline"],
)
def test_a_peer_that_sends_single_bytes_costs_linear_work(sent: bytes) -> None:
    reader = CountingReader()
    commands = [args for byte in sent for args in reader.feed(bytes((byte,)))]
    assert len(commands) == 1
    assert reader.cut_bytes < 3 * len(sent)


def test_a_newline_in_every_chunk_does_not_buy_quadratic_work() -> None:
    reader = CountingReader()
    sent = command(b"ECHO", b"\n" * 60_000) * 2
    assert sum(len(reader.feed(bytes((byte,)))) for byte in sent) == 2
    assert reader.cut_bytes < 3 * len(sent)


def test_a_large_pipeline_in_odd_chunks_stays_on_the_fast_path() -> None:
    reader = CountingReader()
    sent = command(*CHECK) * 20_000
    got: list[Command] = []
    for start in range(0, len(sent), 65_521):
        got += reader.feed(sent[start : start + 65_521])
    assert got == [CHECK] * 20_000
    # The exact parser reads only the one command that each cut leaves in two halves.
    assert reader.cut_commands <= len(sent) // 65_521


def test_lines_without_a_command_are_skipped_in_c() -> None:
    reader = CountingReader()
    assert reader.feed(b"\r\n" * 1_000 + b"*0\r\n" * 1_000) == []
    assert reader.cut_bytes == 0


def test_a_call_takes_one_piece_and_returns_the_rest() -> None:
    reader, many = CommandReader(), command(*CHECK) * 2_000
    commands, rest = reader.take(many)
    assert PIECE_BYTES - len(command(*CHECK)) <= len(many) - len(rest) <= PIECE_BYTES
    assert commands == [CHECK] * len(commands) and rest == command(*CHECK) * (2_000 - len(commands))
    assert reader.take(b"PING\r") == ([], b"")
    assert reader.take(b"\n" + many) == ([[b"PING"]], many), "the line that was cut, and nothing else"
    line = b"a" * 5_000 + b"\r\n"
    assert reader.take(b"a") == ([], b"")
    assert reader.take(line) == ([], line[SLOW_PIECE_BYTES:])
    broken = CommandReader()
    assert broken.take(b"*x\r\n" + b"PING\r\n" * 1_000) == ([], b"")
    assert broken.error == BAD_COUNT


def test_a_lone_command_is_read_at_once_and_nothing_else_is() -> None:
    whole = command(*CHECK)
    assert resp.whole_command(whole) == CHECK
    for sent in (whole + b"XXXX", whole[:-2], whole[:-2] + b"XXXX", whole + whole, b"", b"\r\n", b"*0\r\n"):
        assert resp.whole_command(sent) is None


@pytest.mark.parametrize("size", [100, 600])
def test_a_large_command_in_one_chunk_stays_on_the_fast_path(size: int) -> None:
    reader = CountingReader()
    args = [b"GATE.MCHECK", *(b"user-%07d" % number for number in range(size))]
    assert reader.feed(command(*args)) == [args]
    assert reader.cut_commands == 0


def test_idle_readers_are_small_and_hold_no_parser() -> None:
    resp.idle_readers.clear()
    tracemalloc.start()
    try:
        readers = [CommandReader() for _ in range(1_000)]
        for reader in readers:
            reader.feed(command(*CHECK) * 10)
        gc.collect()
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 200_000
    assert len(resp.idle_readers) == 1


def test_a_reader_that_met_a_fault_is_not_lent_again() -> None:
    resp.idle_readers.clear()
    whole = command(*CHECK)
    assert CommandReader().feed(whole * 10 + b"*3\r\n$5\r\nSTALE\r\n") == [CHECK] * 10
    assert CommandReader().feed(whole * 10) == [CHECK] * 10
    broken = CommandReader()
    broken.feed(whole * 10 + b"*x\r\n")
    assert broken.error == BAD_COUNT
    assert CommandReader().feed(whole * 10) == [CHECK] * 10


def test_threads_never_share_a_parser() -> None:
    wrong: list[object] = []

    def feed_many(name: bytes) -> None:
        reader, wanted = CommandReader(), [[b"ECHO", name]] * 20
        wrong.extend(got for _ in range(500) if (got := reader.feed(echo(name) * 20)) != wanted)

    threads = [threading.Thread(target=feed_many, args=(b"thread %d" % number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("args", [[b"+49301234", b"49301234"], [b"a=", b"(b"], [b"~x", b">y"], [b"|", b"%"]])
def test_ids_that_look_like_other_types_stay_on_the_fast_path(
    args: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise AssertionError("the exact parser was asked")

    monkeypatch.setattr(StrictReader, "_cut", fail)
    assert CommandReader().feed(command(b"GATE.CHECK", *args) * 64) == [[b"GATE.CHECK", *args]] * 64


def test_every_value_of_hiredis_that_is_no_command_is_declined() -> None:
    for value in (
        b":1",
        b":0",
        b"_",
        b"#t",
        b"#f",
        b",1.5",
        b"$-1",
        b"-ERR",
        b"(1",
        b"+OK",
        b"*0",
        b"~0",
        b">0",
        b"%0",
    ):
        raw = hiredis.Reader()
        raw.feed(value + b"\r\n")
        raw.gets()  # hiredis does take it
        assert resp.whole_batch(command(b"PING") + value + b"\r\n") is None
        assert resp.whole_batch(b"*1\r\n" + value + b"\r\n") is None


def test_quoting() -> None:
    assert strict.split_inline(b"") == []
    assert strict.split_inline(b' a "" b') == [b"a", b"", b"b"]
    assert strict.split_inline(b"a\x00b c") == [b"a\x00b", b"c"]
