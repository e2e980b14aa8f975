"""One connection to a server, on which any number of callers pipeline at once.

Why not a pool: replies come in the order of commands, so callers can share one connection without waiting for each other, and
commands of the same moment are sent together. A command that blocks (a blocking read) or has a long answer (a snapshot) uses a
Link of its own, so that no other caller is delayed.

A missed deadline closes the Link: a hanging server may answer later, and its reply could not be assigned to a command. From
then on every exchange fails with `LinkLost`, which says whether the command may have been sent. An error that means that
another server holds the facts (`READONLY`) closes the Link as well, after all replies in flight were delivered. Used only by
`client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, cast

import hiredis

from gate.errors import Outcome, StoreUnavailable
from gate.store.address import CLUSTER_FORM, SENTINEL_FORM, Address

# A server's reply: bytes, int, None, a list of these, or a `ReplyError`.
Reply = Any
Command = Sequence[bytes | str | int]
# Receives channel and text of each pub/sub message.
OnMessage = Callable[[bytes, bytes], object]

# Extra time past a deadline before the server counts as late.
READ_WHAT_CAME_S = 0.005

_NOT_COMPLETE = object()
# Errors after which another server may be the right one. Inside a script, Redis 6.2 prefixes them with text.
_NOT_HERE = re.compile(r"(?:^|-)(READONLY|MASTERDOWN|NOREPLICAS|UNBLOCKED|LOADING|CLUSTERDOWN)\b")
# Prefix of the error by which a server of a Cluster names the owner of a slot. It still serves its other slots.
_MOVED = "MOVED "
_FACT = re.compile(
    rb"^(run_id|master_replid|role|master_host|master_port|redis_mode|server_mode|redis_version):(\S*)", re.MULTILINE
)
_AWAY = re.compile(
    # Redis 6.2 wraps the error of a command in a script: "ERR Error running script …: -OOM command not allowed …".
    r"(?:^|-)(LOADING|READONLY|MISCONF|OOM|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|NOAUTH|WRONGPASS|NOPERM"
    r"|UNBLOCKED|MOVED|ASK)\b"  # a demoted server releases callers that wait for Changes
    r"|ACL failure in script|The user executing the script can't"
)
# A command in a script was refused after others had run: a script is not rolled back.
_MID_SCRIPT = re.compile(r"ACL failure in script|executing the script can't")
# The first version of Redis with SPUBLISH. Valkey reports the version with which it is compatible.
_SHARDED_SINCE = 7
# By the mode that a server reports.
_KINDS = {
    "sentinel": f"is a Sentinel, which holds no facts: write {SENTINEL_FORM}",
    "cluster": f"is a node of a Redis Cluster: write {CLUSTER_FORM}",
    "standalone": "is a single Redis server, not a node of a Redis Cluster: write redis://HOST:PORT",
}


class ReplyError(Exception):
    """A server's `-ERR …`, as a value among replies. The caller decides what it means."""


class LinkLost(Exception):
    """The connection is closed, or did not answer in time. `was_sent`: the command may have been carried out."""

    def __init__(self, problem: str, was_sent: bool) -> None:
        super().__init__(problem)
        self.was_sent = was_sent


class NotPrimary(LinkLost):
    """The server is a replica: it does not hold the authoritative facts, and takes no writes."""


class WrongKind(LinkLost):
    """The server is not of the kind that the URL specifies. The text gives the right form."""


class _Exchange(NamedTuple):
    """Commands in flight: the number of replies `wanted`, the caller that waits, and the replies so far."""

    wanted: int
    arrival: asyncio.Future[list[Reply]]
    replies: list[Reply]


