"""The pages list for each scope what it opens, and the code agrees."""

from __future__ import annotations

import re

from gate.core.scopes import SCOPES
from gate.http import v1
from gate.wire.commands import COMMANDS
from tests.docs.pages import page_text


def rows(page: str, heading: str) -> dict[str, str]:
    """The table that begins with this heading: first cell -> second."""
    table = page_text(page).split(heading)[1].split("\n\n")[0]
    return dict(re.findall(r"^\| (.+?) \| (.+) \|$", table, re.MULTILINE))


def test_protocol_lists_the_commands_of_each_scope() -> None:
    listed = rows("docs/protocol.md", "| scope | commands |\n")
    said = {
        name: tuple(re.findall("`([a-z]+)`", scopes))
        for scopes, names in listed.items()
        for name in re.findall("`(GATE[.][A-Z]+)`", names)
    }
    assert said == {name.decode(): row.needs for name, row in COMMANDS.items() if row.needs}


def test_http_lists_the_endpoints_of_each_scope() -> None:
    listed = rows("docs/http.md", "| scope | opens |\n")
    assert [scope.strip("`") for scope in listed if scope.startswith("`")] == list(SCOPES)
    said: dict[str, str] = {}
    for scope, text in listed.items():
        last = ""
        for path in re.findall(r"`(?:[A-Z]+ )?(/[a-z0-9/{}-]+)`", text):
            # "/v1/presence/counts, /history": the second stands for another page of the first's family.
            last = path if path.startswith("/v1/") else last.rpartition("/")[0] + path
            said.setdefault(last, scope.strip("`"))
    kick = "/v1/users/{user}/kick"
    assert {path: said.get(path) for path, _ in v1.ENDPOINTS} == {
        path: endpoint.scopes[0] for (path, _), endpoint in v1.ENDPOINTS.items()
    }
    assert said[kick] == "users" and said["/v1/users/{user}/sessions"] == "presence"
