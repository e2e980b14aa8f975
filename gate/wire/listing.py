"""`COMMAND …`: the table as Redis 7 describes its own, with documentation from which redis-cli makes its hints.

An entry has the ten elements of the version that `INFO` names: name, arity, flags, first key, last key, step, ACL categories,
tips, key specifications, subcommands. There are no keys.

Called by `commands`, which has the rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate

from gate.wire import replies
from gate.wire.client import Client, Reply
from gate.wire.documents import DOCUMENTS, Argument
from gate.wire.handshake import shown_argument
from gate.wire.table import Command, InMulti

Rows = Mapping[bytes, Command]
_SINCE = "0.1.0"
_WRITES = frozenset([b"GATE.LEASE", b"GATE.CONNECT", b"GATE.DISCONNECT", b"GATE.TOUCH"])
_KEYLESS_WORDS = frozenset([b"GETKEYS", b"GETKEYSANDFLAGS"])
# Of a pattern, which strangers send: more than the longest name, and compiled in 0.2 ms at most. `fnmatch` takes 0.4 s to
# compile one of 60,000 bytes, and keeps 32,768 of them; `re` keeps 512.
MAX_PATTERN_BYTES = 32


def command(rows: Rows, client: Client, arguments: Sequence[bytes]) -> bytes:
    """`COMMAND [COUNT|LIST|INFO|DOCS|GETKEYS …]`."""
    resp3, listed = client.resp3, _listed(rows)
    word, rest = (arguments[0].upper(), arguments[1:]) if arguments else (b"INFO", ())
    if word == b"COUNT":
        return replies.integer(len(listed))
    if word == b"LIST":
        return replies.encode(_filtered(listed, rest), resp3)
    if word == b"INFO":
        return _entries(rows, [one.upper() for one in rest], resp3) if rest else _whole(_entries, rows, resp3)
    if word == b"DOCS":
        return _documents(rows, [one.upper() for one in rest], resp3) if rest else _whole(_documents, rows, resp3)
    if word in _KEYLESS_WORDS and rest:
        if rest[0].upper() not in rows:
            raise Reply("ERR Invalid command specified: send COMMAND LIST for those that there are")
        raise Reply("ERR The command has no key arguments: no command of Gate has")
    raise Reply(
        f"ERR unknown subcommand '{shown_argument(arguments[0])}'. Try COMMAND, COMMAND COUNT, LIST, INFO, DOCS, GETKEYS."
    )


Write = Callable[[Rows, Sequence[bytes], bool], bytes]
# By form and protocol: four at most, as the rows never change.
_written: dict[tuple[Write, bool], bytes] = {}


def _whole(write: Write, rows: Rows, resp3: bool) -> bytes:
    """Of all commands, kept: many clients ask for it on connecting, and it takes 1 ms."""
    if (write, resp3) not in _written:
        _written[write, resp3] = write(rows, _listed(rows), resp3)
    return _written[write, resp3]


def _listed(rows: Rows) -> tuple[bytes, ...]:
    return tuple(name for name, row in rows.items() if row.is_listed)


def _filtered(listed: Sequence[bytes], rest: Sequence[bytes]) -> list[replies.Value]:
    """`[FILTERBY MODULE name|ACLCAT category|PATTERN pattern]`."""
    names = [name.decode().lower() for name in listed]
    if not rest:
        return [*names]
    if len(rest) != 3 or rest[0].upper() != b"FILTERBY" or rest[1].upper() not in (b"MODULE", b"ACLCAT", b"PATTERN"):
        raise Reply("ERR syntax error: expected COMMAND LIST [FILTERBY MODULE name|ACLCAT category|PATTERN pattern]")
    if rest[1].upper() == b"PATTERN":
        return [*alike(names, rest[2])]
    value = rest[2].decode("latin-1").lower()
    if rest[1].upper() == b"MODULE":
        # The commands of Redis's own names belong to no module.
        return [name for name in names if value == "gate" and name.startswith("gate.")]
    return [name for name in names if value in _categories(name.upper().encode())]


def _entries(rows: Rows, names: Sequence[bytes], resp3: bool) -> bytes:
    entries = [_entry(name, rows[name], resp3) if name in DOCUMENTS else replies.null_array(resp3) for name in names]
    return replies.array_header(len(entries)) + b"".join(entries)


def _entry(name: bytes, row: Command, resp3: bool) -> bytes:
    # As Redis counts: the name included, and negative where more may follow.
    arity = row.least + 1 if row.least == row.most else -(row.least + 1)
    categories = replies.Statuses(f"@{one}" for one in _categories(name))
    no_tips = no_keys = replies.Statuses()
    no_subcommands: list[replies.Value] = []
    flags = replies.Statuses(_flags(name, row))
    entry: list[replies.Value] = [
        name.decode().lower(),
        arity,
        flags,
        0,
        0,
        0,
        categories,
        no_tips,
        no_keys,
        no_subcommands,
    ]
    return replies.encode(entry, resp3)


def _flags(name: bytes, row: Command) -> list[str]:
    flags = ["write" if name in _WRITES else "readonly"] if row.needs_app else ["noscript"]
    if row.in_multi is InMulti.NEVER:
        flags.append("no_multi")
    if not row.needs_app:
        flags.append("no_auth")
    if name == b"GATE.EVENTS":
        flags.append("blocking")
    return [*flags, "fast"]


def _categories(name: bytes) -> list[str]:
    group = DOCUMENTS[name].group
    if group != "gate":
        return [
            "connection" if group == "connection" else "transaction" if group == "transactions" else "admin",
            "fast",
        ]
    return ["write" if name in _WRITES else "read", "fast"]


def _documents(rows: Rows, names: Sequence[bytes], resp3: bool) -> bytes:
    return replies.encode({name.decode().lower(): _document(name) for name in names if name in DOCUMENTS}, resp3)


def _document(name: bytes) -> replies.Value:
    document = DOCUMENTS[name]
    described: dict[str, replies.Value] = {
        "summary": document.summary,
        "since": _SINCE if document.group == "gate" else "1.0.0",
        "group": document.group,
    }
    if document.group == "gate":
        described["module"] = "gate"
    if document.arguments:
        described["arguments"] = [_argument(one) for one in document.arguments]
    return described


def _argument(argument: Argument) -> replies.Value:
    described: dict[str, replies.Value] = {"name": argument.name, "type": argument.kind}
    if argument.kind not in ("pure-token", "oneof", "block"):
        described["display_text"] = argument.name
    if argument.token:
        described["token"] = argument.token
    flags = [flag for flag, is_set in (("optional", argument.optional), ("multiple", argument.multiple)) if is_set]
    if flags:
        described["flags"] = replies.Statuses(flags)
    if argument.choices:
        described["arguments"] = [_argument(one) for one in argument.choices]
    return described


def alike(names: Iterable[str], pattern: bytes) -> list[str]:
    """Those of the names, which are lower case, that the pattern fits, as in `CONFIG GET max*`."""
    if len(pattern) > MAX_PATTERN_BYTES:
        raise Reply(f"ERR a pattern has at most {MAX_PATTERN_BYTES} bytes here: send a shorter one, or * for all")
    fits = re.compile(translate(pattern.decode("latin-1").lower())).match
    return [name for name in names if fits(name)]
