"""`Replica`, for any Python program, and what the roles ask of a `Reading`.

Both only read: no network, no `await`, no lock against the writer. Every call sees the newest commit, so a check after an
acknowledged write returns the new Verdict. Gate's own roles, which have one thread, use `reading.Reading` directly.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from gate.clock import wall_ms
from gate.core.ids import app_key, user_id
from gate.core.revision import Revision
from gate.core.verdict import Verdict
from gate.errors import AppUnknown, GateError, ReplicaError
from gate.native import core
from gate.replica.app_reading import AppReading
from gate.replica.explain import Explained, explain
from gate.replica.layout import replica_dir
from gate.replica.positions import applied_all, texts_of_all
from gate.replica.reading import DEFAULT_CACHED_USERS, Reading
from gate.replica.shadow import Shadows


class ReplicaStatus(NamedTuple):
    """The state of this node's Replica; see `status_page.State`. `applied` holds one Revision per Partition."""

    state: str
    ready: bool
    stale_ms: int
    reloads: int
    file: str
    applied: tuple[Revision, ...]


class Replica:
    """A node's Replica for any Python program: synchronous, thread-safe, sharing pages with the service.

    Ids are `str` (UTF-8) or `bytes`, 1 to 64 bytes; anything else raises `InvalidInput`. If the App is removed, checks raise
    `AppUnknown`. The facts come from the Changelog, through this node's replicator; `status.stale_ms` is their age. After a
    fork the child must open its own Replica. That is refused if its parent had this one open at the fork.
    """

    def __init__(self, directory: Path, key: str, cached_users: int) -> None:
        self._directory = directory
        self._key = key
        self._cached_users = cached_users
        self._local = threading.local()
        self._readings: set[Reading] = set()
        self._closed = False
        self._shadows = Shadows()

    @classmethod
    def open(cls, path: str | PathLike[str], *, app: str, cached_users: int = DEFAULT_CACHED_USERS) -> Replica:
        """Open the Replica in `path` (the service's data directory) for the App with key `app`.

        Raises `ReplicaMissing` if no service has run there, `ReplicaForeign` if the file can't be read, `AppUnknown`.
        """
        replica = cls(replica_dir(Path(path)), app_key(app), cached_users)
        try:
            with replica._reading() as reading:
                app_of(reading, app)
        except GateError:
            replica.close()
            raise
        return replica

    def may_send(self, sender: str | bytes, recipient: str | bytes) -> bool:
        """Return whether `sender` may message `recipient` now. 0.3 microseconds; about one without the compiled core."""
        # Ids are encoded inline and this thread's App is kept: a function call for each would be a third of the time. An
        # id's length is checked when its facts are first loaded.
        try:
            if core is not None:
                allowed: bool | None = self._local.may_send_now(sender, recipient)
                if allowed is not None:
                    return allowed
            a = sender if type(sender) is bytes else sender.encode()  # type: ignore[union-attr]
            b = recipient if type(recipient) is bytes else recipient.encode()  # type: ignore[union-attr]
            app: AppReading = self._local.app
        except (AttributeError, TypeError, IndexError, UnicodeEncodeError):
            a, b = user_id(sender, "sender"), user_id(recipient, "recipient")
            with self._reading() as reading:
                app = self._local.app = app_of(reading, self._key)
                self._local.may_send_now = _not_answered if app.checks is None else app.checks.may_send_now
        return app.word_now(a, b) == "allowed"

    def verdict(self, sender: str | bytes, recipient: str | bytes) -> Verdict:
        """Return the Verdict: its word, and the moment (Unix ms) at which it may change by itself, or None."""
        a, b = user_id(sender, "sender"), user_id(recipient, "recipient")
        with self._reading() as reading:
            return app_of(reading, self._key).decide(a, b, wall_ms())

    def may_send_many(self, sender: str | bytes, recipients: Iterable[str | bytes]) -> list[bool]:
        """Return whether `sender` may message each recipient, in order, all from one commit."""
        a = user_id(sender, "sender")
        many = [user_id(recipient, "recipient") for recipient in recipients]
        with self._reading() as reading:
            return [word == "allowed" for word in app_of(reading, self._key).words_to(a, many)]

    def explain(self, sender: str | bytes, recipient: str | bytes) -> Explained:
        """Return every rule with its facts, and the Revisions of the answer."""
        a, b = user_id(sender, "sender"), user_id(recipient, "recipient")
        with self._reading() as reading:
            return explained(reading, self._key, a, b)

    @property
    def is_shadow(self) -> bool:
        """Whether the App is in shadow mode: then every check answers `allowed`, and nothing is enforced."""
        with self._reading() as reading:
            return app_of(reading, self._key).app.shadow

    @property
    def shadow_denials(self) -> dict[str, int]:
        """How many checks of this object the rules denied by reason, while the App was in shadow mode."""
        return self._shadows.reasons(self._key)

    @property
    def status(self) -> ReplicaStatus:
        """State, staleness and Positions. Read it before the verdict to which its `stale_ms` shall apply."""
        return status_of(self._reading())

    def close(self) -> None:
        """Release the files. Call it when no other thread is inside a call."""
        with _guard:
            self._closed = True
            for reading in self._readings:
                reading.close()
            self._readings.clear()
        self._local = threading.local()

    def __enter__(self) -> Replica:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reading(self) -> Reading:
        known: Reading | None = getattr(self._local, "reading", None)
        if known is None:
            with _guard:
                if self._closed:
                    raise ReplicaError("this Replica was closed")
                known = Reading(self._directory, self._cached_users)
                known.shadows = self._shadows
                self._readings.add(known)
            self._local.lease = _ThreadGuard(known, self._readings)
            self._local.reading = known
        return known


# Guards the Readings of all Replicas. Held during a fork, so that no other thread holds it forever in the child. Reentrant,
# since a garbage collection inside a locked section may destroy another Replica.
_guard = threading.RLock()
os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release)


def _not_answered(sender: object, recipient: object) -> None:
    """Replaces the core's `may_send_now` if there is a core that is not trusted: None means "not answered"."""


class _ThreadGuard:
    """Thread-local guard that closes the thread's Reading when the thread ends: a program may start a thread per request.

    It is part of no reference cycle, so it is destroyed at that very moment.
    """

    __slots__ = ("_reading", "_readings")

    def __init__(self, reading: Reading, readings: set[Reading]) -> None:
        self._reading = reading
        self._readings = readings

    def __del__(self) -> None:
        with _guard:
            self._readings.discard(self._reading)
            self._reading.close()


def app_of(reading: Reading, key: str) -> AppReading:
    """Return the App's facts, inside a snapshot. Raises `AppUnknown`."""
    found = reading.app(key)
    if found is None:
        raise AppUnknown(f"no App has the key {key!r}")
    return found


def explained(reading: Reading, key: str, sender: bytes, recipient: bytes) -> Explained:
    """Return every rule with its facts, and the Revisions of the answer. Raises `AppUnknown`."""
    found = explain(app_of(reading, key), sender, recipient, wall_ms())
    found["revisions"] = texts_of_all(reading)
    return found


def status_of(reading: Reading) -> ReplicaStatus:
    """Return state, staleness and Positions together. Call it outside a bracket."""
    status_page = reading.view()  # before the facts, which may become newer
    state = status_page.state.name.lower().replace("_", "-")
    with reading:
        applied = applied_all(reading)
    return ReplicaStatus(
        state, status_page.ready, status_page.stale_ms, status_page.reloads, reading.file.name, applied
    )
