"""Logs: one line an event, in both forms, and no secret gets through either guard."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from gate.logs import configure_logs, scrub, without_secrets


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:hunter2@host:1/0", "redis://user:***@host:1/0"),
        ("rediss://:hunter2@host", "rediss://:***@host"),
        ("cannot reach redis://:hunter2@a and redis://u:hunter2@b", "cannot reach redis://:***@a and redis://u:***@b"),
        ("GET /client/v1/connect?token=hunter2&x=1", "GET /client/v1/connect?token=***&x=1"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("a@b: c", "a@b: c"),
    ],
)
def test_passwords_and_tokens_are_blotted_out_of_any_text(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize("name", ["app_secret", "token", "Password", "signature", "Authorization"])
def test_a_field_with_a_telling_name_is_never_shown(name: str) -> None:
    event = {"event": "x", name: "hunter2"}
    scrub(event)
    assert "hunter2" not in str(event)


@pytest.mark.parametrize("form", ["text", "logfmt", "json", "auto"])
def test_an_event_is_one_line_on_stderr(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", form, "tester")  # type: ignore[arg-type]
    structlog.get_logger("gate.tests").info("it\nhappened", where="a\r\nb", url="redis://:hunter2@h")
    structlog.get_logger().debug("unheard")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "hunter2" not in captured.err
    assert "tester" in captured.err


@pytest.mark.parametrize(
    ("on_terminal", "line"),
    [
        (False, r'event="it happened" n=2 ok=true why="a=\"b\" \\x1b[2J" who=ann'),
        (True, "event='it happened' n=2 ok=True"),
    ],
)
def test_a_program_gets_logfmt_and_a_terminal_gets_text(
    on_terminal: bool, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal)
    configure_logs("info", "auto", "tester")
    structlog.get_logger().info("it happened", n=2, ok=True, why='a="b" \x1b[2J', who="ann")
    assert line in capsys.readouterr().err


def test_a_crash_is_one_line_as_well() -> None:
    code = (
        "from gate.logs import configure_logs; configure_logs('info', 'json', 'x'); raise ValueError('a://u:hunter2@h')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert (json.loads(line)["event"], json.loads(line)["level"]) == ("crashed", "critical")
    assert "hunter2" not in line


def test_what_libraries_log_passes_the_same_guards(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json", "tester")
    try:
        raise ValueError("redis://:hunter2@h is broken")
    except ValueError:
        logging.getLogger("some.library").exception("it broke at %s", "redis://:hunter2@h")
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["logger"], event["level"], event["role"]) == ("some.library", "error", "tester")
    assert "ValueError" in event["exception"]
    assert "hunter2" not in line


def test_an_event_is_one_write_so_lines_of_several_processes_never_mix() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # keeps apart what was written apart
    setup = "configure_logs('info', 'json', 'x'); import structlog; log = structlog.get_logger()"
    program = f"from gate.logs import configure_logs; {setup}; log.info('one'); log.info('two')"
    with ours, theirs:
        subprocess.run([sys.executable, "-c", program], stderr=theirs.fileno(), check=True, timeout=30)
        ours.setblocking(False)
        written = [ours.recv(4_096) for _ in range(2)]
        with pytest.raises(BlockingIOError):
            ours.recv(4_096)
    assert [json.loads(line)["event"] for line in written] == ["one", "two"]
    assert all(line.endswith(b"\n") for line in written)
