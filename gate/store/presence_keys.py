"""Every key of Presence in Redis, and how its values are packed. No other file spells one.

Presence is sliced by App, and an App's by User (docs/decisions/0018): the hash tag keeps a copy of each lease, the Sessions
held under it, their counts and the feed of what changed in one slot, so that fencing is one step. The tag of slice 0 is
`{<app>}`, that of another one `{<app>/<slice>}`. Presence may have a Redis of its own.

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
    gate:{<app>}:slices                    string  the slicing, see `gate.core.slices`; in every slice, absent for one
    gate:{<app>}:moving                    hash    User -> all that is kept of it, msgpack, while it moves to another slice
    gate:{<app>}:mover                     hash    number, beat of the mover, in slice 0; in the others its number alone
    gate:{<app>}:growth                    stream  in slice 0, g: the slicing when a growth begins; once more at its end, with
                                                   the places where the old slices' feeds ended then, <epoch>-<seq>
    gate:{<app>}:shadow                    hash    in slice 0, of shadow mode, JSON: h<hour> -> checks and denials by reason;
                                                   d<day> -> denials of the most frequent senders, recipients and pairs
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
    "hook", "samples", "slices", "moving", "mover", "growth", "shadow",
)  # fmt: skip
"""Of every key of one App but those of who is held under a lease."""

_TAG = r"[A-Za-z0-9_-]{1,32}(/[1-9]\d?)?"
PATTERNS: list[str] = [
    rf"gate:\{{{_TAG}\}}:({'|'.join(NOUNS)})",
    rf"gate:\{{{_TAG}\}}:held:\d{{1,16}}:.{{1,64}}",
    r"gate:(presence-apps|presence-id|kicks)",
]
"""Regexes (DOTALL, from end to end) that every key of Presence matches one of."""


@lru_cache(maxsize=4_096)
def base(app: str, at: int = 0) -> bytes:
    """What every key of one slice of an App's Presence begins with; its scripts take this alone and add the noun."""
    return b"gate:{%b/%d}:" % (app.encode(), at) if at else b"gate:{%b}:" % app.encode()


def slices(app: str, at: int = 0) -> bytes:
    """How the App's Presence is sliced, as one slice knows it; slice 0 is right."""
    return base(app, at) + b"slices"


def moving(app: str, at: int) -> bytes:
    """Users that have left this slice and are not in their new one yet."""
    return base(app, at) + b"moving"


def mover(app: str, at: int = 0) -> bytes:
    """Who moves Users."""
    return base(app, at) + b"mover"


def growth(app: str) -> bytes:
    """When the App's Presence got more slices."""
    return base(app) + b"growth"


def leases(app: str, at: int = 0) -> bytes:
    """The App's Gateways and their leases."""
    return base(app, at) + b"leases"


def floors(app: str, at: int) -> bytes:
    """Below which place of a Changelog no connect may have been verified."""
    return base(app, at) + b"floors"


def sessions(app: str, at: int = 0) -> bytes:
    """The Sessions of every User that has one."""
    return base(app, at) + b"sessions"


def ending(app: str, at: int = 0) -> bytes:
    """Leases whose Sessions are being ended."""
    return base(app, at) + b"ending"


def leaving(app: str, at: int = 0) -> bytes:
    """Users whose departure is to be announced."""
    return base(app, at) + b"leaving"


def kept_by_user(app: str, at: int) -> list[bytes]:
    """The hashes that hold all there is of a User; one that changes from one to another is in a later one."""
    return [base(app, at) + noun for noun in (b"sessions", b"seen", b"left", b"bars")]


def feed(app: str, at: int = 0) -> bytes:
    """What changed, in order."""
    return base(app, at) + b"feed"


def feed_meta(app: str, at: int = 0) -> bytes:
    """The feed's epoch and head."""
    return base(app, at) + b"feed-meta"


def hook(app: str) -> bytes:
    """Which node delivers to the App's presence webhook, and how far; in slice 0."""
    return base(app) + b"hook"


def samples(app: str) -> bytes:
    """How many were online in all slices, a sample a slot of time; in slice 0."""
    return base(app) + b"samples"


def shadow(app: str) -> bytes:
    """What shadow mode counted; in slice 0."""
    return base(app) + b"shadow"


def held(app: str, epoch: int, gateway: bytes, at: int = 0) -> bytes:
    """Users with a Session under one lease; made by the scripts alone."""
    return base(app, at) + b"held:%d:%b" % (epoch, gateway)
