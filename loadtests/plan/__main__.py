"""The resources of a deployment of a given size: servers, memory, bandwidth, and the limit that is met first.

    python -m loadtests.plan [--users 100M] [--entries 1G] [--online 10M] [--checks 1M] [--writes 50k] [--json]
    python -m loadtests.plan --publish

Computed from `loadtests/results/*.json`; each unit cost names its row. `--publish` writes `docs/scale.md` and its plots.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from loadtests.plan.costs import CostMissing, read_costs
from loadtests.plan.limits import limits_of
from loadtests.plan.shown import breaks_table, plan_table, published, size_line
from loadtests.plan.sizing import Size, plan_of

TIMES = {"k": 1e3, "M": 1e6, "G": 1e9}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print, or publish."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.plan", description=(__doc__ or "").partition("\n")[0])
    default = Size()
    for name, value in default._asdict().items():
        parser.add_argument(f"--{name}", type=count, default=value, metavar="N", help=f"default {value:,.0f}")
    parser.add_argument("--json", action="store_true", help="for programs, with the source of each figure")
    parser.add_argument("--publish", action="store_true", help="write docs/scale.md and its plots")
    given = parser.parse_args(arguments)
    try:
        if given.publish:
            for path, text in published().items():
                path.write_text(text)
            return 0
        costs = read_costs()
    except CostMissing as missing:
        print(f"loadtests.plan: {missing}", file=sys.stderr)
        return 1
    plan = plan_of(Size(*(getattr(given, name) for name in Size._fields)), costs)
    limits = limits_of(plan, costs)
    if given.json:
        document = {
            "size": plan.size._asdict(),
            "plan": [
                {**line._asdict(), "costs": [costs.every[name]._asdict() for name in line.costs]} for line in plan.lines
            ],
            "limits": [limit._asdict() for limit in limits],
        }
        print(json.dumps(document, indent=1))
    else:
        print(f"{size_line(plan.size)}\n\n{plan_table(plan)}\n\n{breaks_table(limits)}")
    return 0


def count(text: str) -> float:
    """`100M`, `50k`, `1_000` or `2.5e6`."""
    try:
        value = float(text[:-1]) * TIMES[text[-1:]] if text[-1:] in TIMES else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number: write 50000, 50k, 10M or 1G") from None
    if not 1 <= value <= 1e13:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 1 to 10,000 G")
    return value


if __name__ == "__main__":
    sys.exit(main())
