"""Facts in plain dicts, as a `FactsView` that the core decides from: the slowest and plainest implementation there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gate.core.model import NO_FACTS, AppFacts, ListKind, UserFacts
from tests.cases.loading import Case, Entry


class DictFacts:
    """One App's facts. List sizes are counted from the entries, ended ones included, as every implementation counts."""

    def __init__(self, app: AppFacts, users: Mapping[bytes, UserFacts], entries: Iterable[Entry]) -> None:
        self._app = app
        self._entries = {(entry.kind, entry.owner, entry.member): entry.until_ms for entry in entries}
        self._users = dict(users)
        for kind, owner, _ in self._entries:
            known = self._users.get(owner, NO_FACTS)
            self._users[owner] = (
                msgspec.structs.replace(known, blacklist_size=known.blacklist_size + 1)
                if kind is ListKind.BLACKLIST
                else msgspec.structs.replace(known, whitelist_size=known.whitelist_size + 1)
            )

    @classmethod
    def of(cls, case: Case) -> DictFacts:
        return cls(case.app, case.users, case.entries)

    @property
    def app(self) -> AppFacts:
        return self._app

    def user(self, user_id: bytes) -> UserFacts:
        return self._users.get(user_id, NO_FACTS)

    def entry_until_ms(self, kind: ListKind, owner: bytes, member: bytes) -> int:
        return self._entries.get((kind, owner, member), 0)
