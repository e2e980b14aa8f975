"""The consoles in the documentation: read out of a page, run for real against a service, and compared with what the page shows.

A fenced block marked `console` holds commands (`$ …`, continued by lines that begin with `> `) and what they print. All blocks
of one page run in one shell, in order, in the directory that holds `gate-data`. `python -m tests.docs.consoles PAGE…` runs the
pages and writes what the commands really print into them. A block marked `python` whose first line is `# NAME.py` is that file,
in the same directory.

The README has blocks to paste instead: one marked `sh` holds commands alone, and what they print is in the block marked
`text` that comes right after it, if they print anything. Blocks that begin with `make` are left to
`tests/deploy/test_quick_start.py`, which follows the page from `git clone` on.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.service import GateService

SHOWN_HTTP, SHOWN_RESP = "8080", "6390"
SHELL_TIMEOUT_S = 240
_MARK = "--- next command ---"
# What a terminal would show: redis-cli words replies only for one.
_PRELUDE = """redis-cli() { command redis-cli --no-raw "$@"; }
exec 2>&1
trap 'kill $(jobs -p) 2> /dev/null' EXIT
"""

# Differs from run to run, and is not what a page is about.
_VOLATILE = (
    (re.compile(r"gt1\.[A-Za-z0-9_-]{60,}"), "A-TOKEN"),
    (re.compile(r'"[A-Za-z0-9_-]{11}\.[A-Za-z0-9_-]{2,86}"'), '"SESSION"'),
    (re.compile(r"(?<= )[A-Za-z0-9_-]{11}\.[A-Za-z0-9_-]{2,86}(?=[ \n])"), "SESSION"),
    (re.compile(r"\b[0-9a-f]{13,14}-\d{1,16}-[0-9a-f]{13,14}\b"), "CURSOR"),
    (re.compile(r'"age_ms":\d+'), '"age_ms":AGE'),
    (re.compile(r"^retry: \d+$", re.MULTILINE), "retry: SOON"),
    # Two Users may share a Partition, or not.
    (re.compile(r"\d{1,4}:[0-9a-f]{16}:\d+(,\d{1,4}:[0-9a-f]{16}:\d+)*"), "REVISION"),
    (re.compile(r'"next":"[^"]+"'), '"next":"TOKEN"'),
    (re.compile(r"\b[0-9A-Z]{4}(-[0-9A-Z]{4}){3}\b"), "OPERATION"),
    (re.compile(r"\b\d{13}\b"), "MOMENT"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "MOMENT"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "REQUEST-ID"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "KEY"),
    (re.compile(r"(?<![\w-])[A-Za-z0-9_-]{32}(?![\w-])"), "SECRET"),
    (re.compile(r"^Date: .*$", re.MULTILINE), "Date: NOW"),
    (re.compile(r"\b\d+ (ms|s|min|h)\b"), "A-WHILE"),
    (re.compile(r"─+"), "─"),  # as long as what stands below
    (re.compile(r" +"), " "),
)


class Step(NamedTuple):
    """One command of a page, the output that the page shows, and the place of that output in the text."""

    command: str
    shown: str
    start: int
    end: int


def steps(text: str) -> list[Step]:
    """Every command in the page's consoles, in order."""
    found = []
    for block in re.finditer(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for one in re.finditer(r"^\$ (.*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", block[1], re.MULTILINE):
            command = re.sub(r"^> ", "", one[1], flags=re.MULTILINE)
            start, end = (block.start(1) + at for at in one.span(2))
            found.append(Step(command, one[2], start, end))
    return found


def blocks(text: str) -> list[Step]:
    """Every block of commands to paste, in order."""
    found = []
    for block in re.finditer(r"^```sh\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", text, re.DOTALL | re.MULTILINE):
        start, end = block.span(2) if block[2] is not None else (block.end(), block.end())
        found.append(Step(block[1], block[2] or "", start, end))
    return found


def pasted(text: str) -> list[Step]:
    """The blocks that need a service that runs, and start none."""
    return [block for block in blocks(text) if not block.command.startswith("make ")]


def files(text: str) -> dict[str, str]:
    """Every file that the page has its reader save."""
    blocks = re.finditer(r"^```python\n# (\w+\.py)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return {block[1]: block[2] for block in blocks}


def run(commands: Sequence[str], service: GateService, files: Mapping[str, str] | None = None) -> list[str]:
    """What each command prints, both streams, with the ports that the pages show."""
    ports = {SHOWN_HTTP: service.http.rpartition(":")[2], SHOWN_RESP: str(service.resp_port)}
    script = _PRELUDE + "".join(f"{with_ports(command, ports)}echo '{_MARK}'\n" for command in commands)
    # The pages speak from a clone's root.
    venv = service.data.with_name(".venv")
    if not venv.exists():
        venv.symlink_to(Path(sys.prefix))
    for name, content in (files or {}).items():
        (service.data.parent / name).write_text(with_ports(content, ports))
    environment = {
        **os.environ,
        "COLUMNS": "100",
        "GATE_HTTP": f"127.0.0.1:{ports[SHOWN_HTTP]}",
        "GATE_RESP": f"127.0.0.1:{ports[SHOWN_RESP]}",
    }
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=service.data.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SHELL_TIMEOUT_S,
        check=False,  # a denied `gate check` exits 1, and is shown
    )
    printed = with_ports(ended.stdout, {real: shown for shown, real in ports.items()})
    return printed.split(f"{_MARK}\n")[:-1]


def settled(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, word in _VOLATILE:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def with_ports(text: str, ports: dict[str, str]) -> str:
    return re.sub(r"\b(" + "|".join(ports) + r")\b", lambda found: ports[found[1]], text)


def _rewrite(page: Path) -> None:
    text = page.read_text()
    with tempfile.TemporaryDirectory() as folder, GateService.start(Path(folder) / "gate-data") as service:
        asked = steps(text) or pasted(text)
        printed = run([step.command for step in asked], service, files(text))
    for step, output in reversed(list(zip(asked, printed, strict=True))):
        if settled(output) != settled(step.shown):
            whole_lines = output if output.endswith("\n") or not output else f"{output}\n"
            text = text[: step.start] + whole_lines + text[step.end :]
    page.write_text(text)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        _rewrite(Path(argument))
