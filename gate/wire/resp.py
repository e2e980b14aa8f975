r"""The command reader of the RESP port: `hiredis` for the common case, the exact parser for everything else.

Apart from the decision, reading commands is most of the cost of a check, so a well-formed chunk of whole commands is read
in C: 0.14 µs for a command of three arguments in a batch of 64, and 0.12 µs for the guards
(`loadtests/micro/resp_parse.py`). `hiredis.Reader` is made for replies, though, and laxer than a server may be. So a
chunk goes to it only between commands, and its result counts only if it is provably what `StrictReader` would have
said:

- A count of five digits or more, which makes it allocate that much at once (`*3000000000`), never reaches it.
- Types whose values look like a bulk string or an array (`+ = ( ~ > | %`) are noticed by their type byte anywhere in
  the chunk, since nothing marks where a line begins; then the commands are encoded again and compared with the chunk.
- Joining all arguments fails on anything that is not bytes (integers, nulls, nested arrays, a top level that is no
  list).
- An empty array sent after the chunk comes back alone only if the chunk ended exactly between two commands.

Whatever fails a guard is read again by the exact parser. Hence the law, tested for arbitrary bytes in arbitrary
chunks: this reader and `StrictReader` return the same commands and the same error. hiredis keeps nothing between two
calls, so its readers are lent from a small pool, and an idle connection costs one Python object of 96 bytes.

Called by `gate.wire.connection`, one CommandReader a connection.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Final

import hiredis

from gate.wire.strict import (
    MAX_ARGS,
    MAX_BULK_BYTES,
    MAX_COMMAND_BYTES,
    MAX_LINE_BYTES,
    Command,
    StrictReader,
)

__all__ = [
    "BULK_HEADERS",
    "LONE_BYTES",
    "MAX_ARGS",
    "MAX_BULK_BYTES",
    "MAX_COMMAND_BYTES",
    "MAX_LINE_BYTES",
    "Command",
    "CommandReader",
    "StrictReader",
    "whole_batch",
    "whole_command",
]

# Up to here a chunk is most likely one command, and splitting it takes half the time of hiredis with its guards.
_SHORT_BYTES: Final = 128
LONE_BYTES: Final = _SHORT_BYTES
# hiredis moves the rest of its buffer after each KiB read: 57 KB at once cost a quarter more a command than 17 KB.
_PIECE_BYTES: Final = 16 * 1024
# What the exact parser gets at a time: 512 inline commands at the most, half a millisecond.
_SLOW_PIECE_BYTES: Final = 1024
# Blank lines and empty arrays, which are skipped: 16 KiB of them in C take 0.1 ms, line by line 16 ms.
_NOTHING: Final = re.compile(rb"(?:[ \t\v\f\r]*+\n|\*(?:0|-[1-9][0-9]{0,17}+)\r\n)++")

# What nearly every chunk begins with: a look-up takes a tenth of the time of an expression that does not match.
_BEGIN_SOMETHING: Final = frozenset(b"*%d" % digit for digit in range(1, 10))

# What hiredis returns for "no more": a list, for it compares fastest with lists; equal to none that can be sent.
_END: Final[list[object]] = [object()]
_PROBE: Final = b"*0\r\n"
_LONG_COUNT: Final = re.compile(rb"\*[0-9]{5}")
_LONG_LOOKALIKE_COUNT: Final = re.compile(rb"[~>|][0-9]{5}")
_ARRAY_HEADERS: Final = [b"*%d" % count for count in range(_SHORT_BYTES)]
BULK_HEADERS: Final = [b"$%d" % length for length in range(_SHORT_BYTES)]
_header_of_length = BULK_HEADERS.__getitem__

idle_readers: list[hiredis.Reader] = []


class CommandReader(StrictReader):
    """`StrictReader`, faster: same attributes, same commands, same errors."""

    __slots__ = ()

    def feed(self, chunk: bytes) -> list[Command]:
        """The commands completed by `chunk`, in order; never raises on what the bytes are."""
        commands, rest = self.take(chunk)
        while rest:
            more, rest = self.take(rest)
            commands += more
        return commands

    def take(self, chunk: bytes) -> tuple[list[Command], bytes]:
        """The commands of the beginning of `chunk`, and the bytes to take next; of 16 KiB it takes less than 1 ms.

        What C reads it takes at once; of anything else, which costs ten times as much a byte, one small piece.
        """
        commands: list[Command] = []
        if self.pending or self.error is not None:
            if self._args_left:
                return commands, self._resume(chunk, commands, one_only=True)
            stop = chunk.find(b"\n", 0, _SLOW_PIECE_BYTES) + 1 or _SLOW_PIECE_BYTES  # what the cut line is short of
            return self._taken_slowly(chunk, stop, commands)
        size = len(chunk)
        if chunk[:2] in _BEGIN_SOMETHING:
            pass
        # Bounded by a line's longest, so that no line in it can be too long.
        elif (nothing := _NOTHING.match(chunk, 0, MAX_LINE_BYTES)) is not None:
            return commands, chunk[nothing.end() :]
        if size <= _SHORT_BYTES and (command := whole_command(chunk)) is not None:
            return [command], b""
        if size <= _PIECE_BYTES and chunk[-2:] == b"\r\n" and (batch := whole_batch(chunk)) is not None:
            return batch, b""
        # Without a last command that is cut off. A guess: an argument may hold what looks like a start.
        cut = chunk.rfind(b"\r\n*", 0, _PIECE_BYTES) + 2
        if cut > 2 and (batch := whole_batch(chunk[:cut])) is not None:
            return batch, chunk[cut:]
        return self._taken_slowly(chunk, _SLOW_PIECE_BYTES, commands)

    def _taken_slowly(self, chunk: bytes, stop: int, commands: list[Command]) -> tuple[list[Command], bytes]:
        self._resume(chunk[:stop], commands)
        return commands, b"" if self.error is not None else chunk[stop:]


def whole_command(chunk: bytes) -> Command | None:
    """The command that `chunk` consists of, if it is exactly one: its lines must be what its arguments encode to."""
    lines = chunk.split(b"\r\n")
    args = lines[2::2]
    if not args or lines[0] != _ARRAY_HEADERS[len(args)]:
        return None
    return args if lines[1::2] == [*map(_header_of_length, map(len, args)), b""] else None


def whole_batch(piece: bytes) -> list[Command] | None:
    """All commands of `piece` if it holds nothing but whole, well-formed commands; else None, and nothing is lost."""
    if piece[:1] != b"*" or len(piece) > MAX_BULK_BYTES or _LONG_COUNT.search(piece) is not None:
        return None
    # Seven scans for one byte each (+ = ( ~ > | %) run at memory speed; a regular expression for all takes 2 ns a byte.
    doubtful = 43 in piece or 61 in piece or 40 in piece or 126 in piece or 62 in piece or 124 in piece or 37 in piece
    if doubtful and _LONG_LOOKALIKE_COUNT.search(piece) is not None:
        return None
    # pop and append are atomic, so that two threads never share a reader; one that met trouble is not put back.
    reader = idle_readers.pop() if idle_readers else hiredis.Reader(notEnoughData=_END)
    try:
        reader.feed(piece)
        batch: list[Command] = [*iter(reader.gets, _END)]
        reader.feed(_PROBE)
        if reader.gets() != [] or not all(batch):
            return None
        b"".join(chain.from_iterable(batch))
    except (hiredis.ProtocolError, TypeError):
        return None
    if doubtful and _encoded(batch) != piece:
        return None
    idle_readers.append(reader)
    return batch


def _encoded(batch: list[Command]) -> bytes:
    # Its stub says a tuple of one; it takes any.
    return b"".join([hiredis.pack_command(tuple(command)) for command in batch])  # type: ignore[arg-type]
