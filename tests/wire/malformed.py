"""What peers send that is not quite RESP, and what Redis says to it: one row a case, for the readers and real servers.

`ODD_BUT_GOOD` rows are read as commands (each an ECHO, so that a real server shows how it read them); `REFUSED` rows
end in an error with Redis's own wording; `REDIS_ONLY_*` rows are the same for Redis, but not for Valkey 9; `STRICTER` rows
are refused here where Redis would go on or wait, each with the reason.

Used by `tests/wire/test_resp.py`, `test_resp_equivalence.py` and `test_resp_as_redis.py`.
"""

from __future__ import annotations

from typing import Final

PROTOCOL: Final = "ERR Protocol error: "
BAD_COUNT: Final = PROTOCOL + "invalid multibulk length"
BAD_LENGTH: Final = PROTOCOL + "invalid bulk length"
UNBALANCED: Final = PROTOCOL + "unbalanced quotes in request"
LONG_INLINE: Final = PROTOCOL + "too big inline request"
LONG_COUNT: Final = PROTOCOL + "too big mbulk count string"
LONG_LENGTH: Final = PROTOCOL + "too big bulk count string"


def expected_dollar(got: str) -> str:
    return f"{PROTOCOL}expected '$', got '{got}'"


def echo(payload: bytes) -> bytes:
    return b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (len(payload), payload)


ODD_BUT_GOOD: Final[list[tuple[bytes, list[bytes]]]] = [
    (b"*0\r\n" + echo(b"a"), [b"a"]),
    (b"*-1\r\n" + echo(b"a"), [b"a"]),
    (b"*-5\r\n" + echo(b"a"), [b"a"]),
    (b"*-9223372036854775808\r\n" + echo(b"a"), [b"a"]),
    (echo(b"a") + b"*0\r\n*-1\r\n" + echo(b"b"), [b"a", b"b"]),
    (b"\r\n\n \t\r\n\v\n" + echo(b"a") + b"\r\n", [b"a"]),
    (echo(b""), [b""]),
    (echo(b"\r\n*1\r\n$4\r\nPING\r\n") + echo(b"b"), [b"\r\n*1\r\n$4\r\nPING\r\n", b"b"]),
    (echo(b"\x00\xff\r\n\r\n\x00"), [b"\x00\xff\r\n\r\n\x00"]),
    (echo(b"+49 30") + echo(b"=") + echo(b"~99999") + echo(b"*99999"), [b"+49 30", b"=", b"~99999", b"*99999"]),
    (b"ECHO a\r\n", [b"a"]),
    (b"ECHO a\n", [b"a"]),
    (b"  ECHO\t a \r\n" + echo(b"b") + b"ECHO c\n", [b"a", b"b", b"c"]),
    (b'ECHO ""\r\n', [b""]),
    (b"ECHO ''\r\n", [b""]),
    (b'ECHO "a b"\r\n', [b"a b"]),
    (b'ECHO a"b c"\r\n', [b"ab c"]),
    (b"ECHO a'b c'\r\n", [b"ab c"]),
    (b"ECHO 'a\\'b'\r\n", [b"a'b"]),
    (b"ECHO 'a\\nb'\r\n", [b"a\\nb"]),
    (b'ECHO "\\x41\\xfF\\n\\r\\t\\a\\b\\q\\\\\\""\r\n', [b'A\xff\n\r\t\a\bq\\"']),
    (b'ECHO "\\x4"\r\n', [b"x4"]),
    (b"ECHO a\\x41\r\n", [b"a\\x41"]),
    (b"ECHO a\vb\f\r\n", [b"a\vb\f"]),
    (b"\v\fECHO\r\ta\r\r\n", [b"a"]),
]

