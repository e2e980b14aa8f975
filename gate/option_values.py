"""How the text of each option of `gate serve` is read: one function a kind of value, with its bounds.

Each returns the value, or raises `ValueError`, whose text says what to write. No message repeats the text itself: it may hold
a password. Pure but for the defaults, which ask the host. Called by the table in `gate.config`.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from ipaddress import ip_network
from typing import Literal, get_args

import msgspec

from gate.core.operators import ROLES as ROLES_OF_OPERATORS
from gate.core.operators import OperatorRole
from gate.core.urls import host_of, split_hosts, split_url

Role = Literal["redis", "replicator", "worker", "http", "background"]
OnStale = Literal["serve", "refuse"]
DurabilityLevel = Literal["local", "fsync", "replica"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "text", "logfmt", "json"]

ROLES: tuple[Role, ...] = get_args(Role)
DEFAULT_DATA = "./gate-data"
MAX_WORKERS = 64
"""Far more than the cores of a machine on which one more would help."""
MAX_STALENESS_CEILING_MS = 86_400_000
MAX_ACK_TIMEOUT_MS = 60_000
MAX_DURABILITY_REPLICAS = 16
"""More replicas than one Redis feeds; a larger number is a mistake, and no write would reach it."""
MAX_DRAIN_S = 600.0
MAX_NODE_NAME_CHARS = 64
"""A host's name has at most 63; more would break the tables that show it."""
MIN_HTTP_IDLE_S, MAX_HTTP_IDLE_S = 1.0, 3_600.0
"""Below a second no client could use its connection again; an hour is past what any proxy keeps."""
MIN_LEASE_TTL_MS, MAX_LEASE_TTL_MS = 1_000, 600_000
MAX_UNIX_PATH_BYTES = 107
"""The longest path of a unix socket that the kernel accepts."""

_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})")
_PUBLIC_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/?")
"""Characters that need no escaping in a link, a cookie's path or a header."""
_REDIS_SCHEMES = ("redis", "rediss", "unix")
_TOPOLOGY_SCHEMES = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
"""URL schemes that allow several hosts."""


class Endpoint(msgspec.Struct, frozen=True):
    """A host and a port to listen on; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class TlsFiles(msgspec.Struct, frozen=True):
    """Paths of PEM files. `client_ca` has the authorities of clients' certificates; None if clients need none."""

    certificate: str
    key: str
    client_ca: str | None = None


def path_of(text: str) -> str:
    """An absolute path; `~` is the home directory."""
    if "\0" in text:
        raise ValueError("a path holds no NUL")
    return os.path.abspath(os.path.expanduser(text))


def unix_path_of(text: str) -> str:
    """The path of a unix socket, which the kernel bounds."""
    path = path_of(text)
    if len(os.fsencode(path)) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"a unix socket's path has at most {MAX_UNIX_PATH_BYTES} bytes; choose a shorter one")
    return path


def endpoint_of(text: str) -> Endpoint:
    """HOST:PORT, with brackets around an IPv6 address."""
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match[3]) > 65_535:
        raise ValueError("write HOST:PORT with a port from 0 to 65535, as 127.0.0.1:8080 or [::1]:8080")
    return Endpoint(host_of(match[1] or match[2]), int(match[3]))


def redis_url_of(text: str) -> str:
    """A URL of Redis, unchanged; `gate.store.address` parses it."""
    # The URL may hold a password: no message repeats it.
    problem = (
        "write redis://[USER:PASSWORD@]HOST:PORT/DB, rediss://... for TLS, unix:///PATH/redis.sock, "
        "redis+sentinel://[USER:PASSWORD@]HOST:PORT,.../NAME[/DB], or redis+cluster://[USER:PASSWORD@]HOST:PORT,..."
    )
    try:
        if text.partition("://")[0] in _TOPOLOGY_SCHEMES:
            split_hosts(text)
            return text
        url = split_url(text)
    except ValueError as fault:
        raise ValueError(f"{problem}: {fault}") from None
    usable = url.scheme in _REDIS_SCHEMES and bool(url.path if url.scheme == "unix" else url.hostname)
    if not usable or url.port == 0:
        raise ValueError(problem)
    return text


