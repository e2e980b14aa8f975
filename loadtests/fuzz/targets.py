"""The fuzz targets by name: each is a function of bytes that raises `Broken`, or an undocumented error, if something is wrong.

A target catches the errors that its functions document, and no other. The seeds are where the fuzzer starts from.
"""

from __future__ import annotations

import hmac
import io
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from gate.cli.import_fields import KINDS, Taker
from gate.cli.import_reader import csv_lines, ndjson_lines
from gate.core import token
from gate.core.codec import pack_app, pack_members, unpack_app, unpack_members
from gate.core.model import AppFacts, ListKind, UserFacts
from gate.core.presence import parse_cursor, session_id, session_parts
from gate.core.revision import parse_revisions
from gate.core.token import encoded
from gate.errors import InvalidInput, TokenRefused
from gate.http.fields import page_cursor, page_token
from gate.http.forms import Form
from gate.replica.layout import NO_LISTS, pack_user_record, unpack_user_record
from gate.wire.resp import CommandReader
from gate.wire.strict import StrictReader

NOW_MS = 1_795_000_000_000
APP = AppFacts(key="app", secrets=("secret", "older secret"))
GENUINE = token.mint(APP, b"ann", NOW_MS - 1, b"\0" * 8)
FORM_NAMES = ("userId", "minute", "name", "time")


class Broken(AssertionError):
    """A law does not hold."""


