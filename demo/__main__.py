"""`python -m demo [--json] [--cluster]`: a service of its own, the facts loaded, the trace replayed, the service stopped.

With `--cluster` the facts are in a cluster of three servers, which the demo starts and stops as well.

Exit status 0, or 1 with one line if the service did not do its part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from rich.console import Console

from demo.admin import AdminClient, AdminRefused, import_lists, impose_bans, switch_whitelists_on, write_import_file
from demo.dataset import Facts, Message, derive_facts, read_messages, read_ratings
from demo.replay import replay
from demo.report import Outcome, as_json, show
from harness.clusters import ClusterSetup
from harness.ending import exit_on_signals
from harness.service import GateService, LeftBehind, ServiceDied
from harness.waiting import NotInTime


def main() -> int:
    """The whole demo."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="Gate on real data.")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    parser.add_argument("--cluster", action="store_true", help="keep the facts in a cluster of three servers")
    given = parser.parse_args()
    wants_json: bool = given.json
    console = Console(quiet=wants_json, highlight=False)
    exit_on_signals()
    outcome = Outcome()
    try:
        run(outcome, console, is_clustered=given.cluster)
    except (AdminRefused, NotInTime, ServiceDied, LeftBehind) as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    if wants_json:
        print(as_json(outcome))
    show(outcome, console)
    return 0


def run(outcome: Outcome, console: Console, *, is_clustered: bool = False) -> None:
    """Every step, timed into `outcome`. The service and its data are gone afterwards, whatever happens."""

    @contextmanager
    def step(name: str) -> Iterator[None]:
        started = time.perf_counter()
        with console.status(name):
            yield
        outcome.steps_s[name] = time.perf_counter() - started

    with step("read the data and derive the facts"):
        messages, facts = read_messages(), derive_facts(read_ratings())
    with tempfile.TemporaryDirectory(prefix="gate-demo-") as folder, ExitStack() as stack:
        redis_url: str | None = None
        if is_clustered:
            with step("start a cluster of three servers"):
                redis_url = stack.enter_context(_cluster(Path(folder) / "redis"))
        with step("start a service"):
            service = GateService.start(Path(folder) / "data", redis_url=redis_url)
        with service:
            with closing(AdminClient(service.http, service.credentials)) as admin:
                with step("impose the bans over HTTP"):
                    impose_bans(admin, facts.banned)
                with step("switch the whitelists on over HTTP"):
                    switch_whitelists_on(admin, facts.whitelists)
            with step("import the lists"):
                write_import_file(facts, Path(folder) / "lists.ndjson")
                import_lists(Path(folder) / "lists.ndjson", service.data)
            with step("replay the messages") as _, service.resp_client() as client:
                verdicts = replay(client, messages)
    _fill(outcome, messages, facts, verdicts)


@contextmanager
def _cluster(directory: Path) -> Iterator[str]:
    """Three servers, of the program that a service embeds; their URL."""
    setup = ClusterSetup.start("valkey-9", directory, replicas=0)
    try:
        yield setup.url
    finally:
        setup.stop()


def _fill(outcome: Outcome, messages: list[Message], facts: Facts, verdicts: dict[str, int]) -> None:
    outcome.messages = len(messages)
    outcome.blacklist_entries = facts.blacklist_entries
    outcome.whitelist_entries = facts.whitelist_entries
    outcome.whitelists_on = len(facts.whitelists)
    outcome.bans = len(facts.banned)
    outcome.verdicts = dict(verdicts)
    outcome.checks_per_s = round(len(messages) / outcome.steps_s["replay the messages"])


if __name__ == "__main__":
    sys.exit(main())
