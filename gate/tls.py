"""TLS of the ports that a node serves: its certificate, and the listeners that accept connections with it.

    files       `--tls-cert`, `--tls-key`, `--tls-client-ca`; read at start and again on SIGHUP
    handshakes  a connection that was accepted is not read until its first byte is here; then handshakes begin one by one, so
                that a flood of them delays other connections by one signature per pass of the loop
    bounds      a handshake has `HANDSHAKE_WITHIN_S`, and at most `MAX_HANDSHAKES` wait for theirs; past it the oldest is closed

After its handshake a connection is an ordinary protocol on asyncio's encrypted transport. Every new connection takes the
context of that moment, so a reload never touches an open one. Plain ports use none of this.
Used by `gate.wire.listener` and `gate.http.server`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from gate.errors import InvalidConfig
from gate.option_values import TlsFiles

HANDSHAKE_WITHIN_S = 10.0
"""From the accepted connection: a client on a bad line needs three round trips."""
MAX_HANDSHAKES = 1_024
"""Unfinished ones of one port and process, each with a descriptor: more than a storm of clients has in flight."""
CLOSE_WITHIN_S = 5.0
"""How long the last replies and the end may take once a connection is closed: a client that is idle never answers the end."""
ACCEPTS_A_PASS = 64
"""Connections accepted before other work has its turn."""
ACCEPT_AGAIN_S = 0.5
"""The pause after the process or the system had no descriptor or memory for one more."""
READ_AHEAD_BYTES = 64 * 1024
"""Encrypted bytes of one connection that wait to be read."""

WARN_BEFORE_S = 14 * 86_400
"""Programs that renew certificates do it a month before the end; two weeks later nothing has."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def server_context(files: TlsFiles, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Read the files. Raises `InvalidConfig`, which names the option and its file."""
    for option, path in (
        ("--tls-cert", files.certificate),
        ("--tls-key", files.key),
        ("--tls-client-ca", files.client_ca),
    ):
        if path is not None:
            _require_readable(option, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Compression is off and the server's order of ciphers on by default; a client could ask for handshakes over and over.
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_passphrase)
    except _HasPassphrase:
        raise InvalidConfig([f"--tls-key: {files.key} has a passphrase: store the key without one, mode 600"]) from None
    except ssl.SSLError as fault:
        if fault.reason == "KEY_VALUES_MISMATCH":
            problem = f"--tls-key: {files.key} is not the key of the certificate in {files.certificate}"
        else:
            problem = (
                f"--tls-cert, --tls-key: {files.certificate} and {files.key} must be PEM files of a chain and its key"
            )
        raise InvalidConfig([problem]) from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError:
            raise InvalidConfig([f"--tls-client-ca: {files.client_ca} holds no certificate in PEM"]) from None
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def ends_at_s(certificate: str) -> int:
    """When the first certificate of a PEM file ends, in seconds since 1970. `InvalidConfig` for a file without one."""
    from cryptography import x509  # late: it takes 0.1 s to import, and plain nodes never need it

    try:
        return int(x509.load_pem_x509_certificate(Path(certificate).read_bytes()).not_valid_after_utc.timestamp())
    except OSError as fault:
        raise InvalidConfig([f"--tls-cert: {certificate} can't be read: {fault.strerror}"]) from None
    except ValueError:
        raise InvalidConfig([f"--tls-cert: {certificate} holds no certificate in PEM"]) from None


def shown_end(end_s: int) -> str:
    """For people."""
    return f"{datetime.fromtimestamp(end_s, UTC):%Y-%m-%d %H:%M} UTC"


def warning_of(certificate: str, end_s: int, now_s: float) -> str:
    """What to say of a certificate that ended, or ends soon; "" of any other."""
    if end_s <= now_s:
        return f"the TLS certificate in {certificate} ended on {shown_end(end_s)}: clients refuse it"
    if end_s - now_s < WARN_BEFORE_S:
        return f"the TLS certificate in {certificate} ends on {shown_end(end_s)}: renew it, then send SIGHUP"
    return ""


class _HasPassphrase(Exception):
    pass


def _refuse_passphrase() -> str:
    raise _HasPassphrase  # else OpenSSL would ask for it on the terminal


def _require_readable(option: str, path: str) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as fault:
        raise InvalidConfig([f"{option}: {path} can't be read: {fault.strerror}"]) from None


