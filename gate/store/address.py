"""Where the server is, out of a URL: `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, `unix:///path[?db=n]`.

Parsed here so that a mistake is named before anything connects. No message repeats any part of the URL: it may be a password's.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote

from gate.core.urls import split_url
from gate.errors import InvalidConfig

DEFAULT_PORT = 6379
MAX_UNIX_PATH_BYTES = 107
"""What the kernel's address structure holds on Linux."""

_FORMS = "must read redis://HOST[:PORT][/DB], rediss://… or unix:///PATH"


class Address(NamedTuple):
    """One server. `path` is a unix socket, and then host and port are unused."""

    host: str
    port: int
    path: str
    tls: bool
    tls_ca_file: str
    db: int
    username: str
    password: str

    @property
    def shown(self) -> str:
        """The URL again, fit for logs and errors: the password is hidden."""
        credentials = f"{self.username}:***@" if self.password else f"{self.username}@" if self.username else ""
        database = f"/{self.db}" if self.db else ""
        if self.path:
            return f"unix://{credentials}{self.path}" + (f"?db={self.db}" if self.db else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{credentials}{host}:{self.port}{database}"


def parse_address(url: str) -> Address:
    """Read a URL; `InvalidConfig` says what it must look like, without repeating a password."""
    try:
        parts = split_url(url)
    except ValueError as fault:
        raise InvalidConfig([f"the Redis URL {_FORMS}: {fault}"]) from None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    is_unix = parts.scheme == "unix"
    if is_unix:
        _check_unix(parts)
    elif parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise InvalidConfig([f"the Redis URL {_FORMS}"])
    return Address(
        host="" if is_unix else unquote(parts.hostname or ""),
        port=parts.port or DEFAULT_PORT,
        path=unquote(parts.path) if is_unix else "",
        tls=parts.scheme == "rediss",
        tls_ca_file=query.get("ssl_ca_certs", ""),
        db=_database(query.get("db") or ("" if is_unix else parts.path.strip("/"))),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def _check_unix(parts: SplitResult) -> None:
    path = unquote(parts.path)
    if not path or parts.hostname:
        raise InvalidConfig([f"the Redis URL {_FORMS}: a unix socket needs three slashes and a path"])
    if len(path.encode()) > MAX_UNIX_PATH_BYTES:
        raise InvalidConfig([f"the path of the Redis socket is longer than {MAX_UNIX_PATH_BYTES} bytes"])


def _database(text: str) -> int:
    if not text:
        return 0
    if not text.isdecimal() or len(text) > 5:
        raise InvalidConfig(["the database in the Redis URL must be a small number"])
    return int(text)
