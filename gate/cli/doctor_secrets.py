"""The check of `gate doctor` that looks at how App secrets are stored, and at the file of keys that seal them."""

from __future__ import annotations

from collections.abc import Iterator

from gate.cli.findings import Finding, fail, ok, warn
from gate.cli.options import Target
from gate.cli.store_connection import StoreConnection, run_with
from gate.core.shown import counted
from gate.errors import InvalidConfig, Unavailable
from gate.sealing import keys_in_use, open_to_others, sealing_of

_SUBJECT = "App secrets"


def findings(target: Target) -> Iterator[Finding]:
    """Nothing while Redis is away: other checks say that."""

    async def work(connection: StoreConnection) -> list[str]:
        return [sealing_of(facts) for facts in await connection.store.apps.stored()]

    path = target.secret_key_file()
    try:
        sealings = run_with(target, work)
    except InvalidConfig as fault:
        yield fail(_SUBJECT, "; ".join(fault.problems), "restore the key file: without it secrets can't be opened")
        return
    except Unavailable:
        return
    keys, plain = keys_in_use(), sealings.count("")
    if path is not None and open_to_others(path):
        yield warn(_SUBJECT, f"the key file {path} can be read by others", f"chmod 600 {path}")
    if keys is None and plain == len(sealings):
        yield ok(_SUBJECT, "stored in plain text: --secret-key-file is not used")
    elif keys is None:
        sealed = counted(len(sealings) - plain, "App")
        yield warn(_SUBJECT, f"those of {sealed} are sealed, and no key file is known here", "set GATE_SECRET_KEY_FILE")
    elif other := sum(one != keys.current for one in sealings):
        problem = f"those of {counted(other, 'App')} are not sealed with the current key"
        yield warn(_SUBJECT, problem, "run `gate secrets seal`")
    else:
        yield ok(_SUBJECT, f"sealed with the key {keys.current}")
