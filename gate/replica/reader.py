"""How programs read a Replica: `Replica` for any Python program, `NodeReplica` for Gate's own single-threaded roles.

Both only read: no network, no `await`, no lock against the writer. Every call sees the newest commit, so a check made after a
write was acknowledged gives the new Verdict. Hot workers, which bracket whole batches, use `reading.Reading` directly.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from gate.clock import wall_ms
from gate.core import token
from gate.core.ids import app_key, user_id
from gate.core.model import AppFacts, ListKind, UserFacts
from gate.core.presence import Verified
from gate.core.revision import Position, Revision
from gate.core.verdict import Verdict, Word
from gate.errors import AppUnknown, GateError, ReplicaError
from gate.native import core
from gate.replica import authorization
from gate.replica.app_reading import AppReading
from gate.replica.explain import Explained, explain
from gate.replica.layout import replica_dir
from gate.replica.positions import RevisionTexts, applied_all, reaches
from gate.replica.reading import DEFAULT_CACHED_USERS, Reading
from gate.replica.status_page import StatusView


class ReplicaStatus(NamedTuple):
    """What this node's Replica knows of itself; see `status_page.State`. `applied` holds one Revision a Partition."""

    state: str
    ready: bool
    stale_ms: int
    reloads: int
    file: str
    applied: tuple[Revision, ...]


class NodeReplica:
    """This node's Replica for one thread: all Apps, Positions, freshness.

    Each call is a bracket of its own, unless it is made within `one_commit`.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._bracket = _Bracket(reading)
        self._texts = RevisionTexts()

    @classmethod
    def open(cls, path: str | PathLike[str], *, cached_users: int = DEFAULT_CACHED_USERS) -> NodeReplica:
        """Open the Replica in `path`, a data directory or a Replica's own; `ReplicaMissing` if there is none yet."""
        return cls(Reading(replica_dir(Path(path)), cached_users))

    def one_commit(self) -> AbstractContextManager[object]:
        """A block whose reads are of one commit, in one transaction. It must not await; `status_page` is asked before it."""
        return self._bracket

    def app(self, key: str) -> AppView | None:
        """The App with this key, or None."""
        with self._bracket as reading:
            found = reading.app(key)
            return None if found is None else AppView(key, found.app, self._bracket)

    def app_facts(self, key: str) -> AppFacts | None:
        """The App's settings, or None."""
        with self._bracket as reading:
            found = reading.app(key)
            return None if found is None else found.app

    def verify_token(self, shown: str, now_ms: int) -> token.Claims:
        """What a valid Token says, by the facts of one commit; `TokenRefused` for any other."""
        with self._bracket as reading:
            return token.verify(shown, reading.app, now_ms)

    def admitted(self, shown: str, now_ms: int) -> Verified:
        """Whom a Token lets connect, by the facts of one commit; `TokenRefused`."""
        with self._bracket as reading:
            return authorization.admitted(reading, shown, now_ms)

    def admitted_anew(self, key: str, user: bytes, minted_at_ms: int, now_ms: int) -> Verified:
        """Whether a Token that was valid, minted then, lets its User connect now, its expiry aside; `TokenRefused`."""
        with self._bracket as reading:
            return authorization.admitted_anew(reading, key, user, minted_at_ms, now_ms)

    def may_stay(self, key: str, user: bytes, minted_at_ms: int, now_ms: int) -> Verified:
        """Whether whoever connected with a Token minted then may go on being connected; `TokenRefused`."""
        with self._bracket as reading:
            return authorization.may_stay(reading, key, user, minted_at_ms, now_ms)

    def applied_of(self, key: str, user: bytes) -> tuple[str, int]:
        """Epoch and seq of the User's Partition up to which its facts are here."""
        with self._bracket as reading:
            return authorization.applied_of(reading, key, user)

    def applied(self, partition: int) -> Position | None:
        """How far this Replica is in a Partition's Changelog."""
        with self._bracket as reading:
            record = reading.position(partition)
            return None if record is None else record.position

    def applied_all(self) -> tuple[Revision, ...]:
        """One Revision a Partition, of those that have a history."""
        with self._bracket as reading:
            return applied_all(reading)

    def reaches(self, revisions: Iterable[Revision]) -> bool | None:
        """Whether all of these are applied here; None if one is of a history that this Replica does not follow."""
        with self._bracket as reading:
            return reaches(reading, revisions)

    @property
    def partitions(self) -> int:
        """How many Partitions the deployment has."""
        with self._bracket as reading:
            return reading.partitions

    def revision_of(self, key: str, users: Iterable[bytes]) -> str:
        """How far the Partitions of these Users are applied; "" where none has a history."""
        with self._bracket as reading:
            return self._texts.of(reading, key, users)

    def decided(self, key: str, sender: bytes, recipient: bytes) -> tuple[AppFacts, str, Verdict] | None:
        """An App's settings, the Revision of the two Users and the Verdict, of one commit; None if there is no such App."""
        with self._bracket as reading:
            app = reading.app(key)
            if app is None:
                return None
            revision = self._texts.of(reading, key, (sender, recipient))
            return app.app, revision, app.decide(sender, recipient, wall_ms())

    def stale_ms(self) -> int:
        """For how long the facts were not known to be complete; 0 while fresh. Ask before they are read."""
        return self._reading.stale_ms()

    def status_page(self) -> StatusView:
        """What the replicator last said of itself, with the age of the facts. Ask before those are read."""
        return self._reading.view()

    def status(self) -> ReplicaStatus:
        """State, staleness and Positions together."""
        status_page = self.status_page()
        with self._bracket as reading:
            return _status(status_page, reading)

    def close(self) -> None:
        """Give the files back."""
        self._reading.close()


