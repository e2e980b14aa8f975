r"""The exact RESP command parser: bytes in any chunking in, whole commands or one protocol error out.

It is the definition of what the RESP port accepts. `gate.wire.resp` puts a faster path in front of it, which must
agree with it on every byte string; this one takes whatever that path declines: commands that straddle two chunks,
inline commands, very large commands, and everything malformed.

Accepted, as Redis does: arrays of bulk strings (`*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n`) and inline commands (`PING\r\n`).
Empty and null arrays and blank lines are skipped without an answer. The two bytes after a bulk string are not looked
at.

Invariants: what it returns depends on the bytes only, never on where the chunks were cut; a command is a non-empty
list of `bytes`; each byte is looked at a bounded number of times however the peer slices; what one peer can make it
hold is bounded by `MAX_COMMAND_BYTES`. No I/O, clock or log.

Called by `gate.wire.resp.CommandReader`.
"""

from __future__ import annotations

import re
from typing import Final

from gate.errors import ProtocolError

Command = list[bytes]

# Arguments of one command: a GATE.MCHECK of 10,000 recipients, and room.
MAX_ARGS: Final = 16_384
# One argument. Ids end at 64 bytes; an AUTH secret or an ECHO never needs more than this.
MAX_BULK_BYTES: Final = 64 * 1024
# An inline command or a header without its newline, as in Redis.
MAX_LINE_BYTES: Final = 64 * 1024
# An inline command with quotes, which is cut word by word: 1 ms of a worker's time. Only people type those.
MAX_QUOTED_LINE_BYTES: Final = 4 * 1024
# One whole command on the wire: MAX_ARGS ids of 64 bytes with their headers come to 1.2 MB. Bounds a peer's memory.
MAX_COMMAND_BYTES: Final = 2 * 1024 * 1024

# In place of the number of bytes awaited: a newline is awaited.
_ANY_LINE: Final = -1
# What nearly every argument begins with: a look-up takes a fifth of the time that reading the number takes.
_SHORT_BULK_HEADERS: Final = {b"$%d\r\n" % length: length for length in range(1000)}
_SHORT_HEADER_BYTES: Final = 6
_NO_NEWLINES: Final = bytes.maketrans(b"\r\n", b"  ")
# Stands in between commands, never filled: an idle reader then owns no list.
_NO_ARGS: Final[Command] = []
_LEAST_COUNT: Final = -(2**63)
_MOST_COUNT: Final = 2**63 - 1
# Digits of the largest 64-bit count: longer ones are refused unread, since int() takes quadratic time.
_LONGEST_COUNT: Final = 19
_LONG_INLINE: Final = "ERR Protocol error: too big inline request"
# How every TLS and SSL 3 client begins.
_TLS_HELLO: Final = b"\x16\x03"
_TLS_REFUSED: Final = (
    "ERR Protocol error: these bytes are TLS, and this port speaks plain RESP: "
    "turn TLS off in the client, or put a proxy in front that ends TLS"
)
_CUT_WITH_CARE: Final = re.compile(rb"""["'\v\f]""")
_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
# Possessive loops: a quoted part must not be re-read another way when its closing quote is missing.
_INLINE_ARGUMENT: Final = re.compile(
    rb"""([^ \n\r\t"']*+)"""
    rb"""(?:"((?:\\.|[^"\\])*+)"(?![^ \t\n\v\f\r])|'((?:\\'|[^'])*+)'(?![^ \t\n\v\f\r]))?""",
    re.DOTALL,
)
_INLINE_BLANKS: Final = re.compile(rb"[ \t\n\v\f\r]*+")
_ESCAPED: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)


