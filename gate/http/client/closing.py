"""How a WebSocket is closed: the message `closing`, then the close frame with its code. Called by `websocket`."""

from __future__ import annotations

import asyncio
import random
from typing import cast

import msgspec
from aiohttp import WSMsgType, web
from msgspec import UNSET

from gate.core.closing import ENDINGS, REFUSALS, reconnect_ms
from gate.core.model import FOREVER_MS
from gate.core.presence import CloseReason, Verified
from gate.errors import GateError
from gate.http.client.notices import Closing
from gate.http.context import Deps
from gate.http.errors import client_problem
from gate.http.room import AUTHENTICATE_WITHIN_S

# So long is waited for a client's own close frame.
CLOSE_WITHIN_S = 2.0
# The kick may be here a moment before this Replica has the Ban, and says when it ends.
BAN_SEEN_WITHIN_S, BAN_LOOK_EVERY_S = 0.05, 0.005


async def end(socket: web.WebSocketResponse, deps: Deps, by: Verified, why: CloseReason, together: int) -> None:
    """Close the connection of a User for this reason, as one of so many. Raises `TimeoutError` as `close_with`."""
    ending = ENDINGS[why]
    said = Closing(
        reason=why,
        code=ending.code,
        message=ending.message,
        reconnect=ending.comes_back,
        # Spread, as those that are disconnected together would also be back together.
        reconnect_ms=reconnect_ms(together, random.random()) if ending.comes_back else None,
        until=await _ban_ends(deps, by) if why == "banned" else UNSET,
    )
    await close_with(socket, said)


async def refuse(
    request: web.Request, socket: web.WebSocketResponse, fault: GateError | TimeoutError, *, waits: bool
) -> None:
    """Close a connection that was opened without a Token, with the words of a refusal at the handshake.

    Unless it `waits` for the client's close frame, the connection ends with those words.
    """
    problem = None if isinstance(fault, TimeoutError) else client_problem(fault, "")
    spread_ms = reconnect_ms(1, random.random())
    if problem is None:
        ending = ENDINGS["silent"]
        said = Closing(
            reason="silent",
            code=ending.code,
            message=f"no Token came within {AUTHENTICATE_WITHIN_S:g} s: connect again",
            reconnect=ending.comes_back,
            reconnect_ms=spread_ms,
        )
    else:
        # The reasons of `closing` are shorter than the errors of the API: `banned` for `user-banned`.
        word = str(problem.body["error"]).removeprefix("user-")
        refusal = REFUSALS[word]
        wait_ms = int(problem.headers.get("Retry-After", "0")) * 1_000 + spread_ms
        said = Closing(
            reason=word,
            code=refusal.code,
            message=str(problem.body["message"]),
            reconnect=refusal.comes_back,
            reconnect_ms=wait_ms if refusal.comes_back else None,
            until=cast("int | None", problem.body["until"]) if "until" in problem.body else UNSET,
        )
    try:
        await close_with(socket, said, CLOSE_WITHIN_S if waits else 0)
    except (TimeoutError, ConnectionError):
        if request.transport is not None:
            # Else what it does not read would keep the connection.
            request.transport.abort()


async def close_with(socket: web.WebSocketResponse, said: Closing, within_s: float = CLOSE_WITHIN_S) -> None:
    """Send the last message, and close. Raises `TimeoutError` if the client does not take it."""
    async with asyncio.timeout(within_s):
        await socket.send_frame(msgspec.json.encode(said), WSMsgType.TEXT)
        await socket.close(code=said.code, message=said.reason.encode())


async def _ban_ends(deps: Deps, by: Verified) -> int | None:
    """When, by this node's facts; None for never."""
    waited_s = 0.0
    while True:
        with deps.replica as snapshot:
            app = snapshot.app(by.app.key)
            # Read again each time: a bracket must not outlast a wait.
            until_ms = 0 if app is None else app.user(by.user).banned_until_ms
        if until_ms > deps.now_ms() or waited_s >= BAN_SEEN_WITHIN_S:
            return until_ms if 0 < until_ms < FOREVER_MS else None
        await asyncio.sleep(BAN_LOOK_EVERY_S)
        waited_s += BAN_LOOK_EVERY_S