class AppView:
    """One App's decisions through a `NodeReplica`. Cheap; make one per request. `facts` are those at the time it was made."""

    __slots__ = ("_bracket", "_key", "facts")

    def __init__(self, key: str, facts: AppFacts, bracket: _Bracket) -> None:
        self._key = key
        self._bracket = bracket
        self.facts = facts

    def may(self, sender: bytes, recipient: bytes) -> bool:
        """May `sender` message `recipient`, now?"""
        return self.verdict(sender, recipient).allowed

    def verdict(self, sender: bytes, recipient: bytes) -> Verdict:
        """The Verdict with the moment at which it may change by itself."""
        with self._bracket as reading:
            return _app(reading, self._key).decide(sender, recipient, wall_ms())

    def words(self, senders: Sequence[bytes], recipients: Sequence[bytes]) -> list[Word]:
        """Verdict words for pairs given as two columns, in order, all of one commit."""
        with self._bracket as reading:
            return _app(reading, self._key).words(senders, recipients)

    def words_of(self, pairs: list[object]) -> tuple[list[Word], dict[str, int]]:
        """As `words`, for `[sender, recipient]` pairs of text; and how often each was given. `TypeError` for others."""
        with self._bracket as reading:
            return _app(reading, self._key).words_of(pairs)

    def words_to(self, sender: bytes, recipients: Sequence[bytes]) -> list[Word]:
        """Verdict words for one sender and many recipients, in order, all of one commit."""
        with self._bracket as reading:
            return _app(reading, self._key).words_to(sender, recipients)

    def explain(self, sender: bytes, recipient: bytes) -> Explained:
        """Every rule with its facts, and the Revisions the answer rests on."""
        with self._bracket as reading:
            return _explained(reading, self._key, sender, recipient)

    def user(self, user: bytes) -> UserFacts:
        """What is known of one User."""
        with self._bracket as reading:
            return _app(reading, self._key).user(user)

    def entry_until_ms(self, kind: ListKind, owner: bytes, member: bytes) -> int:
        """When the entry ends (`FOREVER_MS`: never), or 0 if there is none. One that has ended may still be found."""
        with self._bracket as reading:
            return _app(reading, self._key).entry_until_ms(kind, owner, member)


