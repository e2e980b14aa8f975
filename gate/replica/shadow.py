"""Shadow mode: an App's check that the rules deny is counted, and answered `allowed`.

`AppReading` calls `ShadowTally.answer` for denials, and counts its checks in `checks`. A role takes all counts of its Readings
every second (`Shadows.take`), so a check costs no more than some additions in memory; who does not take them, such as
`gate.Replica` in another program, holds bounded memory all the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from gate.core.shadow import ShadowCounts
from gate.core.verdict import ALLOWED, Verdict, Word

OnDenial = Callable[[str, bytes, bytes, Word], None]
"""(App key, sender, recipient, reason), for each denial that was answered `allowed`."""

# An answer in shadow mode does not change by itself.
ALLOWED_VERDICT = Verdict(ALLOWED, None)


class ShadowTally:
    """One App's counts since they were last taken. Its lock is held only to count denials, which threads may share."""

    __slots__ = ("_lock", "_on_denial", "app_key", "checks", "counts")

    def __init__(self, app_key: str, on_denial: OnDenial | None) -> None:
        self.app_key = app_key
        self.checks = 0
        self.counts = ShadowCounts()
        self._on_denial = on_denial
        self._lock = threading.Lock()

    def answer(self, sender: bytes | str, recipient: bytes | str, word: Word) -> Word:
        """Count a check, and return what it is answered."""
        self.checks += 1
        if word != ALLOWED:
            self._note(sender, recipient, word)
        return ALLOWED

    def answer_many(
        self, senders: Iterable[bytes | str], recipients: Iterable[bytes | str], words: Iterable[Word]
    ) -> list[Word]:
        """The same for many, in three columns; as many as the shortest has."""
        return list(map(self.answer, senders, recipients, words))

    def _note(self, sender: bytes | str, recipient: bytes | str, word: Word) -> None:
        a = sender.encode() if isinstance(sender, str) else sender
        b = recipient.encode() if isinstance(recipient, str) else recipient
        with self._lock:
            self.counts.note(a, b, word)
        if self._on_denial is not None:
            self._on_denial(self.app_key, a, b, word)

    def take(self) -> ShadowCounts:
        """Return the counts, and begin again at 0."""
        with self._lock:
            taken, self.counts = self.counts, ShadowCounts()
        taken.checks, self.checks = self.checks, 0
        return taken


class Shadows:
    """The tallies of all Apps in shadow mode, of one process."""

    def __init__(self) -> None:
        self.on_denial: OnDenial | None = None
        self._tallies: dict[str, ShadowTally] = {}

    def tally(self, app_key: str) -> ShadowTally:
        """The App's tally, made if it is needed for the first time."""
        return self._tallies.setdefault(app_key, ShadowTally(app_key, self._denied))

    def _denied(self, app_key: str, sender: bytes, recipient: bytes, word: Word) -> None:
        if self.on_denial is not None:
            self.on_denial(app_key, sender, recipient, word)

    def reasons(self, app_key: str) -> dict[str, int]:
        """The App's denials by reason since they were last taken."""
        known = self._tallies.get(app_key)
        return {} if known is None else dict(known.counts.reasons)

    def take(self) -> dict[str, ShadowCounts]:
        """Return the counts of the Apps that have any, and begin again at 0."""
        taken = {key: tally.take() for key, tally in list(self._tallies.items())}
        return {key: counts for key, counts in taken.items() if counts.checks or counts.reasons}
