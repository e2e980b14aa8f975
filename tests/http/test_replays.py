"""Signatures that were seen on their way and are shown again, changed as far as a SHA-1 over joined strings lets them be."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from gate.core.signature import signature_of
from gate.webhooks.callback import callback_nonce, signed_url
from tests.http.world import World, now_ms, signed

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BLOCK = b"userId=u1&minute=5"


async def status(world: World, headers: dict[str, str]) -> int:
    return (await world.send("POST", "/user/block.json", BLOCK, {**FORM, **headers})).status


async def test_a_strict_app_takes_a_signature_once_however_it_is_cut(world: World) -> None:
    """The signature covers them joined, so the nonce's last zero may be shown as the timestamp's first."""
    await world.set_app(msgspec.structs.replace(world.app, strict_signature=True))
    sent = signed(world.app, nonce="1431400")
    assert await status(world, sent) == 200
    for zeros in (1, 2):
        moved = {**sent, "Nonce": "1431400"[:-zeros], "Timestamp": "0" * zeros + sent["Timestamp"]}
        assert await status(world, moved) == 400


@pytest.mark.parametrize("is_strict", [False, True])
@pytest.mark.parametrize("moved", [0, 1, 7, -4])
async def test_a_callback_s_signature_is_no_request_s(world: World, is_strict: bool, moved: int) -> None:
    """Its receiver, and a reader of its address in a log, must not be able to call Gate with it."""
    app = msgspec.structs.replace(world.app, strict_signature=is_strict, webhook_url="http://receiver.example/hook")
    await world.set_app(app)
    query = dict(parse_qsl(urlsplit(signed_url(app, app.webhook_url, callback_nonce(), now_ms())).query))
    nonce, timestamp = query["nonce"], query["signTimestamp"]
    assert query["signature"] == signature_of("secret-1", nonce, timestamp), "as its receiver verifies it"
    joined, cut = nonce + timestamp, moved or len(nonce)
    shown = {"App-Key": app.key, "Nonce": joined[:cut], "Timestamp": joined[cut:], "Signature": query["signature"]}
    assert await status(world, shown) in (400, 401)
    assert await world.word("u1", "x") == "allowed"