def whole(least: int, most: int) -> Callable[[str], int]:
    """A reader of whole numbers within these bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(text)

    return read


def seconds_of(text: str) -> float:
    """The time that a stop may take."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text) or not 0 < float(text) <= MAX_DRAIN_S:
        raise ValueError(f"write seconds, more than 0 and at most {MAX_DRAIN_S:g}")
    return float(text)


def share_of(text: str) -> float:
    """A number from 0 to 1."""
    if not re.fullmatch(r"[01]|0?\.\d{1,6}|1\.0{1,6}", text):
        raise ValueError("write a number from 0 (none) to 1 (all), as 0.01")
    return float(text)


def idle_seconds_of(text: str) -> float:
    """The time that an HTTP connection may wait."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text) or not MIN_HTTP_IDLE_S <= float(text) <= MAX_HTTP_IDLE_S:
        raise ValueError(f"write seconds, from {MIN_HTTP_IDLE_S:g} to {MAX_HTTP_IDLE_S:g}")
    return float(text)


def flag_of(text: str) -> bool:
    """A switch."""
    word = text.strip().lower()
    if word not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ValueError("write 1 or 0")
    return word in ("1", "true", "yes", "on")


def public_url_of(text: str) -> str:
    """The address that clients use, without a slash at its end."""
    problem = "write https://HOST[:PORT][/PREFIX], the address that clients use, without a query"
    try:
        url = split_url(text)
    except ValueError as fault:
        raise ValueError(f"{problem}: {fault}") from None
    is_plain = not (url.query or url.fragment or url.username or url.password)
    if url.scheme not in ("http", "https") or not url.hostname or not is_plain or not _PUBLIC_PATH.fullmatch(url.path):
        raise ValueError(problem)
    return text.rstrip("/")


def otel_url_of(text: str) -> str:
    """The address of a receiver of OTLP/HTTP."""
    try:
        return public_url_of(text)
    except ValueError:
        raise ValueError("write http://HOST:4318, the address of a receiver of OTLP/HTTP, without a query") from None


def one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    """A reader that accepts these words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"write one of {', '.join(words)}")
        return text

    return read


def roles_of(text: str) -> tuple[Role, ...]:
    """A choice of roles, in their own order."""
    asked = [word.strip() for word in text.split(",")]
    if text.strip() == "all":
        return ROLES
    if not all(asked) or set(asked) - set(ROLES):
        raise ValueError(f"write all, or a comma-separated choice of {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in asked)


def networks_of(text: str) -> tuple[str, ...]:
    """Networks in CIDR notation."""
    networks = [word.strip() for word in text.split(",")]
    for one in networks:
        try:
            ip_network(one)
        except ValueError:
            raise ValueError(
                "write networks as 10.0.0.0/8,192.0.2.7,2001:db8::/32, with no bits past the prefix"
            ) from None
    return tuple(networks)


def node_name_of(text: str) -> str:
    """A name for people."""
    if not text.strip() or not text.isprintable() or len(text) > MAX_NODE_NAME_CHARS:
        raise ValueError(f"write 1 to {MAX_NODE_NAME_CHARS} printable characters")
    return text


def host_name() -> str:
    """The name of this host, or `gate` if it has none that can be shown."""
    name = socket.gethostname()[:MAX_NODE_NAME_CHARS]
    return name if name.isprintable() and name.strip() else "gate"


def default_workers() -> str:
    """Half of the cores that this process may use, and at least one: replicator, HTTP and the router need some too."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return str(max(1, usable // 2))


def header_of(text: str) -> str:
    """The name of a header of HTTP."""
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", text):
        raise ValueError("write the name of a header, as X-Forwarded-User")
    return text


def group_roles_of(text: str) -> dict[str, OperatorRole]:
    """The roles of groups."""
    roles: dict[str, OperatorRole] = {}
    for pair in text.split(","):
        group, found, role = (part.strip() for part in pair.rpartition("="))
        known = next((one for one in ROLES_OF_OPERATORS if one == role), None)
        if not (group and found) or known is None or group in roles:
            raise ValueError(
                f"write GROUP=ROLE,... with each group once, and a role of {', '.join(ROLES_OF_OPERATORS)}"
            )
        roles[group] = known
    return roles
