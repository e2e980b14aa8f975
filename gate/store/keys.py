"""Every key of Gate in Redis, and every field of the hashes among them. No other file contains one.

The hash tag `{partition}` keeps all keys of one script in one Redis Cluster slot. An id is always the last part of a key, so
that it may hold any bytes: the part before it has exactly the colons of the patterns below.

    gate:{p}:meta                  hash    epoch, seq, tip; mark (`durability`); on a Cluster joined (`joins`); in Partition 0
                                           also partitions, schema
    gate:{p}:log                   stream  the Changelog, entry ids <seq>-0
    gate:{0}:apps                  hash    App key -> App, JSON
    gate:{0}:operators             hash    name -> operator, JSON, with the password's hash
    gate:{p}:user:<app>:<id>       hash    a User's facts, fields below; absent if there are none
    gate:{p}:black:<app>:<id>      zset    Blacklist of an owner: member -> order, newest highest
    gate:{p}:black-ends:<app>:<id> zset    of those entries that end: member -> until, ms
    gate:{p}:white:<app>:<id>      zset    Whitelist, likewise
    gate:{p}:white-ends:<app>:<id> zset    likewise
    gate:{p}:bans:<app>            zset    User -> until, ms
    gate:{p}:mutes:<app>           zset    User -> until, ms
    gate:{p}:users:<app>           zset    registered User -> since when, ms
    gate:{0}:quota:<app>           zset    User that has a place under the App's limit -> when it was reserved, ms
    gate:{p}:audit:<app>           stream  who did what to which User, and why; an entry's id is its moment
    gate:{p}:gone:<app>            zset    deactivated User -> since when, ms
    gate:{p}:jobs                  zset    <app>:<id> whose facts are to be erased -> how often a worker has claimed it
    gate:{p}:hooks                 stream  results to be sent to Apps' webhooks
    gate:{p}:hooks-dead            stream  results that were given up
    gate:{p}:hook-last:<app>       hash    what became of the latest attempt to send one of them: at, outcome, problem
    gate:{p}:nonces:<app>          zset    a used nonce of a signature -> until when the signature may be valid, ms
    gate:{0}:deployment-audit      stream  changes of Apps and operators, and facts that were lost
    gate:{0}:console-sessions      hash    id of a session of the console -> whose it is, since when, its last request, JSON
    gate:{0}:settings              hash    values that all nodes share: lease-ttl-ms, presence (its id)
    gate:registry                  hash    node/<node id> -> run, beat, lease in ms, offset of its clock in ms;
                                           marker -> incarnation, server id, whether it is settled; on a Cluster
                                           joins -> how often a lease was taken
    gate:applied                   channel announcements of what each node has applied
    gate:ask                       channel requests to all nodes to repeat their announcements
    gate:report-ask                channel requests to all nodes for their reports
    gate:report                    channel those reports, msgpack

The keys of Presence, which may be in another Redis, are in `presence_keys`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gate.core.model import ListKind
from gate.store.presence_keys import PATTERNS as PRESENCE_PATTERNS

NODES = b"gate:registry"
APPLIED_CHANNEL = b"gate:applied"
ASK_CHANNEL = b"gate:ask"
REPORT_ASK_CHANNEL = b"gate:report-ask"
REPORT_CHANNEL = b"gate:report"

META_EPOCH, META_SEQ, META_TIP = b"epoch", b"seq", b"tip"
META_PARTITIONS, META_SCHEMA = b"partitions", b"schema"
SCHEMA_VERSION = b"1"
# The schema while a backup is restored, with the backup's checksum behind it.
RESTORING_SCHEMA = b"restoring "

BANNED_UNTIL, BANNED_WHY, BANNED_BY = b"b", b"bw", b"bb"
MUTED_UNTIL, MUTED_WHY, MUTED_BY = b"m", b"mw", b"mb"
# REGISTERED_AT is empty for an erased User that was registered at its deactivation.
DEACTIVATED_AT, REGISTERED_AT = b"d", b"r"
NAME, PORTRAIT = b"n", b"i"
WHITELIST_ON = b"w"
TOKENS_VALID_FROM = b"v"
# The latest moment of a Token of the User.
TOKENS_MINTED_TO = b"t"
# No Token is minted before this moment: Tokens were revoked ahead of time.
TOKENS_HELD_UNTIL = b"h"
# The id of the operation that deactivated the User.
OPERATION = b"o"

# The field whose moment each index of Users holds, by the index's noun.
INDEXED_FIELDS = {"bans": BANNED_UNTIL, "mutes": MUTED_UNTIL, "users": REGISTERED_AT, "gone": DEACTIVATED_AT}

LIST_WORD = {ListKind.BLACKLIST: "black", ListKind.WHITELIST: "white"}

# The nouns of a User's keys: facts, then entries and ends of each list.
USER_NOUNS = ("user", "black", "black-ends", "white", "white-ends")

_APP_KEY = r"[A-Za-z0-9_-]{1,32}"
_USER_KEY = rf"(user|black|black-ends|white|white-ends):({_APP_KEY}):(.{{1,64}})"

# Regexes (DOTALL, from end to end). Every key matches one of them; the key audit of the tests uses them.
PATTERNS: list[str] = [
    r"gate:\{\d{1,4}\}:(meta|log|jobs|hooks|hooks-dead)",
    r"gate:\{0\}:(apps|operators|console-sessions|settings|deployment-audit)",
    r"gate:\{0\}:badges-ended",  # cookies of version 0.6 that were signed out, which are no longer read
    rf"gate:\{{\d{{1,4}}\}}:(bans|mutes|users|audit|gone|nonces|hook-last):{_APP_KEY}",
    rf"gate:\{{0\}}:quota:{_APP_KEY}",
    rf"gate:\{{\d{{1,4}}\}}:{_USER_KEY}",
    r"gate:registry",
    r"gate:nodes",  # leases of version 0.1, which are no longer read
    *PRESENCE_PATTERNS,
]

ALL_PARTITIONS_GLOB = b"gate:{*}:*"
ENDS_GLOB = b"gate:{*}:*-ends:*"

_PARSED = re.compile(rf"gate:\{{(\d{{1,4}})\}}:{_USER_KEY}".encode(), re.DOTALL)
_INDEX = re.compile(rf"gate:\{{(\d{{1,4}})\}}:({'|'.join(INDEXED_FIELDS)}):({_APP_KEY})".encode())


# Keys of a Partition, or of an App in one, are made once: a write needs four of them, and always the same.
_made_once = lru_cache(maxsize=8_192)


class UserKey(NamedTuple):
    """The parts of a key that belongs to one User. `noun` is `user`, `black`, `black-ends`, `white` or `white-ends`."""

    partition: int
    noun: str
    app: str
    user: bytes


@_made_once
def meta(partition: int) -> bytes:
    """A Partition's epoch, head and tip."""
    return b"gate:{%d}:meta" % partition


