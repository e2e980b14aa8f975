"""redis-cli, with commands from a pipe, as scripts call it. Usage: redis_cli.py PORT KEY SECRET"""

from __future__ import annotations

import os
import subprocess
import sys

_, port, key, secret = sys.argv


def redis_cli(*commands: str) -> list[str]:
    """The lines that one run prints."""
    ran = subprocess.run(
        ["redis-cli", "-p", port, "--user", key],
        input="\n".join(commands),
        env={**os.environ, "REDISCLI_AUTH": secret},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.split("\n")[:-1]


checks = ["GATE.CHECK alice bob", "GATE.CHECK mallory bob"]
print("version", subprocess.check_output(["redis-cli", "--version"], text=True).split()[1])
print("check", *redis_cli(*checks))
print("pipeline", *redis_cli(*checks * 50))
# OK, and QUEUED for each command, come before the replies of EXEC.
print("transaction", *redis_cli("MULTI", *checks, "GATE.VERDICT mallory bob", "EXEC")[4:])
