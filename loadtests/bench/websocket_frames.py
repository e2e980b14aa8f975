"""As little of a WebSocket client as can be: a handshake and frames by hand, for thousands of them in one process.

What is sent is masked with zeros, which RFC 6455 allows of a client that needs no protection from its own words.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
_FINAL, _MASKED = 0x80, 0x80
_NO_MASK = b"\0\0\0\0"
_SHORT, _16_BITS, _64_BITS = 125, 126, 127


class Frame(NamedTuple):
    """One whole frame."""

    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int:
        """Of a close frame; 1005 where it says none."""
        return int(struct.unpack_from("!H", self.payload)[0]) if len(self.payload) >= 2 else 1005


def handshake(host: str, path: str, token: str) -> bytes:
    """The request that asks for a WebSocket."""
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: bG9hZCBvZiB0aGUgYmVuYw==",
        f"Authorization: Bearer {token}",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


def sent(opcode: int, payload: bytes = b"") -> bytes:
    """A client's frame."""
    size = len(payload)
    if size <= _SHORT:
        head = struct.pack("!BB", _FINAL | opcode, _MASKED | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FINAL | opcode, _MASKED | _16_BITS, size)
    else:
        head = struct.pack("!BBQ", _FINAL | opcode, _MASKED | _64_BITS, size)
    return head + _NO_MASK + payload


def taken(buffer: bytearray) -> list[Frame]:
    """The whole frames at the beginning of what a server sent, which are removed from it."""
    frames: list[Frame] = []
    at = 0
    while len(buffer) - at >= 2:
        first, size = buffer[at], buffer[at + 1] & 0x7F
        begin = at + 2
        if size >= _16_BITS:
            wide = 2 if size == _16_BITS else 8
            if len(buffer) < begin + wide:
                break
            size = int.from_bytes(buffer[begin : begin + wide], "big")
            begin += wide
        if len(buffer) < begin + size:
            break
        frames.append(Frame(first & 0x0F, bytes(buffer[begin : begin + size])))
        at = begin + size
    del buffer[:at]
    return frames
