"""Runs mutants that mutmut made, each in a fork of one process that has collected the tests: none waits for pytest's start.

    cd build/mutants/mutants; python -m scripts.mutant_runner RESULTS [GLOB...]

RESULTS gets a JSON object a line as soon as a mutant was tried: its name, the outcome (`killed`, `survived`, `timeout` or
`no tests`), the test that killed it, and seconds. A mutant that RESULTS has already is left out, so an interrupted run goes on.

The tests of a mutant are those that call its function (mutmut-stats.json). The tests that killed other mutants of the function
run first, then the shortest. A test may use `CPU_S` of CPU time and ten times what it needs: a mutant that loops for ever ends
there, and a busy machine does not look like one. A test that waits for longer than `WALL_S` and ten times what it needs
ends its mutant as well. A test that found a mutant is asked again, and counts if it fails again.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import os
import resource
import select
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import Phase, settings

STATS = Path("mutmut-stats.json")
CPU_S = 3.0
WALL_S = 30.0
MOST_TESTS_S = 60.0
"""Of a mutant's tests together, without a mutant: one more long test seldom finds what a minute did not."""
MAX_DATA_BYTES = 2 << 30
"""For each fork: a mutant may also fill memory for ever. Not the address space, of which the map of a Replica takes 1 TB."""
OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:logging", "--timeout=0", "--tb=no", "--rootdir=.")
ONE_SERVER = ("-k", "not redis- and not cluster")
"""One of each kind is enough here."""


class Outcome(NamedTuple):
    """What became of a mutant."""

    name: str
    outcome: str
    killer: str
    seconds: float


def mutants(globs: Sequence[str]) -> list[str]:
    """The names of all that mutmut made and that match."""
    names = [name for meta in sorted(Path("gate").rglob("*.meta")) for name in _names(meta)]
    return [name for name in names if not globs or any(fnmatch.fnmatch(name, glob) for glob in globs)]


def _names(meta: Path) -> Iterable[str]:
    exit_codes: dict[str, object] = json.loads(meta.read_text())["exit_code_by_key"]
    return exit_codes


