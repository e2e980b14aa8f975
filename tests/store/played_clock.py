"""A server whose clock a test sets: the scripts are the real ones, except that they read the time elsewhere.

A departure lasts a second before it is announced, and a fence a minute; steps of the server's clock must end neither. No test
can wait for a real clock, and no client can set a server's. So `PlayedClock` runs each script of Presence with its one
call of `TIME` replaced by a read of a key next to the App's others, which the test writes. `put_away` removes that key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import redis
from msgspec.structs import replace

from gate.store import presence_keys as keys
from gate.store.client import Client
from gate.store.link import Reply
from gate.store.scripts import Call, Script

_REAL = "redis.call('TIME')"
_PLAYED = "redis.call('HMGET', KEYS[1] .. 'clock', 's', 'us')"


class PlayedClock(Client):
    """A Client that runs scripts at the moment set with `set_clock`."""

    async def write(self, calls: Sequence[Call], behind: Sequence[Call] = ()) -> list[Reply]:
        """As `Client.write`."""
        return await super().write([replace(call, script=_clocked(call.script)) for call in calls], behind)

    async def write_each(self, calls: Sequence[Call]) -> list[Reply]:
        """As `Client.write_each`."""
        return await super().write_each([replace(call, script=_clocked(call.script)) for call in calls])


@cache
def _clocked(script: Script) -> Script:
    source = script.source.replace(_REAL, _PLAYED)
    return Script(script.name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def set_clock(client: redis.Redis, app: str, now_us: int, at: int = 0) -> None:
    """Set the moment in one slice of the App's Presence."""
    client.hset(_clock(app, at), mapping={"s": now_us // 1_000_000, "us": now_us % 1_000_000})


def put_away(client: redis.Redis, app: str, slices: int = 1) -> None:
    """Remove the key, which is not the store's."""
    client.delete(*(_clock(app, at) for at in range(slices)))


def _clock(app: str, at: int) -> bytes:
    return keys.base(app, at) + b"clock"
