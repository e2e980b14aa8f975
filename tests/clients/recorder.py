"""A cable to the RESP port that writes down each command with its reply, connection by connection.

It shows what a client sends of its own accord, which its users don't see and its documents seldom say.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import hiredis

from harness.ports import LOOPBACK

CHUNK_BYTES = 65_536
JOIN_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Conversation:
    """One connection: its commands in order, and the replies that came so far."""

    commands: list[list[bytes]] = field(default_factory=list)
    replies: list[Any] = field(default_factory=list)

    def errors(self) -> list[tuple[list[bytes], str]]:
        """Each command that was refused, with the error."""
        return [
            (command, str(reply))
            for command, reply in zip(self.commands, self.replies, strict=False)
            if isinstance(reply, hiredis.ReplyError)
        ]


class Recorder:
    """One listening port in front of `upstream_port`. `conversations` grows as clients connect."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self.conversations: list[Conversation] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Ends the listener, and waits until each conversation has ended with its client's."""
        # `shutdown` wakes the thread that waits in `accept`; `close` alone does not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT_S)
            assert not thread.is_alive(), "a conversation goes on though its client has ended"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection((LOOPBACK, self._upstream_port))
            conversation = Conversation()
            self.conversations.append(conversation)
            self._start(_carry, client, server, conversation.commands)
            self._start(_carry, server, client, conversation.replies)

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


@contextmanager
def recording(upstream_port: int) -> Iterator[Recorder]:
    recorder = Recorder(upstream_port)
    try:
        yield recorder
    finally:
        recorder.close()


def _carry(source: socket.socket, target: socket.socket, messages: list[Any]) -> None:
    """Carries bytes until `source` ends, and notes the messages among them before they arrive."""
    reader = hiredis.Reader()
    # A client may reset its connection.
    with suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            reader.feed(chunk)
            while (message := reader.gets()) is not False:
                messages.append(message)
            target.sendall(chunk)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
