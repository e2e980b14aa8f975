"""The host lines of docs/rongcloud-sdks.md: a request goes where each SDK sends it, if the page's line is followed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conformance.gate import Gate, request_bytes
from tests.conformance.replays import FORM, any_user, ok, seconds, signed

PAGE = Path(__file__).parents[2] / "docs" / "rongcloud-sdks.md"
JOINED = {
    ".NET": "/user/block.json",
    "Go": "/user/block.json",
    "Java": "/user/block.json",
    "PHP": "user/block" + ".json",
}
"""What each puts behind its host, with nothing between: read in its source."""


@pytest.mark.parametrize("language", list(JOINED))
def test_the_host_of_the_page_and_the_path_of_the_sdk_meet(gate: Gate, language: str) -> None:
    line = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| {language} "))
    hosts = re.findall(r"['\"](http://gate[^'\"]*)['\"]", line)
    assert hosts, line
    for host in hosts:
        address = re.fullmatch(r"http://gate(?:-\d)?:8080(/.*)", host + JOINED[language])
        assert address is not None, f"{host}{JOINED[language]} is no address"
        user = any_user()
        body = f"userId={user}&minute=1".encode()
        headers = {
            "Host": "gate",
            **signed(gate, "1", seconds(), "RC-" if language == "PHP" else ""),
            "Content-Type": FORM,
        }
        ok(gate.replay(request_bytes(address[1], {**headers, "Content-Length": str(len(body))}, body)))
        assert gate.verdict(user, "x") == "sender-banned"