class Mutating:
    """A plugin of pytest that runs mutants in the place of the tests."""

    def __init__(self, names: Sequence[str], results: Path) -> None:
        self._names = names
        self._results = results
        self._killers: dict[str, list[str]] = defaultdict(list)
        self.durations: dict[str, float] = {}

    def function_of(self, name: str) -> str:
        """What the mutant is of: a test that killed another of the same is tried first."""
        return name.partition("__mutmut_")[0]

    def killers_of(self, name: str) -> list[str]:
        """The tests that killed others of the function, the last one first."""
        return self._killers[self.function_of(name)][::-1]

    def tests_of(self, name: str) -> list[str]:
        """Node ids, in the order in which they are tried."""
        raise NotImplementedError

    def switch(self, name: str) -> None:
        """Make the code of this process that of the mutant."""
        raise NotImplementedError

    def pytest_collection(self) -> None:
        """An example that fails is enough: Hypothesis need not look for the smallest."""
        settings.register_profile("mutants", settings(), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try each mutant."""
        items = {item.nodeid: item for item in session.items}
        self._results.touch()
        done = {json.loads(line)["name"] for line in self._results.read_text().splitlines()}
        with self._results.open("a") as out:
            for name in self._names:
                if name not in done:
                    outcome = self._tried(name, [items[test] for test in self.tests_of(name) if test in items])
                    out.write(json.dumps(outcome._asdict()) + "\n")
                    out.flush()
        return True

    def _tried(self, name: str, items: Sequence[pytest.Item]) -> Outcome:
        if not items:
            return Outcome(name, "no tests", "", 0.0)
        began_s = time.monotonic()
        left = list(items)
        outcome, killer = self._forked(name, left)
        # A test that fails with the mutant and then passes with it failed for another reason: a busy machine, most likely.
        while outcome == "killed":
            again = [item for item in left if item.nodeid == killer]
            if self._forked(name, again)[0] != "survived":
                break
            left = [item for item in left if item.nodeid != killer]
            outcome, killer = self._forked(name, left) if left else ("survived", "")
        function = self.function_of(name)
        if killer:
            self._killers[function] = [one for one in self._killers[function] if one != killer] + [killer]
        return Outcome(name, outcome, killer, round(time.monotonic() - began_s, 3))

    def _forked(self, name: str, items: Sequence[pytest.Item]) -> tuple[str, str]:
        """The outcome, and the test that was under way."""
        running = os.memfd_create("the test under way")
        child = os.fork()
        if not child:
            self._try(name, items, running)
        status = self._status(child, running)
        last = _shown(running)
        os.close(running)
        _end_group(child)
        code = os.waitstatus_to_exitcode(status) if status is not None else None
        outcome = "timeout" if code is None or code < 0 else "killed" if code else "survived"
        return outcome, last if outcome != "survived" else ""

    def _status(self, child: int, running: int) -> int | None:
        """The wait status of the fork; None if a test waits for too long, and it is ended. Computing has a bound of its own."""
        pid_file = os.pidfd_open(child)
        test, ends_s = "", time.monotonic() + WALL_S
        try:
            while not (ended := bool(select.select([pid_file], [], [], 1)[0])):
                if _shown(running) != test:
                    test = _shown(running)
                    ends_s = time.monotonic() + WALL_S + 10 * self.durations.get(test, 0.0)
                elif time.monotonic() > ends_s and not _computes(child):
                    os.kill(child, signal.SIGKILL)
                    break
            _, status = os.waitpid(child, 0)
            return status if ended else None
        finally:
            os.close(pid_file)

    def _try(self, name: str, items: Sequence[pytest.Item], running: int) -> None:
        """In the fork: never returns."""
        code = 3
        try:
            os.setpgid(0, 0)  # servers that a fixture started end with the group
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (1, 2):
                os.dup2(nothing, stream)
            resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))
            self.switch(name)
            _clear_caches()
            code = self._first_failure(items, running)
        finally:
            os._exit(code)

    def _first_failure(self, items: Sequence[pytest.Item], running: int) -> int:
        session = items[0].session
        for item, following in zip(items, [*items[1:], None], strict=True):
            os.ftruncate(running, 0)
            os.pwrite(running, item.nodeid.encode(), 0)
            signal.setitimer(signal.ITIMER_PROF, CPU_S + 10 * self.durations.get(item.nodeid, 0.0))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                signal.setitimer(signal.ITIMER_PROF, CPU_S)
                session._setupstate.teardown_exact(None)
                return 1
        return 0


class PythonMutating(Mutating):
    """Those that mutmut made."""

    def __init__(self, names: Sequence[str], results: Path) -> None:
        super().__init__(names, results)
        stats = json.loads(STATS.read_text())
        self._tests: dict[str, list[str]] = stats["tests_by_mangled_function_name"]
        self.durations = stats["duration_by_test"]

    def tests_of(self, name: str) -> list[str]:
        """Those that call its function."""
        killers = self.killers_of(name)
        shortest = sorted(
            set(self._tests.get(self.function_of(name), ())) - set(killers),
            key=lambda test: self.durations.get(test, 0.0),
        )
        chosen: list[str] = []
        total_s = 0.0
        for test in (*killers, *shortest):
            total_s += self.durations.get(test, 0.0)
            if chosen and total_s > MOST_TESTS_S:
                break
            chosen.append(test)
        return chosen

    def switch(self, name: str) -> None:
        """mutmut's functions look there."""
        os.environ["MUTANT_UNDER_TEST"] = name

    def files(self) -> list[str]:
        """Those with a test of any mutant."""
        return sorted({test.partition("::")[0] for name in self._names for test in self.tests_of(name)})


def _shown(running: int) -> str:
    return os.pread(running, 4_096, 0).decode()


def _computes(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "R"


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _clear_caches() -> None:
    """Their entries were computed without a mutant, and would hide it."""
    for one in list(_of_gate()):
        if isinstance(one, functools._lru_cache_wrapper):
            one.cache_clear()


def _of_gate() -> Iterator[object]:
    for name, module in list(sys.modules.items()):
        if name.startswith("gate."):
            yield from vars(module).values()


def main() -> int:
    """Exit status 0 once all are tried."""
    results, globs = Path(sys.argv[1]).absolute(), sys.argv[2:]
    names = mutants(globs)
    mutating = PythonMutating(names, results)
    sys.path.insert(0, os.getcwd())
    os.environ["MUTANT_UNDER_TEST"] = "none"
    return int(pytest.main([*OPTIONS, *ONE_SERVER, *mutating.files()], plugins=[mutating]))


if __name__ == "__main__":
    raise SystemExit(main())
