"""Takes the ports a service will listen on before anything else starts, so that one in use is one clear line and exit status 1.

A port is first bound alone (which fails if anybody listens there), then held by a bound socket that never listens and lets
others share it: port 0 stays resolved while workers come and go, and no connection ever lands on the holder.
A unix socket can't be shared that way; it listens here, and every worker inherits it.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gate.config import ServeConfig
from gate.errors import CannotStart
from gate.listening import EVERY_ADDRESS
from gate.option_values import Endpoint

# After a `kill -9` of a service the kernel takes some milliseconds to end its workers; the next start may be that quick.
RETRY_FOR_S = 0.5
RETRY_EVERY_S = 0.02


# The owner's group may connect; they still have to authenticate.
UNIX_MODE = 0o660
BACKLOG = 4_096
# They overlap with every address, at least of their family.
_WILDCARDS = frozenset(("0.0.0.0", "::"))


class HeldPort(NamedTuple):
    """A port that is ours: where to listen, and the socket that keeps it."""

    endpoint: Endpoint
    holder: socket.socket


class Ports(NamedTuple):
    """What this service listens on; None where its role does not run here."""

    http: HeldPort | None
    admin: HeldPort | None
    resp: HeldPort | None
    unix: socket.socket | None
    health: HeldPort | None
    resp_tls: HeldPort | None
    http_tls: HeldPort | None

    def let_go(self, config: ServeConfig) -> None:
        """Close all of them."""
        for held in (self.http, self.admin, self.resp, self.health, self.resp_tls, self.http_tls):
            if held:
                held.holder.close()
        if self.unix and config.unix:
            self.unix.close()
            Path(config.unix).unlink(missing_ok=True)


def hold_ports(config: ServeConfig) -> Ports:
    """Take every port that `config` names; `CannotStart` for one that is in use."""
    has_worker, has_http = "worker" in config.role, "http" in config.role
    taken: dict[str, HeldPort] = {}

    def hold(wanted: Endpoint | None, option: str, is_wanted: bool = True) -> HeldPort | None:
        if wanted is None or not is_wanted:
            return None
        taken[option] = held = hold_port(wanted, option)
        _refuse_shared(held, option, taken)
        return held

    try:
        return Ports(
            hold(config.http, "--http", has_http),
            hold(config.admin_http, "--admin-http", has_http),
            hold(config.resp, "--resp", has_worker),
            hold_unix(Path(config.unix)) if has_worker and config.unix else None,
            hold(config.health, "--health"),
            hold(config.resp_tls, "--resp-tls", has_worker),
            hold(config.http_tls, "--http-tls", has_http),
        )
    except CannotStart:
        for held in taken.values():
            held.holder.close()
        raise


def _refuse_shared(held: HeldPort, option: str, taken: Mapping[str, HeldPort]) -> None:
    """Names differ (`localhost`, `127.0.0.1`) where addresses do not: both would listen, and a connection reach either."""
    ours = _addresses(held.endpoint)
    for other, one in taken.items():
        if other == option or one.endpoint.port != held.endpoint.port:
            continue
        theirs = _addresses(one.endpoint)
        if not (ours.isdisjoint(theirs) and _WILDCARDS.isdisjoint(ours | theirs)):
            problem = f"can't listen on {held.endpoint}: {other} has this port"
            raise CannotStart(f"{problem}; choose another with {option} HOST:PORT")


def _addresses(endpoint: Endpoint) -> frozenset[str]:
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return frozenset(str(address[0]) for *_, address in found)


def hold_port(wanted: Endpoint, option: str) -> HeldPort:
    """Take the port; `CannotStart` names the option if that is impossible."""
    family, address = _resolve(wanted, option)
    deadline_s = time.monotonic() + RETRY_FOR_S
    while True:
        try:
            return _hold(wanted, family, address)
        except OSError as fault:
            if fault.errno == errno.EADDRINUSE and time.monotonic() < deadline_s:
                time.sleep(RETRY_EVERY_S)
                continue
            why = "the port is in use" if fault.errno == errno.EADDRINUSE else fault.strerror
            raise CannotStart(f"can't listen on {wanted}: {why}; choose another with {option} HOST:PORT") from None


def _resolve(wanted: Endpoint, option: str) -> tuple[int, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as fault:
        problem = f"can't listen on {wanted}: the host name has no address ({fault.strerror})"
        raise CannotStart(f"{problem}; write an address in {option}") from None
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _hold(wanted: Endpoint, family: int, address: tuple[str, int]) -> HeldPort:
    with socket.socket(family, socket.SOCK_STREAM) as alone:
        _both_families(alone, address)
        # Connections of an earlier service that linger in TIME_WAIT are no obstacle; one that listens is.
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind(address)
        # Sockets that only bind with SO_REUSEADDR do not exclude each other; to listen shows that the port is free.
        alone.listen(1)
        port = int(alone.getsockname()[1])
    holder = socket.socket(family, socket.SOCK_STREAM)
    _both_families(holder, address)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((address[0], port))
    return HeldPort(Endpoint(wanted.host, port), holder)


def _both_families(taken: socket.socket, address: tuple[str, int]) -> None:
    if address[0] == EVERY_ADDRESS:  # whatever the system's default is
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def hold_unix(path: Path) -> socket.socket:
    """Listen on a unix socket, replacing a dead one; `CannotStart` if somebody listens there or it can't be made."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear_dead_socket(path)
        listening.bind(str(path))
        # Before it listens: no one connects under the mode of the umask.
        path.chmod(UNIX_MODE)
        listening.listen(BACKLOG)
    except OSError as fault:
        listening.close()
        why = "it is in use" if fault.errno == errno.EADDRINUSE else fault.strerror
        raise CannotStart(f"can't listen on {path}: {why}; choose another with --unix PATH") from None
    return listening


def _clear_dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:  # what `kill -9` leaves behind; anything else that lies there is left alone
            if path.is_socket():
                path.unlink()
