"""How a WebSocket is closed: the message `closing`, then the close frame with its code. Called by `websocket`."""

from __future__ import annotations

import asyncio
import random
from typing import cast

import msgspec
from aiohttp import WSMsgType, web
from msgspec import UNSET

from gate.core.closing import ENDINGS, REFUSALS, reconnect_ms
from gate.errors import GateError
from gate.http.client.notices import Closing
from gate.http.errors import client_problem
from gate.http.room import AUTHENTICATE_WITHIN_S

CLOSE_WITHIN_S = 2.0
"""So long is waited for a client's own close frame."""


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
            request.transport.abort()


async def close_with(socket: web.WebSocketResponse, said: Closing, within_s: float = CLOSE_WITHIN_S) -> None:
    """Send the last message, and close. Raises `TimeoutError` if the client does not take it."""
    async with asyncio.timeout(within_s):
        await socket.send_frame(msgspec.json.encode(said), WSMsgType.TEXT)
        await socket.close(code=said.code, message=said.reason.encode())
