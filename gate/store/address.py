"""Where the server is, out of a URL: `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, `unix:///path[?db=n]`.

Options follow behind `?`: how long connecting and an answer may take, and the files of TLS. Parsed here so that a mistake is
named before anything connects. No message repeats any part of the URL but the name of an option: the rest may be a password's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote

from gate.core.urls import split_url
from gate.errors import InvalidConfig

DEFAULT_PORT = 6379
MAX_UNIX_PATH_BYTES = 107
"""What the kernel's address structure holds on Linux."""
CONNECT_TIMEOUT_MS = 500
"""For a whole connection: TCP, TLS and the greeting take a round trip each."""
TIMEOUT_MS = 1_000
"""For one exchange with the server. A healthy one takes less than a millisecond; this leaves room for a slow disk."""
LEAST_TIMEOUT_MS, MOST_TIMEOUT_MS = 10, 30_000
"""Past half a minute a server that does not answer is not slow."""

_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS = ("db", "connect_timeout_ms", "timeout_ms", *_TLS_FILES)

_OPTION_NAME = re.compile(r"[a-z_]{1,40}")

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
    tls_cert_file: str = ""
    tls_key_file: str = ""
    connect_timeout_ms: int = CONNECT_TIMEOUT_MS
    timeout_ms: int = TIMEOUT_MS

    @property
    def shown(self) -> str:
        """The URL again, fit for logs and errors: the password is hidden."""
        credentials = f"{self.username}:***@" if self.password else ""
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
    if "@" in parts.netloc and not parts.password:  # an empty secret, or a password in the user's place
        raise InvalidConfig(
            ["the Redis URL has no password before its @: write redis://:PASSWORD@HOST or USER:PASSWORD@"]
        )
    query = _options(parts.query)
    is_unix = parts.scheme == "unix"
    if is_unix:
        _check_unix(parts)
    elif parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise InvalidConfig([f"the Redis URL {_FORMS}"])
    _check_options(query, parts.scheme == "rediss")
    return Address(
        host="" if is_unix else unquote(parts.hostname or ""),
        port=parts.port or DEFAULT_PORT,
        path=unquote(parts.path) if is_unix else "",
        tls=parts.scheme == "rediss",
        tls_ca_file=query.get("ssl_ca_certs", ""),
        db=_database(query.get("db") or ("" if is_unix else parts.path.strip("/"))),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        tls_cert_file=query.get("ssl_certfile", ""),
        tls_key_file=query.get("ssl_keyfile", ""),
        connect_timeout_ms=_timeout(query, "connect_timeout_ms", CONNECT_TIMEOUT_MS),
        timeout_ms=_timeout(query, "timeout_ms", TIMEOUT_MS),
    )


def _options(query: str) -> dict[str, str]:
    given = parse_qs(query, keep_blank_values=True)
    twice = [name for name, values in given.items() if len(values) > 1 and name in _OPTIONS]
    if twice:
        raise InvalidConfig([f"the Redis URL has {twice[0]} twice: give it once"])
    return {name: values[0] for name, values in given.items()}


def _check_options(query: Mapping[str, str], is_tls: bool) -> None:
    unknown = [name for name in query if name not in _OPTIONS]
    if unknown:  # `split_url` has refused a URL whose password may reach to here; the shape is looked at all the same
        named = f" {unknown[0]}" if _OPTION_NAME.fullmatch(unknown[0]) else ""
        raise InvalidConfig([f"the Redis URL has an unknown option{named}: there are {', '.join(_OPTIONS)}"])
    files = [name for name in _TLS_FILES if name in query]
    if files and not is_tls:
        raise InvalidConfig([f"the Redis URL has {files[0]}, which is for rediss:// only"])
    if "ssl_keyfile" in files and "ssl_certfile" not in files:
        raise InvalidConfig(["the Redis URL has ssl_keyfile: give ssl_certfile as well"])


def _timeout(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if (
        not (text.isascii() and text.isdecimal())
        or len(text) > 6
        or not LEAST_TIMEOUT_MS <= int(text) <= MOST_TIMEOUT_MS
    ):
        raise InvalidConfig(
            [f"{name} in the Redis URL must be a whole number from {LEAST_TIMEOUT_MS} to {MOST_TIMEOUT_MS:,}"]
        )
    return int(text)


def check_addresses(urls: Mapping[str, str | None]) -> None:
    """Read URLs by the options that they were given as; `InvalidConfig` names the option."""
    for option, url in urls.items():
        try:
            if url:
                parse_address(url)
        except InvalidConfig as fault:
            raise InvalidConfig([f"{option}: {problem}" for problem in fault.problems]) from None


def _check_unix(parts: SplitResult) -> None:
    path = unquote(parts.path)
    if not path or parts.hostname:
        raise InvalidConfig([f"the Redis URL {_FORMS}: a unix socket needs three slashes and a path"])
    if len(path.encode()) > MAX_UNIX_PATH_BYTES:
        raise InvalidConfig([f"the path of the Redis socket is longer than {MAX_UNIX_PATH_BYTES} bytes"])


def _database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()) or len(text) > 5:
        raise InvalidConfig(["the database in the Redis URL must be a small number"])
    return int(text)