class StrictReader:
    """Feed it what the socket gave; it returns the commands that are whole by then.

    `error` is None until the peer breaks the protocol, and from then on the error text (without the `-`): the commands
    returned before it are good, nothing after it is read, and the connection is to be closed once the text is sent.
    `pending` counts the bytes of the unfinished command: 0 between commands.
    """

    __slots__ = ("_args", "_args_left", "_awaited", "_held", "_spent", "error", "pending")

    def __init__(self) -> None:
        self.error: str | None = None
        self.pending = 0
        self._held: bytearray | None = None  # the part of the unfinished command not yet cut into arguments
        self._awaited = _ANY_LINE
        self._args: Command = _NO_ARGS
        self._args_left = 0
        self._spent = 0  # bytes of the unfinished command that are already in _args

    def feed(self, chunk: bytes) -> list[Command]:
        """The commands completed by `chunk`, in order; never raises on what the bytes are."""
        commands: list[Command] = []
        self._resume(chunk, commands)
        return commands

    def refuse(self, problem: str) -> None:
        """Read no more, as after a breach of the protocol; what is held is let go."""
        self.error = problem
        self.pending = 0
        self._held, self._args = None, _NO_ARGS

    def _resume(self, chunk: bytes, commands: list[Command], *, one_only: bool = False) -> bytes:
        """Append to `commands`; with `one_only`, stop after the command under way and return the bytes behind it."""
        if self.error is not None:
            return b""
        buffer = self._joined(chunk)
        if buffer is None:
            return b""
        try:
            start = self._cut(buffer, commands, one_only)
        except ProtocolError as fault:
            self.refuse(str(fault))
            return b""
        if one_only and not self._args_left:
            self.pending = 0
            return buffer[start:]
        self._keep(buffer, start)
        return b""

    def _joined(self, chunk: bytes) -> bytes | None:
        """What is held plus `chunk`, or None if that completes nothing: so no byte is scanned again and again."""
        held = self._held
        if held is None:
            return chunk
        held += chunk
        self.pending += len(chunk)
        if self._awaited == _ANY_LINE:
            # A newline is looked for in the new bytes only, or a slow sender costs the square of a line.
            if b"\n" not in chunk and len(held) <= MAX_LINE_BYTES and held[:2] != _TLS_HELLO:
                return None
        elif len(held) < self._awaited:
            return None
        self._held = None
        return bytes(held)

    def _keep(self, buffer: bytes, start: int) -> None:
        rest = len(buffer) - start
        self.pending = self._spent + rest
        self._held = bytearray(memoryview(buffer)[start:]) if self.pending else None

    def _cut(self, buffer: bytes, commands: list[Command], one_only: bool) -> int:
        """Cut whole commands off the front of `buffer`; returns where the unfinished one's uncut part begins."""
        start = 0
        while True:
            if not self._args_left:
                start = self._open(buffer, start, commands)
                if not self._args_left:
                    return start
            start = self._fill(buffer, start)
            if self._args_left:
                return start
            commands.append(self._args)
            self._args = _NO_ARGS
            self._spent = 0
            if one_only:
                return start

    def _open(self, buffer: bytes, start: int, commands: list[Command]) -> int:
        """Read up to and including the next array header; inline commands on the way are appended."""
        size = len(buffer)
        while start < size:
            is_array = buffer[start] == 42
            if buffer[start] == 22 and buffer.startswith(_TLS_HELLO, start):
                raise ProtocolError(_TLS_REFUSED)
            end = _line_end(buffer, start, "too big mbulk count string" if is_array else "too big inline request")
            if end < 0:
                break
            if is_array:
                args = _array_length(buffer[start + 1 : end])
                if args > 0:
                    self._args, self._args_left, self._spent = [], args, end + 1 - start
                    return end + 1
            elif argument_list := split_inline(buffer[start:end]):
                commands.append(argument_list)
            start = end + 1
        self._awaited = _ANY_LINE
        return start

    def _fill(self, buffer: bytes, start: int) -> int:
        """Read arguments of the command under way until it is whole or the buffer ends."""
        args, left, awaited = self._args, self._args_left, self._awaited
        size, origin = len(buffer), start
        # What earlier chunks brought of this command counts too.
        ceiling = start + MAX_COMMAND_BYTES - self._spent
        while left:
            if awaited == _ANY_LINE:
                end = buffer.find(b"\n", start, start + _SHORT_HEADER_BYTES)
                length = _SHORT_BULK_HEADERS.get(buffer[start : end + 1])
                if length is None:
                    end = _bulk_header_end(buffer, start)
                    if end < 0:
                        break
                    length = _bulk_length(buffer[start + 1 : end])
                start, awaited = end + 1, length + 2
                if start + awaited > ceiling:
                    raise ProtocolError("ERR Protocol error: too big request")
            stop = start + awaited
            if stop > size:
                break
            # As Redis does, without a look at the two bytes behind it.
            args.append(buffer[start : stop - 2])
            start, awaited = stop, _ANY_LINE
            left -= 1
        self._args_left, self._awaited = left, awaited
        self._spent += start - origin
        return start