class Handshake:
    """A connection that was accepted and is not encrypted yet. It counts as one without an App."""

    is_local = False
    is_stranger = True

    def __init__(self, accepted: socket.socket, listener: TlsListener) -> None:
        self._socket = accepted
        self._listener = listener
        self._task: asyncio.Task[None] | None = None
        self._deadline_s = asyncio.get_running_loop().time() + HANDSHAKE_WITHIN_S

    def begin(self) -> None:
        """Shake hands: the first byte is here."""
        self._task = asyncio.create_task(self._run())

    def refuse(self, problem: str) -> None:
        """Close it. There is nothing encrypted yet that could carry the problem."""
        self.cut()

    def cut(self) -> None:
        """Close it without a word."""
        self._listener.left(self)
        if self._task is None:
            self._socket.close()
        else:
            self._task.cancel()  # which closes the transport

    async def _run(self) -> None:
        loop, listener = asyncio.get_running_loop(), self._listener
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: listener.make(self),
                self._socket,
                ssl=listener.context,
                ssl_handshake_timeout=max(0.001, self._deadline_s - loop.time()),
                ssl_shutdown_timeout=CLOSE_WITHIN_S,
            )
        except (
            OSError,
            asyncio.CancelledError,
        ):  # an error of TLS is an OSError too; the transport has closed the socket
            pass
        else:
            transport.set_read_buffer_limits(high=READ_AHEAD_BYTES)  # type: ignore[attr-defined]  # of encrypted ones only
        finally:
            listener.left(self)


class TlsListener:
    """One TLS port of one process. Several processes share the port with `SO_REUSEPORT`."""

    def __init__(
        self,
        context: ssl.SSLContext,
        make: Callable[[Handshake], asyncio.BaseProtocol],
        on_accepted: Callable[[Handshake], bool] = lambda _: True,
        on_left: Callable[[Handshake], None] = lambda _: None,
    ) -> None:
        """`make` is called with each handshake that begins, and gives the protocol behind it. `on_accepted` returns whether
        there is room for one more; `on_left` is called once for each, when its handshake is over, however that ended.
        """
        self.context = context
        """Of the connections to come."""
        self.make = make
        self._on_accepted = on_accepted
        self._on_left = on_left
        self._sockets: list[socket.socket] = []
        self._silent: dict[Handshake, socket.socket] = {}
        """Those whose first byte is not here."""
        self._begun: dict[Handshake, None] = {}
        self._ready: deque[Handshake] = deque()
        self.port = 0

    def start(self, sockets: Sequence[socket.socket], backlog: int) -> None:
        """Listen on bound sockets. `OSError` if that is impossible."""
        loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        for bound in self._sockets:
            bound.setblocking(False)
            bound.listen(backlog)
            loop.add_reader(bound.fileno(), self._accept, bound)
        self.port = self._sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Listen no more, and close what did not finish its handshake."""
        loop = asyncio.get_running_loop()
        for bound in self._sockets:
            loop.remove_reader(bound.fileno())
            bound.close()
        self._sockets.clear()
        for handshake in [*self._silent, *self._begun]:
            handshake.cut()

    def left(self, handshake: Handshake) -> None:
        """Its handshake is over. Harmless if repeated."""
        accepted = self._silent.pop(handshake, None)
        if accepted is not None:
            asyncio.get_running_loop().remove_reader(accepted.fileno())
        elif handshake in self._begun:
            del self._begun[handshake]
        else:
            return
        self._on_left(handshake)

    def _accept(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTS_A_PASS):
            try:
                accepted, _address = bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as fault:
                if fault.errno not in _EXHAUSTED:
                    raise
                loop.remove_reader(bound.fileno())
                loop.call_later(ACCEPT_AGAIN_S, self._accept_again, bound)
                return
            self._accepted(accepted)

    def _accept_again(self, bound: socket.socket) -> None:
        if bound in self._sockets:
            asyncio.get_running_loop().add_reader(bound.fileno(), self._accept, bound)

    def _accepted(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        handshake = Handshake(accepted, self)
        if len(self._silent) + len(self._begun) >= MAX_HANDSHAKES:
            next(iter(self._silent or self._begun)).cut()
        self._silent[handshake] = accepted
        if not self._on_accepted(handshake):
            handshake.cut()
            return
        loop.add_reader(accepted.fileno(), self._on_first_byte, handshake)
        loop.call_later(HANDSHAKE_WITHIN_S, self._end_silent, handshake)

    def _end_silent(self, handshake: Handshake) -> None:
        if handshake in self._silent:
            handshake.cut()

    def _on_first_byte(self, handshake: Handshake) -> None:
        accepted = self._silent.pop(handshake)
        asyncio.get_running_loop().remove_reader(accepted.fileno())
        self._begun[handshake] = None
        self._ready.append(handshake)
        if len(self._ready) == 1:
            asyncio.get_running_loop().call_soon(self._begin_next)

    def _begin_next(self) -> None:
        """Begin one, and the next one in another pass: the server's signature takes up to a millisecond."""
        handshake = self._ready.popleft()
        if handshake in self._begun:  # else it was cut meanwhile
            handshake.begin()
        if self._ready:
            asyncio.get_running_loop().call_soon(self._begin_next)


def bound_sockets(host: str, port: int, *, reuse_port: bool) -> list[socket.socket]:
    """Bound to every address of the host, as asyncio does it. `OSError` if that is impossible."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            bound.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if (
                family == socket.AF_INET6
            ):  # `::` is both families, as on the plain ports; a list of addresses has each once
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
            one.bind((address[0], port or (bound[0].getsockname()[1] if bound[1:] else 0), *address[2:]))
    except OSError:
        for one in bound:
            one.close()
        raise
    return bound
