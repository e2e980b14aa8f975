"""The examples of docs/in-process.md, built and run as the page says, next to a live node."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.service import GateService, Services
from loadtests.micro import in_process
from loadtests.micro.in_process import EXAMPLES, LANGUAGES, PAGE, lay_out
from tests.cli.command import Command
from tests.clients.programs import Source, skip_unless_installed
from tests.docs.pages import libgate_calls

TOOLS: dict[str, tuple[Source, tuple[str, ...], str]] = {
    "C": ("here", ("cc",), ""),
    "Go": ("debian", ("cc", "go"), ""),
    "Java": ("debian", ("java", "javac"), "/usr/share/java/jna.jar"),
    "Node": ("headers", ("cc", "node"), ""),
}
"""What brings the toolchain, its programs, and a file that has to be there too."""

MEASURED = "2000 40000"
"""Users and checks: the figures of so short a run mean little."""
RUN_TIMEOUT_S = 100


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GateService]:
    services = Services(lambda: tmp_path_factory.mktemp("in-process"))
    service = services.start()
    Command(service.data, service.credentials.app_key)("import", str(EXAMPLES / "facts.ndjson"))
    yield service
    services.end_all()


@pytest.fixture
def clone(tmp_path: Path, libgate_dir: Path, node: GateService) -> Path:
    lay_out(tmp_path, libgate_dir, node.data)
    return tmp_path


def run(language: str, clone: Path, key: str) -> subprocess.CompletedProcess[str]:
    source, programs, file = TOOLS[language]
    skip_unless_installed(source)
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here")
    if file and not Path(file).exists():
        pytest.skip(f"no {file} here")
    return in_process.run(clone, in_process.commands(language, MEASURED), key, RUN_TIMEOUT_S)


@pytest.mark.parametrize("language", TOOLS)
def test_an_example_answers_every_case_and_prints_what_a_check_takes(
    language: str, clone: Path, node: GateService
) -> None:
    ended = run(language, clone, node.credentials.app_key)
    assert ended.returncode == 0, ended.stderr
    printed = dict(line.split() for line in ended.stdout.splitlines())
    assert printed.keys() == {"stale_ms", "cases", "hot", "uniform"}
    assert printed["stale_ms"] == "0"
    assert int(printed["cases"]) == len(cases()) > 15
    assert 0 < int(printed["hot"]) < 100_000 and 0 < int(printed["uniform"]) < 100_000


@pytest.mark.parametrize("language", TOOLS)
def test_an_example_notices_a_wrong_answer_and_words_an_error(language: str, clone: Path, node: GateService) -> None:
    wrong = clone / "examples/in-process/cases.txt"
    wrong.write_text(wrong.read_text().replace("not-whitelisted", "blacklisted"))
    ended = run(language, clone, node.credentials.app_key)
    assert ended.returncode != 0
    assert "bob to dora: not-whitelisted, expected blacklisted" in ended.stderr
    ended = run(language, clone, "no-such-app")
    assert ended.returncode != 0
    assert "no App has the key 'no-such-app'" in ended.stderr


def test_the_case_file_is_what_the_node_answers(node: GateService) -> None:
    with node.resp_client() as resp:
        for sender, recipient, word in cases():
            assert resp.execute_command("GATE.VERDICT", sender, recipient).decode() == word, (sender, recipient)


def test_the_page_has_every_example() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == {name.lower() for name in TOOLS}
    assert re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE) == [*TOOLS, "Python"]
    assert tuple(TOOLS) == LANGUAGES


def test_the_page_has_every_call() -> None:
    assert set(re.findall(r"^\| `(gate_\w+)`", PAGE.read_text(), re.MULTILINE)) == libgate_calls()


def cases() -> list[tuple[str, str, str]]:
    lines = (EXAMPLES / "cases.txt").read_text().splitlines()
    found = [tuple(line.split()) for line in lines if not line.startswith("#")]
    return [(sender, recipient, word) for sender, recipient, word in found]


@pytest.mark.usefixtures("libgate_dir")
def test_the_figures_of_the_page_can_be_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "CHECKS", 40_000)
    monkeypatch.setattr(in_process, "LANGUAGES", ("C",))
    found = in_process.measured(tmp_path, 0.001, 1)["C"]
    assert isinstance(found, dict) and found.keys() == {"hot", "uniform"}
