"""The documentation names nothing that does not exist, and leaves out nothing that does."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

from gate.cli import COMMANDS as NOUNS
from gate.cli import app as cli
from gate.config import OPTIONS
from gate.core.closing import ENDINGS, REFUSALS
from gate.core.decide import RULES
from gate.http import client, rongcloud, v1
from gate.http.app import PROBES
from gate.http.client import websocket
from gate.http.errors import CODES, WORDS
from gate.http.openapi import DOCUMENTS
from gate.http.routing import UNSUPPORTED
from gate.http.v1 import apps
from gate.replica.status_page import State
from gate.wire.commands import COMMANDS
from tests.deploy.test_settings import exported
from tests.docs.pages import (
    NOT_METRICS,
    PAGES,
    REPOSITORY,
    all_text,
    anchors,
    cli_commands,
    endpoints,
    limits,
    links,
    metrics,
    options_of_serve,
    page_text,
    resp_commands,
    shows,
)

SERVED = {*rongcloud.ENDPOINTS, *(path for path, _ in (*v1.ENDPOINTS, *apps.ENDPOINTS, *client.ENDPOINTS))}
SERVED |= {websocket.PATH, *PROBES, *DOCUMENTS}


def test_resp_commands_are_the_ones_that_are_answered() -> None:
    gates = {name.decode() for name in COMMANDS if name.startswith(b"GATE.")}
    assert resp_commands(all_text()) == gates
    protocol = page_text("docs/protocol.md")
    assert [name.decode() for name in COMMANDS if f"`{name.decode()}" not in protocol] == []


def test_the_rules_are_listed_in_their_order() -> None:
    rules = [word for word, _ in RULES]
    listed = page_text("docs/behaviour.md").split("\n## The decision\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| (\d) \| `([a-z-]+)` \|", listed, re.MULTILINE) == [
        (str(number), word) for number, word in enumerate(rules, 1)
    ]
    words = page_text("docs/protocol.md").split("**The reason words**")[1].split("\n**")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", words, re.MULTILINE) == ["allowed", *rules]
    header = page_text("gate/native/gate.h").split("`*word` is one of ")[1].split(": a constant")[0]
    assert re.findall(r'"([a-z-]+)"', header) == ["allowed", *rules]


@pytest.mark.parametrize(("status", "word"), sorted({(status, word) for _, status, word in WORDS}))
def test_every_error_of_http_is_listed(status: int, word: str) -> None:
    assert re.search(
        rf"\b{status}( \||:)? (`[a-z-]+`, )*`{word}`", page_text("docs/http.md") + page_text("docs/websocket.md")
    )


@pytest.mark.parametrize(("status", "code"), sorted({(status, code) for _, status, code in CODES}))
def test_every_code_of_rongcloud_is_listed(status: int, code: int) -> None:
    assert re.search(rf"^\| {status} \| {code} \|", page_text("docs/http.md"), re.MULTILINE)


def test_endpoints_are_the_ones_that_are_served() -> None:
    # The one that the page shows the answer of.
    assert endpoints(all_text()) - SERVED - set(UNSUPPORTED) == {"/user/nothing.json"}
    assert SERVED - endpoints(page_text("docs/http.md")) == set()


def test_the_page_on_rongcloud_says_of_each_path_whether_it_is_there() -> None:
    rows = re.findall(r"^\| (`/user/.*?) \| (yes|1009) \| (.*?) ?\|$", page_text("docs/rongcloud.md"), re.MULTILINE)
    said = {path: (there, text) for paths, there, text in rows for path in endpoints(paths)}
    assert {path for path, (there, _) in said.items() if there == "yes"} == set(rongcloud.ENDPOINTS)
    assert {path: text for path, (there, text) in said.items() if there == "1009"} == UNSUPPORTED


@pytest.mark.parametrize(("path", "method"), sorted(v1.ENDPOINTS))
def test_every_method_of_v1_has_an_example(path: str, method: str) -> None:
    spelled = path.replace("{user}", "[a-z]+")
    assert re.search(rf"^\$ v1 {method} '?{spelled}\b", page_text("docs/http.md"), re.MULTILINE)


@pytest.mark.parametrize(("path", "method"), sorted(apps.ENDPOINTS))
def test_every_method_of_an_operator_has_an_example(path: str, method: str) -> None:
    spelled = path.replace("{app}", "[a-z]+").replace("{name}", "[a-z0-9-]+")
    assert re.search(rf"^\$ operator {method} {spelled}\b", page_text("docs/http.md"), re.MULTILINE)


@pytest.mark.parametrize(
    "path", sorted(path for path in rongcloud.ENDPOINTS if not re.search("blocklist|abandon", path))
)
def test_every_path_of_the_user_api_has_an_example(path: str) -> None:
    assert re.search(rf"^\$ signed {path}\b", page_text("docs/http.md"), re.MULTILINE)


def test_options_are_the_ones_of_serve() -> None:
    assert options_of_serve(page_text("docs/operations.md")) == {option.flag for option in OPTIONS.values()}


def test_metrics_are_the_ones_that_are_exported() -> None:
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported() if name.startswith("gate_")}
    assert metrics(all_text()) - families == set()
    assert families - metrics(page_text("docs/operations.md")) == set()
    info = page_text("docs/protocol.md")
    assert all(f"`{name}`" in info for name in NOT_METRICS)


def test_commands_of_the_command_line_exist() -> None:
    group = get_command(cli)
    for words in cli_commands(all_text()):
        assert words[0] in NOUNS, words
        noun = group.get_command(None, words[0])  # type: ignore[attr-defined]
        if len(words) > 1 and hasattr(noun, "commands"):
            assert words[1] in noun.commands, words


def test_settings_of_an_app_are_listed() -> None:
    listed = page_text("docs/operations.md").split("## Settings of an App")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \| `(--[a-z-]+)`", listed, re.MULTILINE)
    assert {name for name, _ in rows} == set(apps.Changing.__struct_fields__) - {"reason"}
    of_set = get_command(cli).get_command(None, "app").commands["set"]  # type: ignore[attr-defined]
    spelled = {option for parameter in of_set.params for option in parameter.opts}
    assert {option for _, option in rows} <= spelled


def test_states_of_the_replica_are_listed() -> None:
    table = dict(re.findall(r"^\| `([a-z-]+)` \| (\d) \|", page_text("docs/operations.md"), re.MULTILINE))
    assert table == {state.name.lower().replace("_", "-"): str(int(state)) for state in State}


def test_close_codes_of_the_websocket_are_listed_with_their_advice() -> None:
    rows = re.findall(
        r"^\| (\d{4}) \| `([a-z-]+)` \|.*\| (true|false)[^|]*\|$", page_text("docs/websocket.md"), re.MULTILINE
    )
    endings = {reason: (ending.code, ending.comes_back) for reason, ending in ENDINGS.items()}
    assert {reason: (int(code), back == "true") for code, reason, back in rows} == endings


def test_refusals_of_a_first_message_are_listed_with_their_advice() -> None:
    rows = re.findall(
        r"^\| ((?:`[a-z-]+`(?:, )?)+) \| (\d{4}) \| (true|false) \|", page_text("docs/websocket.md"), re.MULTILINE
    )
    listed = {
        word: (int(code), back == "true") for words, code, back in rows for word in re.findall(r"`([a-z-]+)`", words)
    }
    silent = {"silent": (ENDINGS["silent"].code, ENDINGS["silent"].comes_back)}
    assert listed == {word: tuple(one) for word, one in REFUSALS.items()} | silent


def test_limits_are_named_as_in_the_code_and_have_its_values() -> None:
    sources = {str(path.relative_to(REPOSITORY)): path.read_text() for path in (REPOSITORY / "gate").rglob("*.py")}
    for name, place, row in limits(page_text("docs/protocol.md") + page_text("docs/behaviour.md")):
        defined = re.compile(rf"^{name}\b.*=", re.MULTILINE)
        places = [one for one, text in sources.items() if place in (None, one) and defined.search(text)]
        modules = [import_module(one.removesuffix(".py").replace("/", ".")) for one in places]
        values = [getattr(module, name) for module in modules]
        assert values, f"{name} is not in {place or 'gate'}"
        assert all(one == values[0] for one in values), f"{name} has several values: name the file of {row}"
        assert shows(row, name, values[0]), f"{name} is {values[0]}: {row}"


@pytest.mark.parametrize("page", PAGES)
def test_modules_targets_and_files_exist(page: str) -> None:
    text = page_text(page)
    modules = re.findall(r"python3? -m ((?:scripts|loadtests|demo|tests)(?:\.\w+)*)", text)
    places = [REPOSITORY / module.replace(".", "/") for module in modules]
    assert [place for place in places if not place.is_dir() and not place.with_suffix(".py").is_file()] == []
    targets = re.findall(r"^([a-z-]+):", page_text("Makefile"), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= set(targets)
    roots = "gate|docs|tests|scripts|loadtests|examples|harness|models"
    files = re.findall(rf"`((?:{roots})/[\w./-]+\.(?:py|c|h|lua|md|toml|pml|pxi|json|svg|txt))[`:]", text)
    assert [file for file in files if not (REPOSITORY / file).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page_text(page)):
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(Path(target).read_text()), link


def test_the_index_has_every_page() -> None:
    index = REPOSITORY / "docs" / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in links(index.read_text())}
    pages = {*index.parent.glob("**/*.md"), *(REPOSITORY / "deploy").glob("**/*.md")} - {index}
    missing = sorted(str(page.relative_to(REPOSITORY)) for page in pages - listed)
    assert missing == [], "give each a line in docs/README.md"


def test_every_decision_is_reachable() -> None:
    written = {path.name for path in (REPOSITORY / "docs" / "decisions").glob("*.md")}
    linked = {
        Path(link.partition("#")[0]).name for page in PAGES for link in links(page_text(page)) if "decisions/" in link
    }
    assert written - linked == set()
    numbers = sorted(name[:4] for name in written)
    assert numbers == [f"{index:04d}" for index in range(1, len(numbers) + 1)]


def test_the_layout_has_a_line_for_each_folder() -> None:
    layout = page_text("README.md").split("## Repository layout")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `([a-z/]+)` \|", layout, re.MULTILINE))
    packages = {f"gate/{path.parent.name}" for path in (REPOSITORY / "gate").glob("*/__init__.py")}
    assert packages <= listed
    assert all((REPOSITORY / folder).is_dir() for folder in listed)
