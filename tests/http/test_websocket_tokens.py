"""What a Session on `/client/v1/connect` may do, and whether it stays, once its Token is good no more."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gate.core.model import AppFacts
from gate.core.token import signing_key
from gate.http.client.websocket import MAX_MESSAGES_A_SECOND
from harness.waiting import wait_until_async
from harness.websocket import Socket, connect, connected
from tests.http.test_client_blacklist import token_of
from tests.http.world import World, now_ms

SOON_S = 20.0
SHORT_S = 4
"""A Token's life: enough to connect with it on a busy machine."""


def with_settings(app: AppFacts, **settings: Any) -> AppFacts:
    return msgspec.structs.replace(app, **settings)


async def until_refused(client: Socket, word: str) -> None:
    async def is_refused() -> bool:
        await asyncio.sleep(1 / MAX_MESSAGES_A_SECOND)  # more is flooding, which is another matter
        return bool((await client.ask("blacklist", user="eve")).get("error") == word)

    await wait_until_async(is_refused, SOON_S, f"it to be answered {word}")


@pytest.mark.slow
async def test_one_whose_token_ended_may_stay_and_do_nothing_with_it(world: World) -> None:
    async with connected(world.url, token_of(with_settings(world.app, token_ttl_s=SHORT_S), "ann")) as ann:
        await until_refused(ann, "token-expired")
        assert (await ann.ask("presence", users=["ann"]))["error"] == "token-expired"
        assert (await ann.ask("block", users=["bob"]))["error"] == "token-expired"
        assert await world.word("bob", "ann") == "allowed"
        assert await ann.ask("ping") == {"type": "pong"}


async def test_a_client_whose_secret_was_dropped_may_stay_and_do_nothing(world: World) -> None:
    async with connected(world.url, token_of(world.app, "ann")) as ann:
        await world.set_app(with_settings(world.app, secrets=("secret-2", "secret-1")))
        assert "listed" in await ann.ask("blacklist", user="eve")  # both are taken
        await world.set_app(with_settings(world.app, secrets=("secret-2",)))
        assert (await ann.ask("presence", users=["ann"]))["error"] == "token-forged"
        assert (await ann.ask("block", users=["bob"]))["error"] == "token-forged"
        assert await world.word("bob", "ann") == "allowed"
        assert await ann.ask("ping") == {"type": "pong"}


@pytest.mark.slow
@pytest.mark.parametrize("are_kept", [True, False])
async def test_a_dropped_secret_puts_out_whom_it_let_in_where_the_app_says_so(world: World, are_kept: bool) -> None:
    """Tokens that are kept over a rotation keep their Sessions too."""
    old = await connect(world.url, token_of(world.app, "old"))
    kept = (signing_key(world.app.secrets[0]).hex(),) if are_kept else ()
    changed = {"secrets": ("secret-2",), "token_keys": kept}
    await world.set_app(with_settings(world.app, close_sessions_on_expire=True, **changed))
    new = await connect(world.url, token_of(world.app, "new"))
    short = await connect(world.url, token_of(with_settings(world.app, token_ttl_s=SHORT_S), "short"))
    if not are_kept:
        said, code = await old.closed()
        assert said is not None
        assert (said["reason"], said["reconnect"], code) == ("token-revoked", False, 4401)
    said, code = await short.closed()  # looked at in the same round as the others
    assert (said and said["reason"], code) == ("token-expired", 4402)
    for stays in (new, old) if are_kept else (new,):
        assert await stays.ask("ping") == {"type": "pong"}
    for one in (old, new, short):
        one.drop()


async def test_who_is_of_an_app_that_had_the_key_before_is_put_out(world: World) -> None:
    """It is made again before a node looks whether it is there."""
    old = await connect(world.url, token_of(world.app, "old"))
    await world.store.apps.remove(world.app.key, now_ms())
    another = msgspec.structs.replace(world.app, secrets=("secret-2",), created_at_ms=world.app.created_at_ms + 1)
    await world.store.apps.create(another, now_ms())
    said, _ = await old.closed()
    assert said is not None
    assert (said["reason"], said["reconnect"]) == ("app-removed", False)
