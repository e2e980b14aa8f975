"""Places where an id still occurs after its User was erased. The store and the Replica report them for the erasure audit."""

from __future__ import annotations

from typing import NamedTuple


class Occurrence(NamedTuple):
    """A place, the number of occurrences there, and whether the documentation says that they stay after an erasure."""

    place: str
    times: int
    is_documented: bool


class Tally:
    """Counts occurrences by place."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, bool], int] = {}

    def add(self, place: str, is_documented: bool, count: int = 1) -> None:
        """Add occurrences."""
        if count:
            self._found[place, is_documented] = self._found.get((place, is_documented), 0) + count

    def all(self) -> list[Occurrence]:
        """Return the rows, undocumented occurrences first."""
        rows = [Occurrence(place, times, documented) for (place, documented), times in self._found.items()]
        return sorted(rows, key=lambda row: (row.is_documented, row.place))