class Replica:
    """A node's Replica for any Python program: synchronous, thread-safe, sharing pages with the service.

    Ids are `str` (UTF-8) or `bytes`, 1 to 64 bytes; anything else raises `InvalidInput`. If the App is removed, checks raise
    `AppUnknown`. Source of the facts: the Changelog, through this node's replicator; `status.stale_ms` says how old they are.
    After a fork the child opens one of its own, which is refused where its parent had one open already.
    """

    def __init__(self, directory: Path, key: str, cached_users: int) -> None:
        self._directory = directory
        self._key = key
        self._cached_users = cached_users
        self._local = threading.local()
        self._readings: set[Reading] = set()
        self._closed = False

    @classmethod
    def open(cls, path: str | PathLike[str], *, app: str, cached_users: int = DEFAULT_CACHED_USERS) -> Replica:
        """Open the Replica in `path` (the service's data directory) for the App with key `app`.

        Raises `ReplicaMissing` if no service has run there, `ReplicaForeign` if the file can't be read, `AppUnknown`.
        """
        replica = cls(replica_dir(Path(path)), app_key(app), cached_users)
        try:
            with _Bracket(replica._reading()) as reading:
                _app(reading, app)
        except GateError:
            replica.close()
            raise
        return replica

    def may_send(self, sender: str | bytes, recipient: str | bytes) -> bool:
        """May `sender` message `recipient`, now? A third of a microsecond; about one where there is no compiled core."""
        # Ids are encoded in line and this thread's App kept at hand: a function call for each would be a third of the time.
        # An id's length is looked at when its facts are first loaded.
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
            with _Bracket(self._reading()) as reading:
                app = self._local.app = _app(reading, self._key)
                self._local.may_send_now = _left_open if app.checks is None else app.checks.may_send_now
        return app.word_now(a, b) == "allowed"

    def verdict(self, sender: str | bytes, recipient: str | bytes) -> Verdict:
        """The Verdict: its word, and the moment (Unix ms) at which it may change by itself, or None."""
        a, b = user_id(sender, "sender"), user_id(recipient, "recipient")
        with _Bracket(self._reading()) as reading:
            return _app(reading, self._key).decide(a, b, wall_ms())

    def may_send_many(self, sender: str | bytes, recipients: Iterable[str | bytes]) -> list[bool]:
        """One sender and many recipients, in order, all answered from one commit."""
        a = user_id(sender, "sender")
        many = [user_id(recipient, "recipient") for recipient in recipients]
        with _Bracket(self._reading()) as reading:
            return [word == "allowed" for word in _app(reading, self._key).words_to(a, many)]

    def explain(self, sender: str | bytes, recipient: str | bytes) -> Explained:
        """Every rule with its facts, and the Revisions the answer rests on."""
        a, b = user_id(sender, "sender"), user_id(recipient, "recipient")
        with _Bracket(self._reading()) as reading:
            return _explained(reading, self._key, a, b)

    @property
    def status(self) -> ReplicaStatus:
        """State, staleness and Positions. Ask for it before the verdict that its `stale_ms` is to count for."""
        reading = self._reading()
        status_page = reading.view()
        with _Bracket(reading):
            return _status(status_page, reading)

    def close(self) -> None:
        """Give the files back. Call it when no other thread is inside a call."""
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
                self._readings.add(known)
            self._local.lease = _Lease(known, self._readings)
            self._local.reading = known
        return known


# Over the Readings of all Replicas. Held across a fork, so that no other thread's hold on it stays in the child; reentrant,
# since a garbage collection in the middle may end another Replica.
_guard = threading.RLock()
os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release)


def _left_open(sender: object, recipient: object) -> None:
    """In the place of the core's `may_send_now`, where there is a core that is not trusted."""


class _Lease:
    """Lies among a thread's own variables and closes its Reading when the thread ends: a program may start a thread a request.

    It belongs to no cycle, so it goes at that very moment.
    """

    __slots__ = ("_reading", "_readings")

    def __init__(self, reading: Reading, readings: set[Reading]) -> None:
        self._reading = reading
        self._readings = readings

    def __del__(self) -> None:
        with _guard:
            self._readings.discard(self._reading)
            self._reading.close()


class _Bracket:
    """`refresh` on entry, `release` on exit; entered again inside, it does neither."""

    __slots__ = ("_depth", "_reading")

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._depth = 0

    def __enter__(self) -> Reading:
        if not self._depth:
            self._reading.refresh()
        self._depth += 1
        return self._reading

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._reading.release()


def _app(reading: Reading, key: str) -> AppReading:
    found = reading.app(key)
    if found is None:
        raise AppUnknown(f"no App has the key {key!r}")
    return found


def _explained(reading: Reading, key: str, sender: bytes, recipient: bytes) -> Explained:
    explained = explain(_app(reading, key), sender, recipient, wall_ms())
    explained["revisions"] = [str(revision) for revision in applied_all(reading)]
    return explained


def _status(status_page: StatusView, reading: Reading) -> ReplicaStatus:
    state = status_page.state.name.lower().replace("_", "-")
    return ReplicaStatus(
        state, status_page.ready, status_page.stale_ms, status_page.reloads, reading.file.name, applied_all(reading)
    )
