"""The rights that a Redis user needs for Gate, and which of them are missing.

Rights are tested by trying, which works on every server and needs no right to read ACLs: a server checks them when a command
is queued after MULTI. Queued commands never run: the connection is closed instead. Rights are tested at the start, because a
script that meets a missing right halfway has already written; and again by the background role and by `gate doctor`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gate.errors import StoreUnavailable
from gate.store import keys, presence_keys
from gate.store.client import Client
from gate.store.link import Command, Link, LinkLost, Reply, ReplyError

KEY_PATTERN, CHANNEL_PATTERN = "~gate:*", "&gate:*"
MAX_SHOWN = 8

# Matches refusals of a key or channel, not of the command. Redis 6.2 and 7 say "one of the keys", later ones "a key".
_PLACE = re.compile(r"permissions to access (?:a|one of the) (key|channel)")

_K = b"gate:{0}:meta"
_FACTS, _PRESENCE, _BOTH = "facts", "presence", "both"


class _Trial(NamedTuple):
    """A command with valid arguments; `of` is its user: facts, Presence or both."""

    of: str
    arguments: Sequence[bytes | str | int]


# Every command that Gate sends, or that its scripts run, except MULTI, which comes first.
_COMMANDS: dict[str, _Trial] = {
    "del": _Trial(_BOTH, (_K,)),
    "eval": _Trial(_BOTH, ("return 0", 1, _K)),
    "evalsha": _Trial(_BOTH, ("0" * 40, 1, _K)),
    "exists": _Trial(_BOTH, (_K,)),
    "get": _Trial(_PRESENCE, (_K,)),
    "hdel": _Trial(_BOTH, (_K, "f")),
    "hexists": _Trial(_FACTS, (_K, "f")),
    "hget": _Trial(_BOTH, (_K, "f")),
    "hgetall": _Trial(_BOTH, (_K,)),
    "hincrby": _Trial(_PRESENCE, (_K, "f", 1)),
    "hkeys": _Trial(_BOTH, (_K,)),
    "hlen": _Trial(_PRESENCE, (_K,)),
    "hmget": _Trial(_BOTH, (_K, "f")),
    "hscan": _Trial(_PRESENCE, (_K, 0)),
    "hset": _Trial(_BOTH, (_K, "f", "v")),
    "hsetnx": _Trial(_FACTS, (_K, "f", "v")),
    "hvals": _Trial(_FACTS, (_K,)),
    "info": _Trial(_BOTH, ("server",)),
    "persist": _Trial(_PRESENCE, (_K,)),
    "pexpire": _Trial(_PRESENCE, (_K, 1)),
    "ping": _Trial(_BOTH, ()),
    "publish": _Trial(_FACTS, (keys.ASK_CHANNEL, "")),
    "sadd": _Trial(_PRESENCE, (_K, "m")),
    "scan": _Trial(_FACTS, (0,)),
    "scard": _Trial(_PRESENCE, (_K,)),
    "select": _Trial(_BOTH, (0,)),
    "set": _Trial(_PRESENCE, (_K, "v")),
    "smembers": _Trial(_PRESENCE, (_K,)),
    "srandmember": _Trial(_PRESENCE, (_K,)),
    "srem": _Trial(_PRESENCE, (_K, "m")),
    "subscribe": _Trial(_FACTS, (keys.APPLIED_CHANNEL,)),
    "time": _Trial(_BOTH, ()),
    "unlink": _Trial(_BOTH, (_K,)),
    "xack": _Trial(_FACTS, (_K, "g", "1-0")),
    "xadd": _Trial(_BOTH, (_K, "*", "f", "v")),
    "xclaim": _Trial(_FACTS, (_K, "g", "c", 0, "1-0")),
    "xdel": _Trial(_FACTS, (_K, "1-0")),
    "xgroup": _Trial(_FACTS, ("CREATE", _K, "g", "$")),
    "xinfo": _Trial(_FACTS, ("GROUPS", _K)),
    "xlen": _Trial(_FACTS, (_K,)),
    "xpending": _Trial(_FACTS, (_K, "g")),
    "xrange": _Trial(_BOTH, (_K, "-", "+")),
    "xread": _Trial(_BOTH, ("STREAMS", _K, "0")),
    "xreadgroup": _Trial(_FACTS, ("GROUP", "g", "c", "STREAMS", _K, ">")),
    "xrevrange": _Trial(_BOTH, (_K, "+", "-")),
    "xtrim": _Trial(_BOTH, (_K, "MAXLEN", 0)),
    "zadd": _Trial(_BOTH, (_K, 1, "m")),
    "zcard": _Trial(_BOTH, (_K,)),
    "zcount": _Trial(_FACTS, (_K, 0, 1)),
    "zincrby": _Trial(_FACTS, (_K, 1, "m")),
    "zmscore": _Trial(_FACTS, (_K, "m")),
    "zrange": _Trial(_BOTH, (_K, 0, 1)),
    "zrangebyscore": _Trial(_BOTH, (_K, 0, 1)),
    "zrem": _Trial(_BOTH, (_K, "m")),
    "zrevrange": _Trial(_FACTS, (_K, 0, 1)),
    "zrevrangebyscore": _Trial(_FACTS, (_K, 1, 0)),
    "zscan": _Trial(_FACTS, (_K, 0)),
    "zscore": _Trial(_BOTH, (_K, "m")),
}
_OF_A_CLUSTER: dict[str, _Trial] = {
    "asking": _Trial(_BOTH, ()),
    "cluster|nodes": _Trial(_BOTH, ()),
    "spublish": _Trial(_FACTS, (keys.ASK_CHANNEL, "")),
    "ssubscribe": _Trial(_FACTS, (keys.APPLIED_CHANNEL,)),
}
# Replace PUBLISH and SUBSCRIBE if the servers of a Cluster know them.
_SHARDED = frozenset({"spublish", "ssubscribe"})

_FACTS_KEYS = (keys.log(1), keys.apps(), keys.user(2, "app", b"user"), keys.NODES)
_PRESENCE_KEYS = (presence_keys.sessions("app"), presence_keys.APPS, presence_keys.ID, presence_keys.KICKS)


class Needs(NamedTuple):
    """The needs of one use of Redis: commands by name, and examples of its keys."""

    commands: frozenset[str]
    keys: Sequence[bytes]

    @property
    def rights(self) -> frozenset[str]:
        """The rights in the form of ACL SETUSER."""
        channels = {CHANNEL_PATTERN} if self.commands & {"publish", "subscribe"} else set()
        return frozenset({"+multi", KEY_PATTERN, *channels, *(f"+{name}" for name in self.commands)})


def _of(*users: str) -> frozenset[str]:
    return frozenset(name for name, trial in _COMMANDS.items() if trial.of in users)


FACTS = Needs(_of(_FACTS, _BOTH), _FACTS_KEYS)
PRESENCE = Needs(_of(_PRESENCE, _BOTH), _PRESENCE_KEYS)
# For a Redis that holds both.
ALL = Needs(frozenset(_COMMANDS), (*_FACTS_KEYS, *_PRESENCE_KEYS))


async def missing_rights(client: Client, needs: Needs) -> list[str]:
    """Return the rights among `needs` that the client's user lacks, in ACL SETUSER's form. Raises `StoreUnavailable`."""
    missing: dict[str, None] = {}
    for server in await client.masters():
        link = await server.open_dedicated()
        try:
            missing |= dict.fromkeys(await _tried(link, _with_those_of_a_cluster(link, needs), client.deadline_ms))
        except LinkLost as loss:
            raise StoreUnavailable(str(loss)) from None
        finally:
            await link.aclose()
    return list(missing)


async def require_rights(client: Client, needs: Needs) -> None:
    """Raise `StoreUnavailable`, with one line that names and grants the missing rights."""
    missing = await missing_rights(client, needs)
    if missing:
        raise StoreUnavailable(shown_missing(client, missing))


def shown_missing(client: Client, missing: Sequence[str]) -> str:
    """Return one line with the missing rights and the command that grants them."""
    user = client.address.username or "default"
    if len(missing) > MAX_SHOWN:
        some = f"{' '.join(missing[:MAX_SHOWN])} and {len(missing) - MAX_SHOWN} more"
        return (
            f"the user {user} of {client.address.shown} lacks {some}: docs/operations.md has the line that grants all"
        )
    rights = " ".join(missing)
    return f"the user {user} of {client.address.shown} lacks {rights}: grant it with ACL SETUSER {user} {rights}"


def _with_those_of_a_cluster(link: Link, needs: Needs) -> Needs:
    if not link.nodes:
        return needs
    commands = needs.commands | {"asking", "cluster|nodes"}
    if link.is_sharded and "subscribe" in commands:
        commands = commands - {"publish", "subscribe"} | _SHARDED
    return needs._replace(commands=commands)


async def _tried(link: Link, needs: Needs, deadline_ms: float) -> list[str]:
    (began,) = await link.exchange([("MULTI",)], deadline_ms)
    if isinstance(began, ReplyError):  # nothing can be tried on a server without transactions
        return ["+multi"] if _is_refusal(began) else []
    names = sorted(needs.commands)
    trials = {**_COMMANDS, **_OF_A_CLUSTER}
    commands: list[Command] = [(*name.split("|"), *trials[name].arguments) for name in names]
    # One harmless write per key pattern; queued commands never run.
    commands += [("HSET", key, "f", "v") for key in needs.keys]
    names += ["hset"] * len(needs.keys)
    replies = await link.exchange(commands, deadline_ms)
    # Without duplicates, in order.
    return list(dict.fromkeys(_lacking(names, replies)))


def _lacking(names: Sequence[str], replies: Sequence[Reply]) -> Iterable[str]:
    for name, reply in zip(names, replies, strict=True):
        if not _is_refusal(reply):
            continue
        place = _PLACE.search(str(reply))
        # The refusal names neither key nor channel, so it is about the command.
        if place is None:
            yield f"+{name}"
        else:
            yield KEY_PATTERN if place[1] == "key" else CHANNEL_PATTERN


def _is_refusal(reply: Reply) -> bool:
    return isinstance(reply, ReplyError) and str(reply).startswith("NOPERM")
