"""TLS of the ports that a node serves: its certificate, and the listeners that accept connections with it.

    files       `--tls-cert`, `--tls-key`, `--tls-client-ca`; read at start and again on SIGHUP
    handshakes  a connection that was accepted is not read until its first byte is here; then handshakes go on one step of one
                of them at a time, so that a flood delays other connections by one signature per pass of the loop, however
                its clients cut their bytes
    bounds      a handshake has `HANDSHAKE_WITHIN_S`, and at most `MAX_HANDSHAKES` wait for theirs; past it the oldest is closed

After its handshake a connection is an ordinary protocol on `gate.tls_transport`. Every handshake takes the context of that
moment, so a reload never touches an open connection. Plain ports use none of this.
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
from typing import Any

from gate.errors import InvalidConfig
from gate.option_values import TlsFiles
from gate.tls_transport import TlsTransport

HANDSHAKE_WITHIN_S = 10.0
"""From the accepted connection: a client on a bad line needs three round trips."""
MAX_HANDSHAKES = 1_024
"""Unfinished ones of one port and process, each with a descriptor: more than a storm of clients has in flight."""
ACCEPTS_A_PASS = 64
"""Connections accepted before other work has its turn."""
ACCEPT_AGAIN_S = 0.5
"""The pause after the process or the system had no descriptor or memory for one more."""
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


def warning_of(named: str, end_s: int, now_s: float) -> str:
    """What to say of a certificate that ended, or ends soon; "" of any other. `named` follows "the TLS certificate"."""
    if end_s <= now_s:
        return f"the TLS certificate {named} ended on {shown_end(end_s)}: clients refuse it"
    if end_s - now_s < WARN_BEFORE_S:
        return f"the TLS certificate {named} ends on {shown_end(end_s)}: renew it, then send SIGHUP"
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

    def __init__(self, accepted: socket.socket, peer: Any, listener: TlsListener) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = accepted
        self._descriptor = accepted.fileno()
        self._peer = peer
        self._listener = listener
        self._watched = ""
        """What of the socket the loop watches for: `read`, `write` or nothing."""

    def wait(self, what: str = "read") -> None:
        """For the next bytes."""
        self._watch(what, lambda: self._listener.came(self))

    def pause(self) -> None:
        """Bytes are here; the handshake has its turn later."""
        self._watch("")

    def go_on(self) -> None:
        """Shake hands as far as the bytes that are here allow."""
        try:
            if not isinstance(self._socket, ssl.SSLSocket):
                self._socket = self._listener.context.wrap_socket(
                    self._socket, server_side=True, do_handshake_on_connect=False
                )
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self.wait()
        except ssl.SSLWantWriteError:
            self.wait("write")
        except (
            OSError,
            ValueError,
        ):  # it has gone; an error of TLS is an OSError; ValueError: it sent something in between
            self.cut()
        else:
            self._encrypted(self._socket)

    def refuse(self, problem: str) -> None:
        """Close it. There is nothing encrypted yet that could carry the problem."""
        self.cut()

    def cut(self) -> None:
        """Close it without a word."""
        self._watch("")
        self._socket.close()
        self._listener.left(self)

    def _encrypted(self, encrypted: ssl.SSLSocket) -> None:
        try:
            TlsTransport(self._loop, encrypted, self._peer).begin(self._listener.make(self))
        except BaseException:
            encrypted.close()
            raise
        finally:
            self._listener.left(self)

    def _watch(self, what: str, act: Callable[[], None] | None = None) -> None:
        if self._watched == "read" != what:
            self._loop.remove_reader(self._descriptor)
        elif self._watched == "write" != what:
            self._loop.remove_writer(self._descriptor)
        self._watched = what
        if what == "read" and act is not None:
            self._loop.add_reader(self._descriptor, act)
        elif what == "write" and act is not None:
            self._loop.add_writer(self._descriptor, act)


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
        self._open: dict[Handshake, None] = {}
        """Handshakes that are not over, the oldest first."""
        self._ready: deque[Handshake] = deque()
        """Those whose next bytes are here."""
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
        for handshake in list(self._open):
            handshake.cut()

    def came(self, handshake: Handshake) -> None:
        """Its next bytes are here. One handshake goes on in a pass of the loop: a signature takes up to a millisecond.

        Each step waits for its turn: the signature belongs to the step that has the last byte of the client's greeting.
        """
        handshake.pause()
        self._ready.append(handshake)
        if len(self._ready) == 1:
            asyncio.get_running_loop().call_soon(self._go_on_with_next)

    def left(self, handshake: Handshake) -> None:
        """Its handshake is over. Harmless if repeated."""
        if handshake in self._open:
            del self._open[handshake]
            self._on_left(handshake)

    def _accept(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTS_A_PASS):
            try:
                accepted, peer = bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as fault:
                if fault.errno not in _EXHAUSTED:
                    raise
                loop.remove_reader(bound.fileno())
                loop.call_later(ACCEPT_AGAIN_S, self._accept_again, bound)
                return
            self._accepted(accepted, peer)

    def _accept_again(self, bound: socket.socket) -> None:
        if bound in self._sockets:
            asyncio.get_running_loop().add_reader(bound.fileno(), self._accept, bound)

    def _accepted(self, accepted: socket.socket, peer: Any) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        handshake = Handshake(accepted, peer, self)
        if len(self._open) >= MAX_HANDSHAKES:
            next(iter(self._open)).cut()
        self._open[handshake] = None
        if not self._on_accepted(handshake):
            handshake.cut()
            return
        handshake.wait()
        asyncio.get_running_loop().call_later(HANDSHAKE_WITHIN_S, self._end_late, handshake)

    def _end_late(self, handshake: Handshake) -> None:
        if handshake in self._open:
            handshake.cut()

    def _go_on_with_next(self) -> None:
        handshake = self._ready.popleft()
        if self._ready:  # first: a connection that fails at its start must not end the turns of all
            asyncio.get_running_loop().call_soon(self._go_on_with_next)
        if handshake in self._open:  # else it was cut meanwhile
            handshake.go_on()


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
