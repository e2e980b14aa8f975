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


def texts_of_all(reading: Reading) -> list[str]:
    """Return the text of each Partition's Revision, of those with a history."""
    texts = [_text_of(reading, partition) for partition in range(reading.partitions)]
    return [text for text in texts if text]


def revision_of(reading: Reading, app_key: str, users: Iterable[bytes]) -> str:
    """Return the Revisions of these Users' Partitions, in order and joined by commas; "" if none has a history."""
    known = reading.revision_texts
    texts = []
    for partition in partitions_of(app_key, users, reading.partitions):
        # Nearly always known: a call for each would be a tenth of a check over HTTP.
        text = known[partition] if partition in known else _text_of(reading, partition)
        if text:
            texts.append(text)
    return ",".join(texts)


def _text_of(reading: Reading, partition: int) -> str:
    # Formatted once per commit: `refresh` clears the texts when it moves.
    text = reading.revision_texts.get(partition)
    if text is None:
        at = reading.position(partition)
        text = str(Revision(partition, at.epoch, at.seq)) if at and at.epoch else ""
        reading.revision_texts[partition] = text
    return text
