"""Puts a case's facts into a Store, so that a running node answers its questions.

A live surface decides at the time of day, so for it the facts are moved: those that hold at the question's moment end an hour
from now or later, those that don't ended an hour ago or earlier. Which hold, and in what order they end, stays as written.
"""

from __future__ import annotations

import msgspec

from gate.core.model import FOREVER_MS, AppFacts
from gate.core.revision import Revision
from gate.store.store import Store, WriteReceipt
from tests.cases.loading import Case, Entry, Question

MARGIN_MS = 3_600_000
"""Far more than a test run takes: no fact ends while it is being asked about."""


def moved(case: Case, question: Question, now_ms: int, app_key: str) -> Case:
    """The case with one question, moved so that "now" is on the same side of every end as the question's moment was."""

    def end(until_ms: int) -> int:
        if until_ms in (0, FOREVER_MS):
            return until_ms
        margin_ms = MARGIN_MS if until_ms > question.at_ms else -MARGIN_MS
        return now_ms + margin_ms + until_ms - question.at_ms

    until_ms = question.expected.until_ms
    expected = question.expected._replace(until_ms=None if until_ms is None else end(until_ms))
    users = {
        user: msgspec.structs.replace(
            facts, banned_until_ms=end(facts.banned_until_ms), muted_until_ms=end(facts.muted_until_ms)
        )
        for user, facts in case.users.items()
    }
    entries = [entry._replace(until_ms=end(entry.until_ms)) for entry in case.entries]
    return Case(case.name, named(case, app_key), users, entries, [Question(*question[:2], now_ms, expected)])


def unmoved(case: Case, app_key: str) -> Case:
    """The case as written, in an App of its own."""
    return case._replace(app=named(case, app_key))


def named(case: Case, app_key: str) -> AppFacts:
    return msgspec.structs.replace(case.app, key=app_key)


async def put(store: Store, case: Case) -> list[Revision]:
    """Write the App and its facts; the Revisions to wait for."""
    app = case.app.key
    written = [await store.apps.create(case.app, 1)]
    for entry in case.entries:
        written.append(await _put_entry(store, app, entry))
    for user, facts in case.users.items():
        for restraints, until_ms in ((store.bans, facts.banned_until_ms), (store.mutes, facts.muted_until_ms)):
            if until_ms:
                written.append(await restraints.impose(app, [user], until_ms, 1))
        if facts.whitelist_on:
            written.append(await store.lists.switch(app, [user], True, 1))
        if facts.registered:
            written.append(await store.users.register(app, [user], 1))
        if facts.deactivated:  # last: a deactivated User may not be banned
            written.append((await store.deactivation.deactivate(app, [user], 1)).written)
    return [revision for one in written for revision in one.revisions]


async def _put_entry(store: Store, app: str, entry: Entry) -> WriteReceipt:
    # The moment of writing is long ago, since a list drops what has ended by then.
    return await store.lists.add(app, entry.kind, entry.owner, [entry.member], entry.until_ms, 1, None)
