"""Many checks in one request: `GATE.MCHECK` over RESP."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.bench.bed import Bed
from loadtests.bench.client import ask
from loadtests.bench.load import Script, write_script
from loadtests.bench.systems.gate import GateSystem
from loadtests.bench.table import Row
from loadtests.bench.turns import Bound, compared, in_turn, judged, summary

RECIPIENTS = 100
GROUPS = 1_000
CONNECTIONS = 50
LEAST_MCHECK_RATIO = 3.0
ONE_BY_ONE = "single checks in pipelines of 100"


def measure_mcheck(bed: Bed) -> list[Row]:
    """The same pairs as groups of 100: of Gate, and of Gate without the compiled core; and as pipelines of 100 checks."""
    recipients = [recipient for _, recipient in bed.pairs("uniform")]
    senders = [sender for sender, _ in bed.pairs("uniform")]
    many = min(GROUPS, len(recipients) // RECIPIENTS)
    groups = [(senders[nth], recipients[nth * RECIPIENTS : (nth + 1) * RECIPIENTS]) for nth in range(many)]
    with bed.without_core() as python:
        scripts = {system.name: _grouped(bed, system, groups) for system in (bed.gate, python)}
        scripts[ONE_BY_ONE] = bed.prepared(bed.gate, "uniform", many * RECIPIENTS)[0]
        loads = in_turn(bed, scripts, RECIPIENTS, CONNECTIONS)
    what = f"GATE.MCHECK of {RECIPIENTS} recipients, pairs/s, {CONNECTIONS} connections"
    singles = {ONE_BY_ONE: compared(loads, bed.gate.name, ONE_BY_ONE)}
    return [
        judged(
            "mcheck",
            f"{what}, against Gate without its compiled core",
            loads,
            bed.gate.name,
            Bound(RECIPIENTS, python.name, LEAST_MCHECK_RATIO),
            {"systems": {name: summary(these) for name, these in loads.items()}, **singles},
        )
    ]


def _grouped(bed: Bed, system: GateSystem, groups: Sequence[tuple[bytes, list[bytes]]]) -> Script:
    requests = [system.many_request(*group) for group in groups]
    with system.connect() as connection:
        exchanges = [(request, ask(connection, request, 1)[1]) for request in requests]
    path = bed.folder / f"{system.name.replace(' ', '-')}-mcheck.script"
    return write_script(path, system.target, exchanges, 1 / RECIPIENTS)
