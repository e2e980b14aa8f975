"""The slowest checks at a fixed arrival rate, and the longest pause that a worker makes itself.

Open loop: a check is due whether those before were answered or not, and its latency counts from then. Each situation is
measured at a tenth and at half of the highest rate, for Gate and for Redis' `PING` in turn, with the same going on meanwhile:
where writes, Sessions and the client share two cores with the server, what `PING` waits is what the machine makes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from harness.service import GateService
from loadtests.bench.bed import Bed
from loadtests.bench.client import encode
from loadtests.bench.load import Load, Script, build, run
from loadtests.bench.meanwhile import Meanwhile, presence_changes, without_a_pause, writes
from loadtests.bench.paced import FEW_BELOW_S
from loadtests.bench.pauses import SOURCE, Pause, forget, page_of, read
from loadtests.bench.systems.gate import GateSystem
from loadtests.bench.table import Row

CONNECTIONS = 50
PAIRS = 50_000
SHARES = (0.1, 0.5)
"""Of the highest rate. One is enough for rounds below `FEW_BELOW_S`."""
SECONDS_A_TURN = 3
"""So many times those of a round elsewhere: a p99.99 needs some ten thousand checks."""
MOST_ROUNDS = 3
MOST_P999_MS, MOST_OF_PING = 1.0, 2.0
MOST_PAUSE_MS = 2.0
IDLE, WRITES, PRESENCE, FLOOD = "idle", "1,000 writes/s", "5,000 presence changes/s", "a connection without a pause"
FLOODED = {
    "gate": b"".join(encode("GATE.CHECK", b"a%d" % n, b"b%d" % n) for n in range(500)),
    "ping": encode("PING") * 500,
}

Situation = Callable[[str], AbstractContextManager[Meanwhile | None]]
"""The work that goes on while the system of that name is measured."""


class Turn(NamedTuple):
    """One run of the client, and how many changes a second were made meanwhile."""

    load: Load
    changes_per_s: float


def measure(bed: Bed) -> list[Row]:
    """One row a situation; the bound is for the one with writes."""
    scripts = {system.name: bed.prepared(system, "uniform", PAIRS)[0] for system in (bed.gate, bed.ping)}
    highest = _highest_rate(bed, scripts["gate"])
    bed.say(f"highest rate, pipeline 1, {CONNECTIONS} connections: {highest:,.0f}/s")
    return [
        _situation_row(bed, name, situation, scripts, highest)
        for name, situation in _situations(bed, bed.node, scripts).items()
    ]


def _situations(bed: Bed, node: GateService, scripts: dict[str, Script]) -> dict[str, Situation]:
    def flood(name: str) -> Meanwhile:
        target = scripts[name].target
        return without_a_pause(target.port, target.greeting, FLOODED[name])

    return {
        IDLE: lambda _: nullcontext(None),
        WRITES: lambda _: writes(node, bed.facts.users),
        PRESENCE: lambda _: presence_changes(node),
        FLOOD: flood,
    }


def _highest_rate(bed: Bed, script: Script) -> float:
    rounds = range(bed.options.rounds)
    return median(run(bed.load_client, script, 1, CONNECTIONS, bed.options.seconds).per_s for _ in rounds)


def _turn(bed: Bed, situation: Situation, name: str, script: Script, per_s: float) -> Turn:
    with situation(name) as meanwhile:
        load = run(bed.load_client, script, 1, CONNECTIONS, SECONDS_A_TURN * bed.options.seconds, per_s)
        return Turn(load, meanwhile.done().per_s if meanwhile else 0.0)


def _situation_row(bed: Bed, what: str, situation: Situation, scripts: dict[str, Script], highest: float) -> Row:
    words, detail, met = [], dict[str, Any](), None
    for share in SHARES if bed.options.seconds >= FEW_BELOW_S else SHARES[-1:]:
        turns: dict[str, list[Turn]] = {name: [] for name in scripts}
        for _ in range(min(MOST_ROUNDS, bed.options.rounds)):
            for name, script in scripts.items():
                turns[name].append(_turn(bed, situation, name, script, share * highest))
        figures = {name: _summary(some) for name, some in turns.items()}
        words.append(f"at {share:.0%} of {highest:,.0f}/s {_shown(figures['gate'])} (PING {_shown(figures['ping'])})")
        detail[f"{share:.0%}"] = figures
        bed.say(f"{what}: {words[-1]}; {figures}")
        if what == WRITES and share == SHARES[-1]:
            met = figures["gate"]["p999_ms"] <= max(MOST_P999_MS, MOST_OF_PING * figures["ping"]["p999_ms"])
    target = f"p99.9 at {SHARES[-1]:.0%} <= {MOST_P999_MS:g} ms, or {MOST_OF_PING:g} x that of PING"
    return Row(
        "tail",
        f"a check, open loop, {CONNECTIONS} connections, {what}: p50, p99, p99.9, p99.99 in ms",
        target if met is not None else "",
        "; ".join(words),
        met,
        detail,
    )


def _summary(turns: list[Turn]) -> dict[str, float]:
    loads = [turn.load for turn in turns]
    return {
        "p50_ms": round(median(load.p50_us for load in loads) / 1_000, 3),
        "p99_ms": round(median(load.p99_us for load in loads) / 1_000, 3),
        "p999_ms": round(median(load.p999_us for load in loads) / 1_000, 3),
        "p9999_ms": round(median(load.p9999_us for load in loads) / 1_000, 3),
        "max_ms": round(max(load.max_us for load in loads) / 1_000, 3),
        "client_late_p999_ms": round(median(load.late_p999_us for load in loads) / 1_000, 3),
        "checks": sum(load.commands for load in loads),
        "server_cores": round(median(load.server for load in loads), 3),
        "client_cores": round(median(load.client for load in loads), 3),
        "others_cores": round(median(load.others for load in loads), 3),
        "changes_per_s": round(median(turn.changes_per_s for turn in turns)),
    }


def _shown(figures: dict[str, float]) -> str:
    return " / ".join(f"{figures[name]:.2f}" for name in ("p50_ms", "p99_ms", "p999_ms", "p9999_ms"))


def measure_pauses(bed: Bed) -> list[Row]:
    """One row: the longest pause in any situation. Its node is its own: the measurement takes microseconds a look."""
    folder = bed.folder / "pauses"
    folder.mkdir(exist_ok=True)
    library = build(SOURCE, bed.folder / "pauses.so", "-shared", "-fPIC")
    with bed.second_node({"LD_PRELOAD": str(library), "GATE_BENCH_PAUSES": str(folder)}) as node:
        script, _ = bed.prepared(GateSystem(node, bed.node.credentials), "uniform", PAIRS)
        half = SHARES[-1] * _highest_rate(bed, script)
        longest = {
            name: _longest(bed, page_of(node, folder), name, situation, script, half)
            for name, situation in _situations(bed, node, {"gate": script}).items()
        }
    worst = max(longest, key=lambda name: longest[name].own_ms)
    return [
        Row(
            "pauses",
            f"the longest pause of a worker of its own making, at half of the highest rate, {', '.join(longest)}",
            f"<= {MOST_PAUSE_MS:g} ms",
            f"{longest[worst].own_ms:.2f} ms ({worst}); {longest[IDLE].own_ms:.2f} ms {IDLE}",
            longest[worst].own_ms <= MOST_PAUSE_MS,
            {name: one._asdict() for name, one in longest.items()},
        )
    ]


def _longest(bed: Bed, page: Path, what: str, situation: Situation, script: Script, per_s: float) -> Pause:
    with situation("gate"):
        forget(page)
        run(bed.load_client, script, 1, CONNECTIONS, SECONDS_A_TURN * bed.options.seconds, per_s)
        longest = read(page)
    bed.say(f"{what}: {longest}")
    return longest
