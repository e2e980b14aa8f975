"""The times of `gate.Replica` over a large file, in a program of its own, as one JSON object; `scale.__main__` starts it.

open_ms       to open the Replica and get a first answer
hot_ns        `may_send` of a thousand pairs, over and over
new_ns        of 400,000 pairs over all Users, most of which this process was not asked about before
seen_ns       of these again, with a cache that holds all of their Users
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from gate import Replica
from loadtests.bench.pairs import Pair, make_pairs

HOT_PAIRS, HOT_ROUNDS = 1_000, 100
PAIRS = 400_000


def main() -> None:
    """Measure and print."""
    data, users = Path(sys.argv[1]), int(sys.argv[2])
    app = json.loads((data / "credentials.json").read_text())["app_key"]
    pairs, others = (make_pairs("uniform", users, PAIRS, number) for number in (1, 2))
    began = time.perf_counter_ns()
    with Replica.open(data, app=app) as replica:
        replica.may_send(*pairs[0])
        open_ms = (time.perf_counter_ns() - began) / 1e6
        _ns_a_check(replica, pairs[: PAIRS // 8])
        new = _ns_a_check(replica, others)
        hot = min(_ns_a_check(replica, pairs[:HOT_PAIRS]) for _ in range(HOT_ROUNDS))
    with Replica.open(data, app=app, cached_users=4 * PAIRS) as replica:
        for _ in range(3):  # the cache empties itself while it grows
            seen = _ns_a_check(replica, pairs)
    print(json.dumps({"open_ms": round(open_ms, 2), "hot_ns": hot, "new_ns": new, "seen_ns": seen}))


def _ns_a_check(replica: Replica, pairs: list[Pair]) -> int:
    may_send = replica.may_send
    began = time.thread_time_ns()
    for sender, recipient in pairs:
        may_send(sender, recipient)
    return round((time.thread_time_ns() - began) / len(pairs))


if __name__ == "__main__":
    main()
