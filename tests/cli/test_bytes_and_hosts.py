"""Arguments that are no text, and names that no host can have, are refused in words, with the status of wrong usage."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Command

LONG = "a" * 64


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ((b"kick", b"ann", b"--platform", b"\xff"), "platform"),
        ((b"events", b"--gateway", b"\xff"), "gateway"),
        ((b"connect", b"--platform", b"\xff", b"token"), "platform"),
        ((b"app", b"list", b"--redis", b"redis://\xff"), "Redis URL"),
    ],
)
def test_an_argument_that_is_no_text(anyone: Command, call: tuple[bytes, ...], named: str) -> None:
    refused = anyone(*call, status=2)
    assert named in refused.err and refused.out == ""


@pytest.mark.parametrize("host", ["a..b", LONG, "%ff", "a%00b"])
def test_a_host_that_no_resolver_would_look_up(tmp_path: Path, host: str) -> None:
    nowhere = Command(tmp_path, "shop")
    assert "no host can have this name" in nowhere("app", "list", "--redis", f"redis://{host}", status=2).err


def test_hosts_of_other_options(tmp_path: Path) -> None:
    nowhere = Command(tmp_path, "shop")
    nowhere.env["GATE_OPERATOR_PASSWORD"] = "not asked for"
    for call in (
        ("--url", "https://a..b", "--operator", "ann", "app", "list"),
        ("connect", "token", "--http", "https://a..b"),
        ("serve", "--data", str(tmp_path), "--http", "a..b:80"),
        ("serve", "--data", str(tmp_path), "--redis", f"redis://{LONG}"),
    ):
        assert "no host can have this name" in nowhere(*call, status=2 if call[0] != "serve" else None).err, call
