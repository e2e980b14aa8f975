"""The Positions of a Reading in the Changelogs, as Revisions. All functions are called inside a bracket."""

from __future__ import annotations

from collections.abc import Iterable

from gate.core.revision import Revision, partitions_of
from gate.replica.reading import Reading


def reaches(reading: Reading, revisions: Iterable[Revision]) -> bool | None:
    """Return whether all of these are applied; None if one belongs to a history that these facts do not follow."""
    reached = True
    for revision in revisions:
        record = reading.position(revision.partition)
        if record is None or record.epoch != revision.epoch:
            return None
        # No early return: a later Revision may belong to another history.
        reached = reached and record.seq >= revision.seq
    return reached


def applied_all(reading: Reading) -> tuple[Revision, ...]:
    """Return one Revision for each Partition with a history."""
    records = ((partition, reading.position(partition)) for partition in range(reading.partitions))
    return tuple(
        Revision(partition, record.epoch, record.seq) for partition, record in records if record and record.epoch
    )


def revision_of(reading: Reading, app_key: str, users: Iterable[bytes]) -> str:
    """Return the Revisions of these Users' Partitions, joined as by `join_revisions`; "" if none has a history."""
    # Formatted once per commit: `refresh` clears the texts when it moves.
    known = reading.revision_texts
    texts = []
    for partition in partitions_of(app_key, users, reading.partitions):
        text = known.get(partition)
        if text is None:
            at = reading.position(partition)
            text = known[partition] = str(Revision(partition, at.epoch, at.seq)) if at and at.epoch else ""
        if text:
            texts.append(text)
    return ",".join(texts)
