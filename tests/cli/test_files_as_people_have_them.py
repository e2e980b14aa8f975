"""Files with byte order marks, CRLF and trailing blank lines: each works, or is refused by name."""

from __future__ import annotations

import gzip
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.cli.forked import run_all

LINES = '{"kind":"ban","user":"ann","permanent":true}\r\n\r\n{"kind":"ban","user":"bob","permanent":true}\r\n\r\n\r\n'


@pytest.mark.parametrize("name", ["f.ndjson", "f.csv"])
def test_an_import_takes_a_byte_order_mark_and_crlf(name: str, gate: Command, tmp_path: Path) -> None:
    text = LINES if name.endswith("ndjson") else "kind,user,permanent\r\nban,ann,yes\r\n\r\nban,bob,yes\r\n\r\n"
    (tmp_path / name).write_bytes(text.encode("utf-8-sig"))
    gate("import", tmp_path / name)
    gate("import", "-", "--format", "csv" if name.endswith("csv") else "ndjson", stdin=text.encode("utf-8-sig"))
    assert sorted(row["user"] for row in gate.json("bans")["bans"]) == ["ann", "bob"]
    (tmp_path / f"16{name}").write_bytes(text.encode("utf-16"))
    refused = gate("import", tmp_path / f"16{name}", status=2).err
    assert "is UTF-16: save the file as UTF-8" in refused and "Traceback" not in refused


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_credentials_may_be_written_by_an_editor_of_windows(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_bytes('{\r\n"app_key": "some-app"\r\n}\r\n\r\n'.encode(encoding))
    ((status, err),) = run_all([["check", "a", "b"]], env={"GATE_DATA": str(tmp_path)})
    assert status == 3 and "no Replica" in err


def test_credentials_that_are_no_json_are_status_3(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("hunter2")
    ((status, err),) = run_all([["check", "a", "b"]], env={"GATE_DATA": str(tmp_path)})
    assert status == 3 and "is not what `gate serve` writes" in err and "hunter2" not in err


@pytest.mark.parametrize("options", [[], ["--strict"]])
def test_an_import_reads_what_can_be_read_only_once(options: list[str], gate: Command, tmp_path: Path) -> None:
    """As `gate import <(zcat facts.gz)` hands it over."""
    os.mkfifo(fifo := tmp_path / "facts.ndjson")
    packed = gzip.compress(LINES.encode("utf-8-sig"))
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(fifo.write_bytes, packed)
        gate("import", fifo, *options)
        writing.result()
    assert len(gate.json("bans")["bans"]) == 2
    gate("import", "/dev/stdin", "--format", "ndjson", *options, stdin=packed)


def test_a_file_of_a_byte_order_mark_alone_is_empty(gate: Command) -> None:
    for file_format in ("ndjson", "csv"):
        gate("import", "-", "--format", file_format, stdin=b"\xef\xbb\xbf\r\n")
    gate("import", "-", stdin=b"\xef\xbb\xbf")
