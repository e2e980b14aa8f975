"""Loads the facts: a part as an app server would send it, over the signed HTTP API; the rest by `gate import`.

Both ways answer once the write is effective on this node, so the trace may start right after.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from demo.dataset import Facts
from harness.service import Credentials
from harness.signing import signature_headers

USERS_A_CALL = 20
"""The API's limit on `userId` fields."""
BAN_MINUTES = 1_440
"""The API has no Ban without end; a day outlasts the demo."""
TIMEOUT_S = 30.0
SETTLED_S = 20.0
"""On a cluster, writes of the first seconds are not called effective everywhere: the list of nodes has to settle."""


class AdminRefused(RuntimeError):
    """The service refused a write, or could not make it effective."""


class AdminClient:
    """Signed calls of the RongCloud-compatible API on one connection."""

    def __init__(self, base_url: str, credentials: Credentials) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=TIMEOUT_S)
        self._credentials = credentials

    def call(self, path: str, fields: Sequence[tuple[str, str]]) -> None:
        """One write, repeated until it is effective on every node. Raises AdminRefused."""
        until_s = time.monotonic() + SETTLED_S
        while True:
            status, applied, body = self._ask(path, fields)
            if status == 200 and applied == "all":
                return
            if status != 200 or time.monotonic() > until_s:
                raise AdminRefused(f"{path}: {status}, applied to {applied}: {body.decode(errors='replace')}")

    def _ask(self, path: str, fields: Sequence[tuple[str, str]]) -> tuple[int, str | None, bytes]:
        headers = signature_headers(self._credentials.app_key, self._credentials.app_secret)
        self._connection.request("POST", path, urlencode(fields), headers)
        response = self._connection.getresponse()
        body = response.read()
        return response.status, response.headers.get("X-Gate-Applied"), body

    def close(self) -> None:
        self._connection.close()


class Imported(NamedTuple):
    """The summary that `gate import` prints."""

    entries: int
    entries_per_s: int


def impose_bans(client: AdminClient, banned: Iterable[int]) -> int:
    """Bans over HTTP; how many calls it took."""
    return _in_calls(client, "/user/block.json", banned, ("minute", str(BAN_MINUTES)))


def switch_whitelists_on(client: AdminClient, owners: Iterable[int]) -> int:
    """Whitelist switches over HTTP; how many calls it took."""
    return _in_calls(client, "/user/whitesetting/set.json", owners, ("whiteSetting", "1"))


def write_import_file(facts: Facts, path: Path) -> None:
    """Both kinds of list, as `gate import` reads them: one owner a line."""
    with path.open("w") as lines:
        for kind, lists in (("blacklist", facts.blacklists), ("whitelist", facts.whitelists)):
            for owner, members in sorted(lists.items()):
                if members:
                    fact = {"kind": kind, "owner": str(owner), "members": [str(member) for member in sorted(members)]}
                    lines.write(json.dumps(fact) + "\n")


def import_lists(path: Path, data: Path) -> Imported:
    """Runs `gate import` on the service's data directory. Raises AdminRefused."""
    command = [sys.executable, "-m", "gate", "import", str(path), "--data", str(data), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    summary: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    if summary.get("applied") != "all":
        raise AdminRefused(f"gate import ended with {done.returncode}: {done.stdout}{done.stderr}")
    return Imported(summary["entries"], summary["entries_per_second"])


def _in_calls(client: AdminClient, path: str, users: Iterable[int], last_field: tuple[str, str]) -> int:
    calls = 0
    for batch in _batches(sorted(users), USERS_A_CALL):
        client.call(path, [*(("userId", str(user)) for user in batch), last_field])
        calls += 1
    return calls


def _batches(users: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(users), size):
        yield users[start : start + size]
