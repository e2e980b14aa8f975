"""The cost of verifying one Token, in microseconds: the facts from a Replica's App, the id as long as ids may be.

    .venv/bin/python -m loadtests.micro.token_verify

    mint      a new Token
    verify    with the App's only secret
    rotating  signed by the old one of two secrets: what it costs at most, but for keys kept of dropped secrets

One JSON object on stdout; the least of several rounds, as a busy machine only adds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import msgspec

from gate.core.model import AppFacts, ListKind, UserFacts
from gate.core.token import mint, verify

ROUNDS = 20
CALLS_A_ROUND = 2_000
NOW_MS = 1_700_000_000_000
USER = b"\xff" * 64

_APP = AppFacts(key="k" * 32, secrets=("s" * 32,), token_ttl_s=3_600)
_ROTATING = msgspec.structs.replace(_APP, secrets=("t" * 32, "s" * 32))


class _View:
    """One App's facts."""

    def __init__(self, app: AppFacts) -> None:
        self.app = app

    def user(self, user_id: bytes) -> UserFacts:
        """As a Replica whose User is cached."""
        return UserFacts(registered=True)

    def entry_until_ms(self, kind: ListKind, owner: bytes, member: bytes) -> int:
        """No lists here."""
        return 0


def main() -> None:
    """Measure and print."""
    token = mint(_APP, USER, NOW_MS, bytes(8))
    alone, rotating = _View(_APP), _View(_ROTATING)
    print(
        json.dumps(
            {
                "mint": _us_a_call(lambda: mint(_APP, USER, NOW_MS, bytes(8))),
                "verify": _us_a_call(lambda: verify(token, lambda key: alone, NOW_MS)),
                "rotating": _us_a_call(lambda: verify(token, lambda key: rotating, NOW_MS)),
            }
        )
    )


def _us_a_call(call: Callable[[], object]) -> float:
    best_ns = min(_round_ns(call) for _ in range(ROUNDS))
    return round(best_ns / CALLS_A_ROUND / 1_000, 2)


def _round_ns(call: Callable[[], object]) -> int:
    started_ns = time.perf_counter_ns()
    for _ in range(CALLS_A_ROUND):
        call()
    return time.perf_counter_ns() - started_ns


if __name__ == "__main__":
    main()
