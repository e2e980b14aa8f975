"""The corpus against the real thing: what it expects is what Redis 6.2, Redis 7 and Valkey 9 answer."""

from __future__ import annotations

import socket

import pytest

from gate.wire import replies
from harness.servers import RedisServer
from tests.wire.malformed import ODD_BUT_GOOD, REDIS_ONLY_GOOD, REDIS_ONLY_REFUSED, REFUSED, echo

DEADLINE_S = 10.0
LAST = b"the last of this row"


@pytest.mark.one_server("it reads the bytes of one server")
def test_what_is_odd_but_good_is_good_for_redis_too(each_redis: RedisServer) -> None:
    for sent, echoed in ODD_BUT_GOOD + (REDIS_ONLY_GOOD if reads_as_redis(each_redis) else []):
        wanted = b"".join(map(replies.bulk, [*echoed, LAST]))
        assert _answer(each_redis, sent + echo(LAST), len(wanted)) == wanted, sent


@pytest.mark.one_server("it reads the bytes of one server")
def test_what_is_refused_is_refused_by_redis_in_the_same_words(each_redis: RedisServer) -> None:
    for sent, error in REFUSED + (REDIS_ONLY_REFUSED if reads_as_redis(each_redis) else []):
        answer = _answer(each_redis, sent, None)
        assert answer.endswith(replies.error(error)), (sent[:80], answer)


def reads_as_redis(server: RedisServer) -> bool:
    return server.flavor != "valkey-9"


def _answer(server: RedisServer, sent: bytes, size: int | None) -> bytes:
    """The first `size` bytes of the answer, or all of it until the server closes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as peer:
        peer.sendall(sent)
        while size is None or len(answer) < size:
            try:
                received = peer.recv(65_536)
            except ConnectionResetError:  # the server closed with bytes of ours unread
                break
            if not received:
                break
            answer += received
    return answer
