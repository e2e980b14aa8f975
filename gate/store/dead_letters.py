"""Acts of people on an App's dead letters: in the audit before they are carried out, and then with their number.

If the number is missing in an entry, Redis became unreachable in between: some may be sent again or deleted, or none. Called by
the console and by `gate webhooks`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from gate.store.audit import WebhookAct
from gate.store.store import Store
from gate.store.writer import Attribution

# So that no step holds Redis or this process for long.
LETTERS_A_STEP = 200


async def act_on_letters(
    store: Store, app_key: str, kind: WebhookAct, because: Attribution, ids: Sequence[str] | None
) -> int:
    """Send these dead letters again, or delete them; None: all of the App. Returns how many there were.

    Raises `InvalidInput` for an id that no dead letter can have, before anything is recorded.
    """
    # Another App's dead letters are not this caller's to send or to delete.
    own = None if ids is None else [dead.id for dead in await store.webhooks.dead_letters(app_key, ids)]
    ordered = await store.audit.note_webhooks(app_key, kind, because, {})
    act = store.webhooks.replay if kind == "webhooks-replayed" else store.webhooks.drop
    many = await _on_all(store, app_key, act) if own is None else await act(own)
    await store.audit.note_webhooks(app_key, kind, because, {"letters": many}, ordered)
    return many


async def _on_all(store: Store, app_key: str, act: Callable[[Sequence[str]], Awaitable[int]]) -> int:
    many, cursor = 0, None
    while True:
        letters, cursor = await store.webhooks.dead_page(app_key, LETTERS_A_STEP, cursor)
        many += await act([dead.id for dead in letters])
        if cursor is None:
            return many