def split_inline(line: bytes) -> Command:
    """The arguments of an inline command, quoted as redis-cli quotes; none for a blank line."""
    if _CUT_WITH_CARE.search(line) is None:
        args = line.split()
        if len(args) > MAX_ARGS:
            raise ProtocolError(_LONG_INLINE)
        return args
    if len(line) > MAX_QUOTED_LINE_BYTES:
        raise ProtocolError(_LONG_INLINE)
    args = []
    start = _blanks_end(line, 0)
    while start < len(line):
        match = _INLINE_ARGUMENT.match(line, start)
        assert match is not None  # every part of the pattern is optional
        end = match.end()
        if line[end : end + 1] in (b'"', b"'"):
            raise ProtocolError("ERR Protocol error: unbalanced quotes in request")
        plain, double, single = match.groups()
        args.append(plain + _unescaped(double or b"") + (single or b"").replace(b"\\'", b"'"))
        start = _blanks_end(line, end)
    return args


def _blanks_end(line: bytes, start: int) -> int:
    match = _INLINE_BLANKS.match(line, start)
    return match.end() if match is not None else start


def _unescaped(text: bytes) -> bytes:
    return _ESCAPED.sub(_escaped_byte, text) if b"\\" in text else text


def _escaped_byte(match: re.Match[bytes]) -> bytes:
    code, letter = match.groups()
    return bytes.fromhex(code.decode()) if code else _ESCAPES.get(letter, letter)


def _line_end(buffer: bytes, start: int, fault: str) -> int:
    """Where the newline is, or -1 if it has not come yet."""
    end = buffer.find(b"\n", start, start + MAX_LINE_BYTES + 1)
    if end < 0 and len(buffer) - start > MAX_LINE_BYTES:
        raise ProtocolError(f"ERR Protocol error: {fault}")
    return end


def _bulk_header_end(buffer: bytes, start: int) -> int:
    """Where the header's newline is, or -1. A wrong type byte is refused only then: lines are read when whole."""
    end = _line_end(buffer, start, "too big bulk count string")
    if end >= 0 and buffer[start] != 36:
        # Redis echoes the raw byte; surrogateescape lets `replies.error` send the very same one.
        found = buffer[start : start + 1].translate(_NO_NEWLINES).decode("utf-8", "surrogateescape")
        raise ProtocolError(f"ERR Protocol error: expected '$', got '{found}'")
    return end


def _array_length(text: bytes) -> int:
    """The count of an array header, `text` being what follows the `*`; zero or less means no command."""
    number = _count(text)
    if number is None or number > MAX_ARGS:
        raise ProtocolError("ERR Protocol error: invalid multibulk length")
    return number


def _bulk_length(text: bytes) -> int:
    number = _count(text)
    if number is None or not 0 <= number <= MAX_BULK_BYTES:
        raise ProtocolError("ERR Protocol error: invalid bulk length")
    return number


def _count(text: bytes) -> int | None:
    """A canonical decimal before its CR: no plus sign, no leading zero, no space. Redis takes nothing else either."""
    digits = text[:-1].removeprefix(b"-")
    if text[-1:] != b"\r" or not digits.isdigit() or len(digits) > _LONGEST_COUNT:
        return None
    if digits[0] == 48 and len(text) > 2:
        return None
    number = int(text)
    return number if _LEAST_COUNT <= number <= _MOST_COUNT else None