class Link(asyncio.Protocol):
    """A connected Link, made by `open_link`."""

    def __init__(self, on_message: OnMessage | None = None) -> None:
        self._on_message = on_message
        # Parses in C; errors become values instead of exceptions.
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_NOT_COMPLETE)
        self._waiting: deque[_Exchange] = deque()
        self._transport: asyncio.Transport | None = None
        self._loss: str = "not connected"
        self.is_open = False
        """Whether an exchange can be started."""
        self.server_id = ""
        """This run of the server and the history that it writes. It changes with a restart, whatever data the server loads,
        and with a demotion and promotion, which close no connection."""
        self.nodes = ""
        """For a server of a Cluster: its answer to CLUSTER NODES when the connection was made."""
        self.on_moved: Callable[[str], object] | None = None
        """Receives each MOVED error, regardless of which caller waits for the reply."""
        self.is_sharded = False
        """For a server of a Cluster: whether it knows sharded channels."""
        self.scripts: set[str] = set()
        """SHA-1s of scripts whose source was sent over this Link. The server knows them, unless they were flushed."""
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def exchange(self, commands: Sequence[Command], deadline_ms: float) -> list[Reply]:
        """Send commands and wait for all replies. An error reply is a `ReplyError` in its place. Raises `LinkLost`."""
        if self._transport is None or not self.is_open:
            raise LinkLost(self._loss, was_sent=False)
        if not commands:
            return []  # no reply would ever come
        # First: a command that can't be encoded must not wait for a reply. hiredis's stub requires a tuple of one.
        packed = b"".join([hiredis.pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        exchange = _Exchange(len(commands), loop.create_future(), [])
        self._waiting.append(exchange)
        self._transport.write(packed)
        # A plain timer is cheaper than a timeout scope, and its loss affects every waiting caller, not only this one.
        timer = loop.call_later(deadline_ms / 1000, self._overdue, exchange, deadline_ms, True)
        try:
            return await exchange.arrival
        finally:
            timer.cancel()

    def give_up(self, problem: str) -> None:
        """Start no further exchange, and close once those in flight have their replies."""
        if not self.is_open:
            return
        self.is_open, self._loss = False, problem
        if not self._waiting:
            self.drop(problem)

    def drop(self, problem: str) -> None:
        """Close at once. Exchanges in flight fail."""
        self._lose(problem)

    async def wait_closed(self) -> None:
        """Wait until the connection is closed, by either side."""
        await asyncio.shield(self._closed)

    async def watch(self, ping_every_ms: float, deadline_ms: float) -> None:
        """Return only by `LinkLost`. A PING detects a connection that is silently dead."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ping_every_ms / 1000):
                    await self.wait_closed()
            await self.exchange([("PING",)], deadline_ms)

    async def aclose(self) -> None:
        """Close, and wait until the socket is closed."""
        if self._transport is not None:
            self._lose("closed")
            await self._closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the socket is connected."""
        self._transport = cast(asyncio.Transport, transport)  # not isinstance: uvloop's transports derive from nothing
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes arrived, with replies in the order of the commands."""
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _NOT_COMPLETE:
                # A message is no reply, so no exchange is waiting for it.
                if self._on_message is not None and isinstance(reply, list) and reply[0] in (b"message", b"smessage"):
                    self._on_message(reply[1], reply[2])
                    continue
                if not waiting:
                    self._lose(f"the server sent a reply without a command: {str(reply)[:80]}")
                    return
                if isinstance(reply, ReplyError):
                    self._note_error(str(reply))
                exchange = waiting[0]
                exchange.replies.append(reply)
                if len(exchange.replies) == exchange.wanted:
                    waiting.popleft()
                    if not exchange.arrival.done():  # its caller may have been cancelled
                        exchange.arrival.set_result(exchange.replies)
                if not (self.is_open or waiting):
                    self._lose(self._loss)
        except hiredis.ProtocolError as fault:
            self._lose(f"the server does not speak RESP: {fault}")

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the socket is closed."""
        self._lose(f"the connection was lost: {exc}" if exc else "the server closed the connection")
        if not self._closed.done():
            self._closed.set_result(None)

    def _note_error(self, error: str) -> None:
        """An error may mean that another server has the facts."""
        if self.on_moved is not None and error.startswith(_MOVED):
            self.on_moved(error)
        elif _NOT_HERE.search(error):
            self.is_open, self._loss = False, f"the server answered: {error}"

    def _overdue(self, exchange: _Exchange, deadline_ms: float, may_be_late: bool) -> None:
        if exchange.arrival.done():
            return  # its task wakes later in this turn of the loop, and only then stops the timer
        if may_be_late:
            # If the loop was blocked, replies may have arrived in time and wait to be read, which happens after timers.
            asyncio.get_running_loop().call_later(READ_WHAT_CAME_S, self._overdue, exchange, deadline_ms, False)
            return
        self._lose(f"the server did not answer within {deadline_ms:.0f} ms")

    def _lose(self, problem: str) -> None:
        if self._transport is None:
            return
        # Not close(): buffered commands must not be sent after callers were refused.
        self._transport.abort()
        self._transport, self.is_open = None, False
        self._loss = problem
        while self._waiting:
            arrival = self._waiting.popleft().arrival
            if not arrival.done():
                arrival.set_exception(LinkLost(problem, was_sent=True))


def may_have_run(reply: Reply) -> bool:
    """Return whether a script may have had an effect: not if its whole reply is a refusal."""
    return not isinstance(reply, ReplyError) or bool(_MID_SCRIPT.search(str(reply)))


def is_noscript(reply: Reply) -> bool:
    """Return whether the server does not know the script; then nothing ran."""
    return isinstance(reply, ReplyError) and str(reply).startswith("NOSCRIPT")


def raise_if_error(reply: Reply, outcome: Outcome = "not-written") -> None:
    """Raise for an error reply: `StoreUnavailable` if the server can't serve now, else the error itself, which is a bug."""
    if isinstance(reply, ReplyError):
        if _AWAY.search(str(reply)):
            raise StoreUnavailable(f"the server refused: {reply}", outcome)
        raise reply


def raise_first_error(replies: Sequence[Reply], outcome: Outcome = "not-written") -> None:
    """As `raise_if_error`, for several."""
    for reply in replies:
        raise_if_error(reply, outcome)


async def open_link(
    address: Address,
    connect_ms: float,
    on_message: OnMessage | None = None,
    greet: Callable[[Link, Address, float], Awaitable[None]] | None = None,
) -> Link:
    """Connect, authenticate, select the database and receive a PONG, all within `connect_ms`. Raises `LinkLost`.

    `greet` replaces the handshake for a peer that holds no facts.
    """
    try:
        async with asyncio.timeout(connect_ms / 1000):
            link = await _connect(address, on_message)
            try:
                await (greet or _greet)(link, address, connect_ms)
            except BaseException:
                await link.aclose()
                raise
            return link
    except TimeoutError:
        how_long = f"no answer from {address.shown} within {connect_ms:.0f} ms (connect_timeout_ms in its URL)"
        raise LinkLost(how_long, was_sent=False) from None
    except OSError as fault:
        raise LinkLost(f"cannot reach {address.shown}: {fault.strerror or fault}", was_sent=False) from None


async def _connect(address: Address, on_message: OnMessage | None) -> Link:
    loop = asyncio.get_running_loop()
    if address.path:
        return (await loop.create_unix_connection(lambda: Link(on_message), address.path))[1]
    tls = _tls_context(address) if address.tls else None
    return (await loop.create_connection(lambda: Link(on_message), address.host, address.port, ssl=tls))[1]


def _tls_context(address: Address) -> ssl.SSLContext:
    named = f"ssl_ca_certs {address.tls_ca_file}"
    try:
        context = ssl.create_default_context(cafile=address.tls_ca_file or None)
        if address.tls_cert_file:
            named = " and ".join(filter(None, (f"ssl_certfile {address.tls_cert_file}", address.tls_key_file)))
            context.load_cert_chain(address.tls_cert_file, address.tls_key_file or None)
    except OSError as fault:  # otherwise a missing file would look like an unavailable server
        problem = f"{named} in the URL of {address.shown} can't be used: {fault.strerror or fault}"
        raise LinkLost(problem, was_sent=False) from None
    return context


def credentials_of(address: Address) -> list[Command]:
    """Return the command that authenticates, if there is a password."""
    return [("AUTH", address.username or "default", address.password)] if address.password else []


async def _greet(link: Link, address: Address, deadline_ms: float) -> None:
    commands = credentials_of(address)
    if address.db:
        commands.append(("SELECT", address.db))
    commands += [("PING",), ("INFO", "server"), ("INFO", "replication")]
    if address.is_clustered:
        commands.append(("CLUSTER", "NODES"))
    replies = await link.exchange(commands, deadline_ms)
    # INFO texts; an error among them is raised below.
    texts = [reply for reply in replies[-3:] if isinstance(reply, bytes)]
    facts = {name: value.decode() for name, value in _FACT.findall(b"\n".join(texts))}
    refuse_kind(address, facts.get(b"redis_mode") or facts.get(b"server_mode", ""))
    refuse_errors(address, commands, replies)
    if address.is_clustered:
        link.nodes = replies[-1].decode()
        version = facts.get(b"redis_version", "").partition(".")[0]
        # Valkey and Redis from 7.0 on.
        link.is_sharded = version.isdecimal() and int(version) >= _SHARDED_SINCE
    if facts.get(b"role") == "slave":
        primary = f"{facts.get(b'master_host')}:{facts.get(b'master_port')}"
        raise NotPrimary(f"{address.shown} is a replica of {primary} and takes no writes", was_sent=False)
    link.server_id = f"{facts.get(b'run_id', '')}:{facts.get(b'master_replid', '')}"


def refuse_kind(address: Address, mode: str) -> None:
    """Raise `WrongKind` for a server that reports another mode than the URL specifies.

    Call it before its errors are checked: such a server does not know all commands of the handshake.
    """
    wanted = "cluster" if address.is_clustered else "standalone"
    if mode in _KINDS and mode != wanted:  # a hosted server may report a mode of its own
        raise WrongKind(f"{address.shown} {_KINDS[mode]}", was_sent=False)


def refuse_errors(address: Address, commands: Sequence[Command], replies: Sequence[Reply]) -> None:
    """Raise `LinkLost` with the first error among replies, and the command that grants a missing right."""
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, ReplyError):
            has_subcommand = command[0] in ("SENTINEL", "CLUSTER")
            name = "|".join(map(str, command[:2] if has_subcommand else command[:1])).lower()
            right = f"+{name}" if str(reply).startswith("NOPERM") else ""
            grant = f": grant it with ACL SETUSER {address.username or 'default'} {right}" if right else ""
            raise LinkLost(f"{address.shown} answered: {reply}{grant}", was_sent=False)
