"""The cost of TLS: checks over the TLS port against the plain one, and of a TLS port and keys that are there and not used.

    .venv/bin/python -m loadtests.micro.tls [--seconds 4] [--rounds 5] [--pipeline 64] [--connections 50]

Two nodes with one worker each and a table of Blacklists, one without and one with TLS ports and keys with scopes. Three loads
take turns within each round, in another order each time: the plain port of the first node, the plain port of the second one,
its TLS port. The load client is `loadtests/bench/load.c`, for TLS compiled with OpenSSL (`apt-get install libssl-dev`); it
compares every reply.

A ratio is computed in each round. `unused` compares the plain ports, `tls` the TLS port with the plain port of the same node:
checks a second, and processor time of the node for a check. Where other programs use the processors, trust the time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gate.wire import replies
from harness.ports import LOOPBACK, free_port
from harness.service import GateService
from harness.tls import Authority
from loadtests.bench.load import SOURCE, Load, Script, Target, build, run, write_script

USERS = 4_096
BLOCKED_EVERY = 4
KEYS = 8
LEAST_UNUSED, LEAST_TLS = 0.99, 0.6
"""The bounds on both ratios of the rates."""
PLAIN, UNUSED, TLS = "plain", "plain, TLS ports configured", "TLS"


def command(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(replies.bulk(word.encode()) for word in words)


def script(path: Path, node: GateService, port: int) -> Script:
    credentials = node.credentials
    greeting = command("AUTH", credentials.app_key, credentials.app_secret)
    target = Target(port, node.pid, greeting, b"+OK\r\n")
    return write_script(path, target, (_exchange(number) for number in range(USERS)), 1)


def _exchange(number: int) -> tuple[bytes, bytes]:
    may = b"0" if number % BLOCKED_EVERY == 0 else b"1"
    return command("GATE.CHECK", f"sender-{number}", f"owner-{number}"), b":%b\r\n" % may


def filled(node: GateService, folder: Path) -> GateService:
    """One in `BLOCKED_EVERY` owners blocks its sender."""
    blocking = range(0, USERS, BLOCKED_EVERY)
    lines = [
        json.dumps({"kind": "blacklist", "owner": f"owner-{one}", "members": [f"sender-{one}"]}) for one in blocking
    ]
    path = folder / "facts.ndjson"
    path.write_text("\n".join(lines) + "\n")
    run_gate(node, "import", str(path))
    return node


def run_gate(node: GateService, *words: str) -> None:
    """Run a command of `gate` on the node."""
    command_line = [sys.executable, "-m", "gate", *words, "--data", str(node.data)]
    subprocess.run(command_line, check=True, stdout=subprocess.DEVNULL)


def ratios(loads: dict[str, list[Load]], ours: str, theirs: str) -> dict[str, Any]:
    """Of each round, and the medians: above 1 is better for `ours` in both."""
    pairs = list(zip(loads[ours], loads[theirs], strict=True))
    rates = [our.per_s / their.per_s for our, their in pairs]
    times = [their.server_us / our.server_us for our, their in pairs]
    return {
        "rate": round(statistics.median(rates), 4),
        "rate_rounds": [round(rate, 3) for rate in rates],
        "cpu": round(statistics.median(times), 4),
        "cpu_rounds": [round(one, 3) for one in times],
    }


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    authority = Authority(folder / "authority")
    certificate, resp_tls = authority.issue("server"), free_port()
    tls = ["--resp-tls", f"{LOOPBACK}:{resp_tls}", "--http-tls", f"{LOOPBACK}:{free_port()}"]
    tls += ["--tls-cert", str(certificate.certificate), "--tls-key", str(certificate.key)]
    plain_client = build(SOURCE, folder / "load")
    tls_client = build(SOURCE, folder / "load-tls", "-DLOAD_TLS", libraries=("-lssl", "-lcrypto"))
    with (
        GateService.start(folder / "without" / "data") as without,
        GateService.start(folder / "with" / "data", *tls) as node,
    ):
        for each in (without, node):
            filled(each, folder)
        for number in range(KEYS):
            run_gate(node, "app", "key", "add", node.credentials.app_key, f"key-{number}", "--scope", "check")
        programs = {
            PLAIN: (plain_client, script(folder / "without.load", without, without.resp_port)),
            UNUSED: (plain_client, script(folder / "with.load", node, node.resp_port)),
            TLS: (tls_client, script(folder / "tls.load", node, resp_tls)),
        }
        loads: dict[str, list[Load]] = {name: [] for name in programs}
        for number in range(-1, options.rounds):  # the first round warms up
            for name in list(programs)[:: 1 if number % 2 else -1]:
                program, asked = programs[name]
                load = run(program, asked, options.pipeline, options.connections, options.seconds if number >= 0 else 1)
                if number >= 0:
                    loads[name].append(load)
    return _report(options, loads)


def _report(options: argparse.Namespace, loads: dict[str, list[Load]]) -> dict[str, Any]:
    def middle(name: str, field: str) -> float:
        return round(float(statistics.median(getattr(load, field) for load in loads[name])), 4)

    shown = ("per_s", "server_us", "server", "client", "others", "p99_us")
    return {
        "pipeline": options.pipeline,
        "connections": options.connections,
        "machine_load": os.getloadavg()[0],
        "loads": {name: {field: middle(name, field) for field in shown} for name in loads},
        "unused": ratios(loads, UNUSED, PLAIN) | {"least": LEAST_UNUSED},
        "tls": ratios(loads, TLS, UNUSED) | {"least": LEAST_TLS},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one JSON object, then a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pipeline", type=int, default=64)
    parser.add_argument("--connections", type=int, default=50)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        report = measured(options, Path(folder))
    print(json.dumps(report))
    print(f"{'':<28} {'checks/s':>12} {'node us':>8} {'node':>6} {'client':>7} {'others':>7} {'p99 us':>8}")
    for name, one in report["loads"].items():
        print(
            f"{name:<28} {one['per_s']:>12,.0f} {one['server_us']:>8.3f} {one['server']:>6.2f} {one['client']:>7.2f} "
            f"{one['others']:>7.2f} {one['p99_us']:>8.0f}"
        )
    for what in ("unused", "tls"):
        one = report[what]
        print(
            f"{what}: {one['rate']:.3f} x the checks/s (at least {one['least']}), {one['cpu']:.3f} x per processor time"
        )


if __name__ == "__main__":
    main()
