"""The snippets of docs/clients.md, run as they are printed there, with a live node's port and credentials."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.gate_node import Node
from tests.clients.pages import PAGE, snippet
from tests.clients.programs import NODE_MODULES, RUN_TIMEOUT_S, Source, skip_unless_installed

RUNS: dict[str, tuple[Source, str, str]] = {
    "redis-py": ("here", sys.executable, "snippet.py"),
    "node-redis": ("node", "node", "snippet.mjs"),
    "ioredis": ("node", "node", "snippet.mjs"),
    "phpredis": ("debian", "php", "snippet.php"),
}
"""What each snippet needs, what runs it, and the name of its file."""

NOT_RUN = {"go-redis", "Jedis", "Lettuce"}
"""No registry that the tests reach has them; the page says so under each heading."""


@pytest.mark.parametrize("client", RUNS)
def test_a_snippet_prints_the_three_answers(client: str, node: Node, tmp_path: Path) -> None:
    source, runner, name = RUNS[client]
    skip_unless_installed(source)
    program = tmp_path / name
    program.write_text(_filled_in(snippet(client), node))
    # An ES module looks for packages in the folders above it, and nowhere else.
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    ran = subprocess.run([runner, program], capture_output=True, text=True, timeout=RUN_TIMEOUT_S)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.findall(r"\w+", ran.stdout) == ["1", "1", "0", "0", "blacklisted"]


def test_the_page_says_which_snippets_are_not_run() -> None:
    page = PAGE.read_text()
    languages = re.findall(r"^## (.+)\n(?:\n|(Not run by the tests).*\n|.+\n)*?```", page, re.MULTILINE)
    assert {name for name, _ in languages} == RUNS.keys() | NOT_RUN
    assert {name for name, not_run in languages if not_run} == NOT_RUN


def _filled_in(code: str, node: Node) -> str:
    for printed, real in (("6390", str(node.service.resp_port)), ("app-key", node.key), ("app-secret", node.secret)):
        assert printed in code
        code = code.replace(printed, real)
    return code
