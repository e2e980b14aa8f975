"""`gate events --follow`, as somebody watches it in a terminal: at once, across an outage of Redis, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gate.core.model import AppFacts
from harness.cable import Cable
from harness.servers import RedisServer
from harness.waiting import wait_until
from tests.cli.command import Command
from tests.presence.played import Gateway, presence_on

PATIENCE_S = 30
APP = AppFacts(key="some-app", secrets=("unused",))


@contextmanager
def following(folder: Path, url: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command at work, with what it prints in two files."""
    words = [sys.executable, "-m", "gate", "events", "--follow", "--app", APP.key, "--redis", url, *options]
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        environ = {**os.environ, "GATE_DATA": str(folder)}
        # Where the tests run in the background, Ctrl-C is ignored, and what they start would inherit that.
        running = subprocess.Popen(words, stdout=out, stderr=err, env=environ, preexec_fn=_heeds_ctrl_c)
        try:
            yield running
        finally:
            running.kill()
            running.wait()


def _heeds_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def test_it_goes_on_after_an_outage_and_says_where_it_stands(redis_server: RedisServer, tmp_path: Path) -> None:
    Command(tmp_path, APP.key, redis_server.url)("app", "create", "x", "--key", APP.key)
    store = presence_on(redis_server.url)
    gateway = await Gateway(store, APP).lease()
    out, err = tmp_path / "out", tmp_path / "err"
    await gateway.open(b"first")
    start = re.search(r"--since (\S+)", Command(tmp_path, APP.key, redis_server.url)("events").err)
    assert start
    with Cable(redis_server.port) as cable, following(tmp_path, cable.url, "--since", start[1]) as running:
        await gateway.open(b"ann")
        wait_until(lambda: " ann " in out.read_text(), PATIENCE_S, "the first event")
        with cable.cut_off():
            await gateway.open(b"bob")
            wait_until(lambda: "waiting for Redis" in err.read_text(), PATIENCE_S, "word of the outage")
        wait_until(lambda: " bob " in out.read_text(), PATIENCE_S, "what happened meanwhile")
        assert "Redis is back" in err.read_text()
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 130
    assert [line.split()[3] for line in out.read_text().splitlines()] == ["ann", "bob"]
    last = err.read_text().splitlines()[-1]
    onward = last.removeprefix("gate: go on with --since ")
    await gateway.open(b"eve")
    shown = Command(tmp_path, APP.key, redis_server.url)("events", "--since", onward).out
    assert [line.split()[3] for line in shown.splitlines()] == ["eve"]
    await store.client.aclose()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_json", [False, True])
async def test_a_signal_ends_it_with_the_cursor_to_go_on_from(
    redis_server: RedisServer, tmp_path: Path, ending: signal.Signals, is_json: bool
) -> None:
    gate = Command(tmp_path, APP.key, redis_server.url)
    gate("app", "create", "x", "--key", APP.key)
    store = presence_on(redis_server.url)
    gateway = await Gateway(store, APP).lease()
    await gateway.open(b"first")
    start = gate("events", "--json").json["cursor"]
    out, err = tmp_path / "out", tmp_path / "err"
    options = ["--json"] if is_json else []
    with following(tmp_path, redis_server.url, "--since", start, *options) as running:
        await gateway.open(b"ann")
        wait_until(lambda: "ann" in out.read_text(), PATIENCE_S, "the first event")
        running.send_signal(ending)
        assert running.wait(PATIENCE_S) == 130
    if is_json:
        *_, last = (json.loads(line) for line in out.read_text().splitlines())
        assert list(last) == ["cursor"]
        assert not err.read_text()
        onward = last["cursor"]
    else:
        onward = err.read_text().removeprefix("gate: go on with --since ").rstrip("\n")
    await gateway.open(b"eve")
    shown = gate("events", "--since", onward).out
    assert [line.split()[3] for line in shown.splitlines()] == ["eve"]
    await store.client.aclose()
