"""The routers of `examples/router`, as docs/tutorials/router.md shows them: they deliver, refuse with the reason, and hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.ports import LOOPBACK, free_port
from tests.clients.gate_node import Node
from tests.clients.programs import INSTALLED, NODE_MODULES, Source, skip_unless_installed

ROOT = Path(__file__).parents[2]
ROUTERS = ROOT / "examples" / "router"
PAGE = ROOT / "docs" / "tutorials" / "router.md"
RUN_TIMEOUT_S = 60.0
MESSAGES = "alice bob good morning\nmallory bob open the door\nalice carol hello\n"

Commands = list[list[str]]
PROGRAMS: dict[str, tuple[Source, Commands]] = {
    "router.py": ("here", [[sys.executable, "router.py"]]),
    "router.mjs": ("node", [["node", "router.mjs"]]),
    "router.go": ("debian", [["go", "build", "-o", "router", "router.go"], ["./router"]]),
    "Router.java": ("debian", [["javac", "Router.java"], ["java", "Router"]]),
}
"""What each needs, and what builds and runs it, in its folder."""


def route(name: str, folder: Path, resp_port: int, http: str, node: Node) -> list[str]:
    """What the router printed about the messages."""
    source, commands = PROGRAMS[name]
    skip_unless_installed(source)
    (folder / name).write_text((ROUTERS / name).read_text())
    if source == "node":  # an ES module looks for packages in the folders above it, and nowhere else
        (folder / "node_modules").symlink_to(NODE_MODULES)
    given = {"GATE_PORT": str(resp_port), "GATE_HTTP": http, "GATE_APP": node.key, "GATE_SECRET": node.secret}
    of_go = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "", "GOCACHE": str(INSTALLED / "go-cache")}
    for command in commands:
        ran = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **of_go, **given},
            input=MESSAGES,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), command
    return ran.stdout.splitlines()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_router_delivers_what_gate_allows_and_refuses_the_rest(name: str, node: Node, tmp_path: Path) -> None:
    printed = route(name, tmp_path, node.service.resp_port, node.service.http, node)
    assert printed == ["deliver alice bob", "refuse mallory bob blacklisted", "deliver alice carol"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_router_holds_messages_while_gate_is_away(name: str, node: Node, tmp_path: Path) -> None:
    port = free_port()
    printed = route(name, tmp_path, port, f"http://{LOOPBACK}:{port}", node)
    assert printed == ["hold alice bob", "hold mallory bob", "hold alice carol"]


def test_the_page_shows_the_routers_as_they_are() -> None:
    shown = re.findall(r"^```(?:python|js|go|java)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert shown == [(ROUTERS / name).read_text() for name in PROGRAMS]
    assert {path.name for path in ROUTERS.iterdir()} == set(PROGRAMS)