REFUSED: Final[list[tuple[bytes, str]]] = [
    (b"*abc\r\n", BAD_COUNT),
    (b"*01\r\n", BAD_COUNT),
    (b"*+1\r\n", BAD_COUNT),
    (b"* 1\r\n", BAD_COUNT),
    (b"*1 \r\n", BAD_COUNT),
    (b"*\r\n", BAD_COUNT),
    (b"*-\r\n", BAD_COUNT),
    (b"*-0\r\n", BAD_COUNT),
    (b"*1.5\r\n", BAD_COUNT),
    (b"*?\r\n", BAD_COUNT),
    (b"*3000000000\r\n", BAD_COUNT),
    (b"*9223372036854775808\r\n", BAD_COUNT),
    (b"*-9223372036854775809\r\n", BAD_COUNT),
    (b"*99999999999999999999\r\n", BAD_COUNT),
    (b"*" + b"1" * 5_000 + b"\r\n", BAD_COUNT),
    (b"*1\r\n*1\r\n$4\r\nPING\r\n", expected_dollar("*")),
    (b"*1\r\n*0\r\n", expected_dollar("*")),
    (b"*1\r\n*3000000000\r\n", expected_dollar("*")),
    (b"*1\r\n~3000000000\r\n", expected_dollar("~")),
    (b"*1\r\n:1\r\n", expected_dollar(":")),
    (b"*1\r\n:0\r\n", expected_dollar(":")),
    (b"*1\r\n+OK\r\n", expected_dollar("+")),
    (b"*1\r\n-ERR\r\n", expected_dollar("-")),
    (b"*1\r\n_\r\n", expected_dollar("_")),
    (b"*1\r\n#t\r\n", expected_dollar("#")),
    (b"*1\r\n#f\r\n", expected_dollar("#")),
    (b"*1\r\n,1.5\r\n", expected_dollar(",")),
    (b"*1\r\n(123\r\n", expected_dollar("(")),
    (b"*1\r\n!3\r\nabc\r\n", expected_dollar("!")),
    (b"*2\r\n$4\r\nECHO\r\n=6\r\ntxt:OK\r\n", expected_dollar("=")),
    (b"*2\r\n$4\r\nECHO\r\n~0\r\n", expected_dollar("~")),
    (b"*2\r\n$4\r\nECHO\r\n>0\r\n", expected_dollar(">")),
    (b"*2\r\n$4\r\nECHO\r\n%0\r\n", expected_dollar("%")),
    (b"*2\r\n$4\r\nECHO\r\n|0\r\n", expected_dollar("|")),
    (b"*1\r\nPING\r\n", expected_dollar("P")),
    (b"*1\r\n\r\n", expected_dollar(" ")),
    (b"*1\r\n\n\r\n", expected_dollar(" ")),
    (b"*1\r\n\xff\r\n", expected_dollar("\udcff")),
    (b"*1\r\n$-1\r\n", BAD_LENGTH),
    (b"*1\r\n$\r\n", BAD_LENGTH),
    (b"*1\r\n$04\r\nPING\r\n", BAD_LENGTH),
    (b"*1\r\n$+4\r\nPING\r\n", BAD_LENGTH),
    (b"*1\r\n$ 4\r\nPING\r\n", BAD_LENGTH),
    (b"*1\r\n$abc\r\n", BAD_LENGTH),
    (b"*1\r\n$?\r\n", BAD_LENGTH),
    (b"*1\r\n$2000000000\r\n", BAD_LENGTH),
    (b"*1\r\n$99999999999999999999\r\n", BAD_LENGTH),
    (b'ECHO "abc\r\n', UNBALANCED),
    (b"ECHO 'abc\r\n", UNBALANCED),
    (b'ECHO "a\\\r\n', UNBALANCED),
    (b"A" * 70_000, LONG_INLINE),
    (b"*" + b"1" * 70_000, LONG_COUNT),
    (b"*1\r\n$" + b"1" * 70_000, LONG_LENGTH),
    (b"*1\r\n" + b"A" * 70_000, LONG_LENGTH),
]

# Redis of all versions reads these alike, and so do we. Valkey 9 looks at the two bytes after a bulk string ("invalid CRLF
# in request"), and goes on after a closing quote.
REDIS_ONLY_GOOD: Final[list[tuple[bytes, list[bytes]]]] = [
    (echo(b"a")[:-2] + b"XX" + echo(b"b"), [b"a", b"b"]),
    (echo(b"a")[:-2] + b"\n\r" + echo(b"+b"), [b"a", b"+b"]),
]
REDIS_ONLY_REFUSED: Final[list[tuple[bytes, str]]] = [
    (echo(b"a")[:-2] + b"XX*3000000000\r\n", BAD_COUNT),
    (echo(b"a")[:-2] + b"XX*1\r\n+OK\r\n", expected_dollar("+")),
    (b"*2\r\n$4\r\nECHOXX+OK\r\n", expected_dollar("+")),
    (b'ECHO "a"b\r\n', UNBALANCED),
    (b"ECHO 'a'b\r\n", UNBALANCED),
    (b"ECHO 'abc\\'\r\n", UNBALANCED),
    (b'ECHO "a""b"\r\n', UNBALANCED),
]

TLS: Final = (
    PROTOCOL + "these bytes are TLS, and this port speaks plain RESP: "
    "turn TLS off in the client, or put a proxy in front that ends TLS"
)

STRICTER: Final[list[tuple[str, bytes, str]]] = [
    ("Redis reads a line and waits", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", TLS),
    ("or says that the command is unknown", b"\x16\x03\x01\n\x00\r\n", TLS),
    ("MAX_QUOTED_LINE_BYTES", b"ECHO " + b'"a" ' * 1_100 + b"\r\n", LONG_INLINE),
    ("MAX_QUOTED_LINE_BYTES", b"ECHO " + b"a\v " * 1_600 + b"\r\n", LONG_INLINE),
    ("MAX_ARGS", b"ECHO" + b" a" * 16_384 + b"\r\n", LONG_INLINE),
    ("a CR ends a header only with its LF", b"*1\rX\r\n", BAD_COUNT),
    ("an LF alone ends no header: Redis would wait for ever", b"*1\n$4\nPING\n", BAD_COUNT),
    ("Redis waits for ever for a header with a NUL", b"*1\r\n\x00\r\n", expected_dollar("\x00")),
    ("MAX_ARGS", b"*16385\r\n", BAD_COUNT),
    ("MAX_ARGS", b"*100000\r\n", BAD_COUNT),
    ("MAX_BULK_BYTES", b"*1\r\n$65537\r\n", BAD_LENGTH),
    ("a line is too long whether or not its end came in the same chunk", b"A" * 70_000 + b"\r\n", LONG_INLINE),
    ("the same for a count", b"*" + b"1" * 70_000 + b"\r\n", LONG_COUNT),
]