@dataclass(frozen=True, slots=True)
class Target:
    """One fuzzed reader."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


class _View:
    """The App, and a User that is banned and revoked by turns."""

    app = APP

    def user(self, user_id: bytes) -> UserFacts:
        if user_id.startswith(b"b"):
            return UserFacts(banned_until_ms=NOW_MS + 1)
        return UserFacts(tokens_valid_from_ms=NOW_MS if user_id.startswith(b"r") else 0)

    def entry_until_ms(self, kind: ListKind, owner: bytes, member: bytes) -> int:
        return 0


def _resp(data: bytes) -> None:
    """Both readers say the same, however the bytes are cut: the first byte is the length of a piece."""
    if not data:
        return
    size, stream = data[0] or len(data), data[1:]
    quick, strict = CommandReader(), StrictReader()
    commands, expected = [], []
    for at in range(0, len(stream), size):
        commands += quick.feed(stream[at : at + size])
        expected += strict.feed(stream[at : at + size])
    if commands != expected or str(quick.error) != str(strict.error):
        raise Broken(f"{commands!r}, {quick.error!r} where the strict reader has {expected!r}, {strict.error!r}")


def _token(data: bytes) -> None:
    """As a client shows it, and as claims under a right signature."""
    key = token.signing_key(APP.secrets[0])
    claims = token.generation_of(key) + data
    signed = claims + hmac.digest(key, token.PREFIX.encode() + claims, "sha256")
    shown = [data.decode("latin-1"), token.PREFIX + data.decode("latin-1"), token.PREFIX + encoded(signed).decode()]
    for one in shown:
        with suppress(TokenRefused):
            found = token.verify(one, lambda key: _View() if key == APP.key else None, NOW_MS)
            if one not in (GENUINE, token.PREFIX + encoded(signed).decode()):
                raise Broken(f"a Token without our signature was taken: {found}")


def _forms(data: bytes) -> None:
    with suppress(InvalidInput):
        form = Form(data)
        for name in FORM_NAMES:
            for ask in (form.one, form.text, form.user, form.raw_user):
                with suppress(InvalidInput):
                    ask(name)
            for ask_many in (form.users, form.raw_users, partial(form.users, is_joined=True)):
                with suppress(InvalidInput):
                    ids = ask_many(name, 20)
                    if not all(1 <= len(one) <= 64 for one in ids) or len(ids) > 20:
                        raise Broken(f"ids of {name}: {ids!r}")
            with suppress(InvalidInput):
                if not 1 <= form.whole(name, 1, 43_200) <= 43_200:
                    raise Broken("a number out of its bounds")


def _codec(data: bytes) -> None:
    """A value that was read is written as the same bytes."""
    with suppress(ValueError):
        if pack_members(unpack_members(data)) != data:
            raise Broken("members are written otherwise than they were read")
    with suppress(ValueError, IndexError, struct.error):
        record = unpack_user_record(data)
        if not (record.facts.blacklist_size or record.facts.whitelist_size):
            record = record._replace(
                lists=NO_LISTS
            )  # of damaged bytes: the number of lists without entries is not stored
        if unpack_user_record(pack_user_record(*record)) != record:
            raise Broken(f"{record} does not come back")
    with suppress(InvalidInput):
        app = unpack_app(data)
        if unpack_app(pack_app(app)) != app:
            raise Broken(f"{app} does not come back")


def _cursors(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(InvalidInput):
        cursor = parse_cursor(text)
        if parse_cursor(str(cursor)) != cursor:
            raise Broken(f"{cursor} does not come back")
    with suppress(InvalidInput):
        number = page_cursor(text)
        if page_cursor(page_token(number)) != number:
            raise Broken(f"{number} does not come back")
    with suppress(InvalidInput):
        revisions = parse_revisions(text)
        if parse_revisions(",".join(map(str, revisions))) != revisions:
            raise Broken("Revisions do not come back")
    with suppress(InvalidInput):
        session_parts(text)


def _import_lines(data: bytes) -> None:
    """The first byte chooses the form and the kind of lines that name none."""
    if not data:
        return
    choice, text = data[0], data[1:]
    kind = (None, *KINDS)[choice % (len(KINDS) + 1)]
    lines = ndjson_lines(io.BytesIO(text)) if choice & 128 else csv_lines(io.BytesIO(text), kind)
    taker = Taker(NOW_MS, kind)
    with suppress(InvalidInput):
        for number, fields in lines:
            with suppress(InvalidInput):
                if isinstance(fields, tuple):
                    taker.take_pair(fields, number)
                elif not isinstance(fields, str):
                    taker.take(fields, number)


TARGETS: dict[str, Target] = {
    "resp": Target(
        _resp,
        (
            b"\x05*3\r\n$10\r\nGATE.CHECK\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n$4\r\nPING\r\n",
            b"\x40PING\r\nSET \"a b\" 'c' \\x41\r\n\r\n*0\r\n*-1\r\n",
            b"\x03*1\r\n*1\r\n:1\r\n+OK\r\n$-1\r\n_\r\n",
            b"\x07*1\r\n$5\r\nMULTI\r\n*3\r\n$10\r\nGATE.CHECK\r\n$1\r\na\r\n$1\r\nb\r\nEXEC\r\nDISCARD\r\n",
        ),
    ),
    "token": Target(
        _token,
        (
            GENUINE.encode(),
            struct.pack(">QQ8sB", NOW_MS, 0, b"12345678", 3) + b"appann",
            struct.pack(">QQ8sB", NOW_MS, NOW_MS, b"12345678", 3) + b"appbob",
        ),
    ),
    "forms": Target(_forms, (b"userId=ann&userId=b%2Cc&minute=5", b"userId=%ff+&name=%&time=9&&=")),
    "codec": Target(
        _codec,
        (
            pack_members([b"ann", b"\0" * 64]),
            pack_user_record(UserFacts(registered=True, banned_until_ms=1, blacklist_size=2), 3),
            pack_app(APP),
        ),
    ),
    "cursors": Target(
        _cursors,
        (
            b"6b0b3774b7a31-59-6615be763f580",
            page_token(1 << 40).encode(),
            b"7:1f00c3a95be2d844:1042,0:1f00c3a95be2d844:1",
            session_id(b"12345678", b"ann").encode(),
        ),
    ),
    "import-lines": Target(
        _import_lines,
        (
            b'\x80{"kind":"ban","user":"ann","until":"2027-01-01T00:00:00Z"}\n{"kind":"user","user":{"b64":"AP8="}}\n',
            b"\x00kind,user,owner,member,until\nban,ann,,,1798761600000\nblacklist,,bob,mal,\n",
            b"\x03bob,mal,1798761600000\n\"a\"\"b\",c\n",
            b'\x81{"kind":"whitelist-switch","user":"ann","on":true}\n',
        ),
    ),
}  # fmt: skip
