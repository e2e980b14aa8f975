"""Compares the pinned dependencies with the known vulnerabilities: `make audit`.

    python -m scripts.audit [LOCK...]       by default requirements.lock, which is what runs in production

pip-audit asks PyPI about each pinned release; nothing is installed or resolved. The exit status is 0 only if every dependency
was looked up and none has a known vulnerability, 1 if one has, and 2 if some could not be looked up: a feed that is not
reachable, or a mirror without one, for which pip-audit itself says "No known vulnerabilities found".
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

REPOSITORY = Path(__file__).parents[1]
PROGRAM = Path(sys.executable).with_name("pip-audit")
LOCKS = ("requirements.lock",)
FEED_TIMEOUT_S = 15
"""Of one answer of the feed."""
MAX_SHOWN = 5


class Dependency(msgspec.Struct):
    """One line of the report; other fields are not read."""

    name: str
    version: str = ""
    skip_reason: str = ""
    vulns: list[dict[str, Any]] = []


class Report(msgspec.Struct):
    """The report of pip-audit."""

    dependencies: list[Dependency]


def audited(lock: str, program: Path = PROGRAM) -> tuple[int, list[str]]:
    """The exit status for one lock file, and the lines that say why."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [str(program), "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
        command += [
            "--timeout",
            str(FEED_TIMEOUT_S),
            "--format",
            "json",
            "--output",
            str(report),
            "--requirement",
            lock,
        ]
        ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if not report.exists():
            reason = (ran.stderr or ran.stdout).strip().splitlines()
            return 2, [f"{lock}: NOT AUDITED: {reason[-1] if reason else 'pip-audit wrote no report'}"]
        found = msgspec.json.decode(report.read_bytes(), type=Report).dependencies
    lines = [
        f"{lock}: {one.name} {one.version}: {flaw['id']}: fixed in {', '.join(flaw['fix_versions']) or 'no release yet'}"
        for one in found
        for flaw in one.vulns
    ]
    skipped = [one.name for one in found if one.skip_reason]
    if skipped:
        more = ", ..." if len(skipped) > MAX_SHOWN else ""
        lines.append(
            f"{lock}: NOT AUDITED: {len(skipped)} of {len(found)} dependencies are not in the feed "
            f"({', '.join(skipped[:MAX_SHOWN])}{more}): run it where the package index is reachable"
        )
    # A vulnerability that is known counts for more than what could not be looked up.
    status = 1 if any(one.vulns for one in found) else 2 if skipped or not found else 0
    return status, lines or [f"{lock}: {len(found)} dependencies, no known vulnerability"]


def main(locks: Sequence[str]) -> int:
    """1 if any lock file has a vulnerability, else 2 if any was not audited, else 0."""
    results = [audited(lock) for lock in locks or LOCKS]
    for _, lines in results:
        print("\n".join(lines))
    statuses = {status for status, _ in results}
    return 1 if 1 in statuses else max(statuses)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
