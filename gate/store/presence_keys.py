"""Every key of Presence in Redis, and how its values are packed. No other file spells one.

Presence is sliced by App, not by Partition: the hash tag `{<app>}` keeps a lease, the Sessions held under it, their counts and
the feed of what changed in one slot, so that fencing is one step (docs/decisions/0010). It may lie in a Redis of its own.

    gate:{<app>}:leases                    hash    Gateway -> <epoch>:<beat>:<renewed or ended at, ms>:<1 while it holds>
    gate:{<app>}:sessions                  hash    User -> its Sessions, msgpack, see `SESSION_FIELDS`
    gate:{<app>}:held:<epoch>:<gateway>    set     Users with a Session under that lease
    gate:{<app>}:ending                    set     <epoch>:<gateway> whose Sessions are being ended
    gate:{<app>}:counts                    hash    <epoch>:<platform>:<gateway> -> Sessions
    gate:{<app>}:leaving                   zset    User -> when its oldest departure is to be announced, ms
    gate:{<app>}:left                      hash    User -> departures that are not announced yet, msgpack: platform -> facts
    gate:{<app>}:seen                      hash    User -> [last seen, last active], ms, msgpack
    gate:{<app>}:bars                      hash    User -> <epoch>:<seq> of the Change that closed its Sessions
    gate:{<app>}:barred                    zset    those Users by when that was, ms
    gate:{<app>}:floors                    hash    epoch of a Changelog -> seq below which no connect may have been verified
    gate:{<app>}:feed                      stream  presence changes and kicks, entry ids <seq>-0
    gate:{<app>}:feed-meta                 hash    epoch, seq
    gate:{<app>}:hook                      hash    of its presence webhook: owner, beat, free and cursor
    gate:{<app>}:samples                   stream  how many were online, entry ids <slot>-0: t at, ms  u Users
                                                   c Gateway, platform, Sessions, Gateway, ..., flat, msgpack
    gate:presence-apps                     set     Apps that have or had a lease
    gate:presence-id                       string  names this Presence, so that a node which would split it is refused
    gate:kicks                             hash    Partition -> Position in the Changelog up to which Sessions were closed
"""

from __future__ import annotations

from functools import lru_cache

APPS = b"gate:presence-apps"
ID = b"gate:presence-id"
KICKS = b"gate:kicks"

SESSION_FIELDS = ("id", "platform", "gateway", "epoch", "since_ms", "ip", "minted_at_ms", "active_ms")
"""Of one Session, an array; a User's Sessions are an array of these, the oldest first."""

NOUNS = (
    "leases", "sessions", "ending", "counts", "leaving", "left", "seen", "bars", "barred", "floors", "feed", "feed-meta",
    "hook", "samples",
)  # fmt: skip
"""Of every key of one App but those of who is held under a lease."""

_APP_KEY = r"[A-Za-z0-9_-]{1,32}"
PATTERNS: list[str] = [
    rf"gate:\{{{_APP_KEY}\}}:({'|'.join(NOUNS)})",
    rf"gate:\{{{_APP_KEY}\}}:held:\d{{1,16}}:.{{1,64}}",
    r"gate:(presence-apps|presence-id|kicks)",
]
"""Regexes (DOTALL, from end to end) that every key of Presence matches one of."""


@lru_cache(maxsize=1_024)
def base(app: str) -> bytes:
    """What every key of an App's Presence begins with; its scripts take this alone and add the noun."""
    return b"gate:{%b}:" % app.encode()


def leases(app: str) -> bytes:
    """The App's Gateways and their leases."""
    return base(app) + b"leases"


def sessions(app: str) -> bytes:
    """The Sessions of every User that has one."""
    return base(app) + b"sessions"


def ending(app: str) -> bytes:
    """Leases whose Sessions are being ended."""
    return base(app) + b"ending"


def leaving(app: str) -> bytes:
    """Users whose departure is to be announced."""
    return base(app) + b"leaving"


def feed(app: str) -> bytes:
    """What changed, in order."""
    return base(app) + b"feed"


def feed_meta(app: str) -> bytes:
    """The feed's epoch and head."""
    return base(app) + b"feed-meta"


def hook(app: str) -> bytes:
    """Who tells the App's presence webhook, and how far."""
    return base(app) + b"hook"


def samples(app: str) -> bytes:
    """How many were online, a sample a slot of time."""
    return base(app) + b"samples"


def held(app: str, epoch: int, gateway: bytes) -> bytes:
    """Users with a Session under one lease; made by the scripts alone."""
    return base(app) + b"held:%d:%b" % (epoch, gateway)
