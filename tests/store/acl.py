"""The least rights in Redis, as documented in docs/operations.md for pasting."""

from __future__ import annotations

import re
from pathlib import Path

from harness.servers import RedisServer

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
PASSWORD = "PASSWORD"
"""The rules as on the page."""


def documented_words(fence: str = "acl") -> list[str]:
    """Return the arguments of ACL SETUSER: the name, then rules. `fence` is "acl-sentinel" for the user at Sentinels."""
    (block,) = re.findall(rf"^```{fence}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    name, rules = "gate", list[str]()
    for line in block.splitlines():  # each a whole command, as pasted into redis-cli
        command, setuser, user, *some = line.split()
        assert (command, setuser, user) == ("ACL", "SETUSER", name)
        rules += some
    return [name, *rules]


def make_user(server: RedisServer) -> str:
    """Create the documented user on that server, without refusals so far. Returns the URL that uses it."""
    server.client.execute_command("ACL", "LOG", "RESET")
    server.client.execute_command("ACL", "SETUSER", *documented_words())
    return f"redis://gate:{PASSWORD}@127.0.0.1:{server.port}/0"


def change_user(server: RedisServer, *rules: str) -> None:
    """Give it other rights, as an operator might by mistake."""
    server.client.execute_command("ACL", "SETUSER", "gate", *rules)


def denied(server: RedisServer) -> set[str]:
    """Return what the server has refused since the last call, from its log of refusals."""
    entries: list[dict[bytes, bytes]] = server.client.execute_command("ACL", "LOG")
    server.client.execute_command("ACL", "LOG", "RESET")
    return {entry[b"object"].decode() for entry in entries}
