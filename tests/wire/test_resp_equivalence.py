"""The law of the command reader: for every byte string, cut anywhere, the fast and the exact reader say the same.

`StrictReader` fed the whole string at once is the reference; both readers, fed any chunks, must agree with it. The
reference itself is held to real servers by `test_resp_as_redis.py`, and to what was encoded by the round trip here.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gate.wire.hot import lone_command
from gate.wire.resp import LONE_BYTES, Command, CommandReader, StrictReader
from harness.seeds import examples, seed
from tests.wire.malformed import ODD_BUT_GOOD, REDIS_ONLY_GOOD, REDIS_ONLY_REFUSED, REFUSED, STRICTER, echo

SEED = seed(20_240)

Outcome = tuple[list[Command], str | None, int]

PING = b"*1\r\n$4\r\nPING\r\n"
ROWS = [row[0] for row in ODD_BUT_GOOD + REDIS_ONLY_GOOD + REFUSED + REDIS_ONLY_REFUSED] + [row[1] for row in STRICTER]
SHORT_ROWS = [row for row in ROWS if len(row) < 1_000]
# Long runs of good commands get a string past the path for single commands, and into the batches.
TOKENS = [
    *(PING, PING * 12, echo(b"a+b=") * 3, b"*1\r\n", b"*2\r\n", b"*3\r\n", b"*0\r\n", b"*-1\r\n", b"*", b"*99999\r\n"),
    *(b"$1\r\na\r\n", b"$0\r\n\r\n", b"$3\r\nfooXX", b"$3\r\n\r\n*\r\n", b"$1\r\n", b"$-1\r\n", b"$", b"$70000\r\n"),
    *(
        b"a\r\n",
        b"1",
        b"+OK\r\n",
        b":1\r\n",
        b":0\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",1.5\r\n",
        b"=6\r\ntxt:OK\r\n",
        b"(12\r\n",
    ),
    *(
        b"~1\r\n",
        b"~0\r\n",
        b">0\r\n",
        b">1\r\n",
        b"%1\r\n",
        b"%0\r\n",
        b"|1\r\n",
        b"|0\r\n",
        b"-ERR\r\n",
        b"~99999\r\n",
    ),
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"PING\r\n",
        b'"a b"',
        b"'",
        b'"',
        b" ",
        b"\\",
        b"\\x41",
        b"\x00",
        b"\xff",
        b"?",
        b"!1\r\na\r\n",
    ),
]


def outcome(reader: StrictReader, chunks: Iterable[bytes]) -> Outcome:
    commands = [args for chunk in chunks for args in reader.feed(chunk)]
    assert all(args and all(type(arg) is bytes for arg in args) for args in commands)
    return commands, reader.error, reader.pending


def reference(sent: bytes) -> Outcome:
    return outcome(StrictReader(), [sent])


def cut(sent: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    return [sent[start:stop] for start, stop in pairwise(edges)]


def assert_law(sent: bytes, places: Sequence[int]) -> None:
    wanted = reference(sent)
    assert outcome(CommandReader(), [sent]) == wanted
    assert outcome(CommandReader(), cut(sent, places)) == wanted
    assert outcome(StrictReader(), cut(sent, places)) == wanted


def test_every_row_at_every_split_point() -> None:
    for row in SHORT_ROWS:
        sent = PING + row + PING
        for place in range(len(sent) + 1):
            assert_law(sent, [place])


def test_every_row_byte_by_byte_and_within_a_batch() -> None:
    for row in ROWS:
        assert_law(PING + row, range(len(PING + row)) if row in SHORT_ROWS else [])
        assert_law(PING * 20 + row + PING * 20, [len(PING) * 20 + 1])


def test_every_pair_of_rows() -> None:
    for first in SHORT_ROWS:
        for second in SHORT_ROWS:
            sent = first + second
            assert outcome(CommandReader(), [sent]) == reference(sent)


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=20).map(b"".join), st.lists(st.integers(0, 4_000), max_size=5))
@example(b"*1\r\n+OK\r\n" * 4 + b"*1\r\n=6\r\ntxt:OK\r\n" * 3, [])
@example(PING * 10 + b"|1\r\n" + PING * 2 + b"*0\r\n", [])
@example(PING * 10 + b"*2\r\n" + PING, [])
def test_token_soup(sent: bytes, places: list[int]) -> None:
    assert_law(sent, places)


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=5))
def test_any_bytes(sent: bytes, places: list[int]) -> None:
    assert_law(sent, places)
    assert_law(PING * 10 + sent, places)


ARGUMENT = st.binary(max_size=40) | st.sampled_from([b"\r\n*1\r\n$1\r\n", b"\r\n", b"*3\r\n", b"+1", b"$5", b"~99999"])


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.lists(ARGUMENT, min_size=1, max_size=6), max_size=30), st.lists(st.integers(0, 9_000), max_size=5))
def test_what_is_encoded_is_read_back(commands: list[Command], places: list[int]) -> None:
    sent = b"".join(
        b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in args) for args in commands
    )
    assert_law(sent, places)
    assert reference(sent) == (commands, None, 0)


def test_long_pipelines_with_a_mutated_byte() -> None:
    pick = random.Random(SEED)
    pipeline = b"".join(echo(b"payload %d" % number) for number in range(1_200))
    for _ in range(examples(150)):
        sent = bytearray(pipeline)
        for _ in range(pick.randrange(1, 4)):
            sent[pick.randrange(len(sent))] = pick.choice(b"*$+-:~>|%=(_#,\r\n019a\x00")
        assert_law(bytes(sent), [pick.randrange(len(sent)) for _ in range(3)])


_ARGS = st.one_of(
    st.binary(min_size=0, max_size=24),
    st.sampled_from([b"GATE.CHECK", b"a\r\nb", b"\r\n", b"$1\r\nx", b"*3\r\n$1", b"", b"\r", b"\n"]),
)


@given(
    args=st.lists(_ARGS, min_size=1, max_size=6),
    cut=st.integers(0, 8),
    tail=st.sampled_from([b"", b"\r\n", b"*", PING]),
)
def test_a_lone_command_is_what_the_exact_reader_says(args: list[bytes], cut: int, tail: bytes) -> None:
    whole = echo_of(args)
    chunk = whole[: len(whole) - cut] + tail
    lone = lone_command(chunk) if len(chunk) <= LONE_BYTES else None
    if lone is not None:
        reader = StrictReader()
        assert reader.feed(chunk) == [list(lone)]
        assert reader.error is None
        assert reader.pending == 0
    elif len(args) in (3, 5) and cut == 0 and not tail and len(whole) <= LONE_BYTES:
        assert any(b"\r\n" in arg for arg in args)  # the only good ones that it leaves to the general way


@given(chunk=st.lists(st.sampled_from(TOKENS), max_size=8).map(b"".join))
def test_a_lone_command_is_never_made_of_anything_else(chunk: bytes) -> None:
    lone = lone_command(chunk) if len(chunk) <= LONE_BYTES else None
    assert lone is None or StrictReader().feed(chunk) == [list(lone)]


def echo_of(args: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)