@_made_once
def log(partition: int) -> bytes:
    """A Partition's Changelog."""
    return b"gate:{%d}:log" % partition


def apps() -> bytes:
    """All Apps, in Partition 0."""
    return b"gate:{0}:apps"


def operators() -> bytes:
    """All operators, in Partition 0."""
    return b"gate:{0}:operators"


def settings() -> bytes:
    """Values that all nodes of the deployment share, in Partition 0."""
    return b"gate:{0}:settings"


def deployment_audit() -> bytes:
    """Changes of Apps and operators, in Partition 0. The removal of an App does not delete it."""
    return b"gate:{0}:deployment-audit"


def console_sessions() -> bytes:
    """Sessions of the console, in Partition 0."""
    return b"gate:{0}:console-sessions"


def revoked_cookies() -> bytes:
    """Session cookies of version 0.6 that were signed out, in Partition 0; deleted with the next sign-in."""
    return b"gate:{0}:badges-ended"


@_made_once
def facts_prefix(partition: int, app: str) -> bytes:
    """The beginning of the keys of a Partition's Users of one App; the id follows."""
    return b"gate:{%d}:user:%b:" % (partition, app.encode())


def user(partition: int, app: str, user_id: bytes) -> bytes:
    """A User's facts."""
    return facts_prefix(partition, app) + user_id


