"""The checks of `gate doctor` on Apps: how their secrets are stored and sealed, and which Apps enforce nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gate.cli.findings import Finding, fail, ok, warn
from gate.cli.options import Target
from gate.cli.store_connection import StoreConnection, run_with
from gate.core.model import AppFacts
from gate.core.shown import counted
from gate.errors import InvalidConfig, Unavailable
from gate.sealing import keys_in_use, open_to_others, sealing_of

# A line of a terminal; `gate app list` has them all.
MAX_SHOWN = 8
_SECRETS = "App secrets"


def findings(target: Target) -> Iterator[Finding]:
    """Nothing while Redis is away: other checks say that."""

    async def work(connection: StoreConnection) -> Sequence[AppFacts]:
        # As they are stored: with a sealed secret unopened, so that one which no key opens is found too.
        return await connection.store.apps.stored()

    path = target.secret_key_file()
    try:
        apps = run_with(target, work)
    except InvalidConfig as fault:
        yield fail(_SECRETS, "; ".join(fault.problems), "restore the key file: without it secrets can't be opened")
        return
    except Unavailable:
        return
    yield from _sealing(path, [sealing_of(facts) for facts in apps])
    yield from _shadow(sorted(facts.key for facts in apps if facts.shadow))


def _sealing(path: str | None, sealings: list[str]) -> Iterator[Finding]:
    keys, plain = keys_in_use(), sealings.count("")
    if path is not None and open_to_others(path):
        yield warn(_SECRETS, f"the key file {path} can be read by others", f"chmod 600 {path}")
    if keys is None and plain == len(sealings):
        yield ok(_SECRETS, "stored in plain text: --secret-key-file is not used")
    elif keys is None:
        sealed = counted(len(sealings) - plain, "App")
        yield warn(_SECRETS, f"those of {sealed} are sealed, and no key file is known here", "set GATE_SECRET_KEY_FILE")
    elif other := sum(one != keys.current for one in sealings):
        problem = f"those of {counted(other, 'App')} are not sealed with the current key"
        yield warn(_SECRETS, problem, "run `gate secrets seal`")
    else:
        yield ok(_SECRETS, f"sealed with the key {keys.current}")


def _shadow(keys: list[str]) -> Iterator[Finding]:
    if keys:
        more = f" and {len(keys) - MAX_SHOWN} more" if len(keys) > MAX_SHOWN else ""
        shown = ", ".join(keys[:MAX_SHOWN]) + more
        advice = "if they shall be enforced: gate app set KEY --no-shadow"
        yield warn("shadow mode", f"every check is answered allowed, for {shown}", advice)
