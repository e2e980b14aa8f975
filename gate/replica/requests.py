"""How anybody on the node asks the replicator for a fresh snapshot: by leaving a file in the Replica's directory.

A file, because it works over no connection and with no replicator running: the next one to start takes it up. The running
one looks a few times a second. Called by `gate replica rebuild`.
"""

from __future__ import annotations

from pathlib import Path

from gate.replica.files import REBUILD_FILE


def ask_to_rebuild(directory: Path) -> None:
    """Ask for the Replica in `directory` to be loaded anew; the old facts are served until then."""
    (directory / REBUILD_FILE).touch(mode=0o600)