def entries(partition: int, kind: ListKind, app: str, owner: bytes) -> bytes:
    """The entries of one owner's list, by order."""
    return b"gate:{%d}:%b:%b:%b" % (partition, LIST_WORD[kind].encode(), app.encode(), owner)


def ends(partition: int, kind: ListKind, app: str, owner: bytes) -> bytes:
    """The ends of those entries of one owner's list that have one."""
    return b"gate:{%d}:%b-ends:%b:%b" % (partition, LIST_WORD[kind].encode(), app.encode(), owner)


def user_key(partition: int, noun: str, app: str, user_id: bytes) -> bytes:
    """The key of a User with one of `USER_NOUNS`."""
    return user_prefix(partition, noun) + b"%b:%b" % (app.encode(), user_id)


def user_prefix(partition: int, noun: str) -> bytes:
    """The beginning of all such keys, up to the App key."""
    return b"gate:{%d}:%b:" % (partition, noun.encode())


@_made_once
def bans(partition: int, app: str) -> bytes:
    """A Partition's banned Users of one App, by end."""
    return b"gate:{%d}:bans:%b" % (partition, app.encode())


@_made_once
def mutes(partition: int, app: str) -> bytes:
    """A Partition's muted Users of one App, by end."""
    return b"gate:{%d}:mutes:%b" % (partition, app.encode())


def users(partition: int, app: str) -> bytes:
    """A Partition's registered Users of one App, by moment of registration."""
    return b"gate:{%d}:users:%b" % (partition, app.encode())


def quota(app: str) -> bytes:
    """Users that count against the App's limit, in Partition 0."""
    return b"gate:{0}:quota:%b" % app.encode()


@_made_once
def audit(partition: int, app: str) -> bytes:
    """Actions on a Partition's Users of one App; in Partition 0 also on the App itself."""
    return b"gate:{%d}:audit:%b" % (partition, app.encode())


def gone(partition: int, app: str) -> bytes:
    """A Partition's deactivated Users of one App, by moment of deactivation."""
    return b"gate:{%d}:gone:%b" % (partition, app.encode())


def jobs(partition: int) -> bytes:
    """Users of a Partition whose facts are to be erased, by number of claims."""
    return b"gate:{%d}:jobs" % partition


def job(app: str, user_id: bytes) -> bytes:
    """A member of `jobs`."""
    return b"%b:%b" % (app.encode(), user_id)


def hooks(partition: int) -> bytes:
    """Results to be sent to Apps."""
    return b"gate:{%d}:hooks" % partition


def dead_hooks(partition: int) -> bytes:
    """Results that could not be delivered."""
    return b"gate:{%d}:hooks-dead" % partition


def hook_last(partition: int, app: str) -> bytes:
    """What became of the latest attempt to send a result of a Partition's Users to the App."""
    return b"gate:{%d}:hook-last:%b" % (partition, app.encode())


def app_glob(app: str) -> bytes:
    """A SCAN pattern for every User's key of one App. Ids hold colons, so check each match with `parse`."""
    return b"gate:{*}:*:%b:*" % app.encode()


def nonces(partition: int, app: str) -> bytes:
    """Used nonces of one App, by the end of their signatures' validity."""
    return b"gate:{%d}:nonces:%b" % (partition, app.encode())


def index(partition: int, noun: str, app: str) -> bytes:
    """A Partition's index of one App's Users; `noun` is one of `INDEXED_FIELDS`."""
    return b"gate:{%d}:%b:%b" % (partition, noun.encode(), app.encode())


def parse_index(key: bytes) -> tuple[int, str, str] | None:
    """Partition, noun and App of an index; None for any other key."""
    found = _INDEX.fullmatch(key)
    return (int(found[1]), found[2].decode(), found[3].decode()) if found else None


def parse(key: bytes) -> UserKey | None:
    """The parts of a key that belongs to one User; None for any other key."""
    found = _PARSED.fullmatch(key)
    return UserKey(int(found[1]), found[2].decode(), found[3].decode(), found[4]) if found else None
