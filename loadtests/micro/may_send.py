"""The cost of one `Replica.may_send` in a program of its own, in microseconds: as a message router would call it.

    .venv/bin/python -m loadtests.micro.may_send DATA APP USERS

    hot            a thousand pairs, over and over
    uniform        pairs over all USERS that were never asked before, after each User was seen once
    uniform_first  the same in a process that has seen no User: like the first minute

One JSON object on stdout. `loadtests.bench` starts it on its own service; USERS are the 12-digit ids of its facts.
"""

from __future__ import annotations

import json
import sys
import time

from gate import Replica
from loadtests.bench.facts import user_id
from loadtests.bench.pairs import Pair, make_pairs

HOT_PAIRS = 1_000
HOT_ROUNDS = 300
UNIFORM_PAIRS = 200_000


def main() -> None:
    """Measure and print."""
    data, app, users = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with Replica.open(data, app=app) as replica:
        first = _us_a_check(replica, make_pairs("uniform", users, UNIFORM_PAIRS, 1))
        for number in range(users):
            replica.may_send(b"stranger", user_id(number))
        uniform = _us_a_check(replica, make_pairs("uniform", users, UNIFORM_PAIRS, 2))
        pairs = make_pairs("uniform", users, HOT_PAIRS, 3)
        hot = min(_us_a_check(replica, pairs) for _ in range(HOT_ROUNDS))
    print(json.dumps({"hot": hot, "uniform": uniform, "uniform_first": first}))


def _us_a_check(replica: Replica, pairs: list[Pair]) -> float:
    may_send = replica.may_send
    started = time.perf_counter_ns()
    for sender, recipient in pairs:
        may_send(sender, recipient)
    return (time.perf_counter_ns() - started) / len(pairs) / 1_000


if __name__ == "__main__":
    main()
