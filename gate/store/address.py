"""Where the server is, out of a URL: `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, `unix:///path[?db=n]`.

`redis+sentinel://[user:password@]host[:port],…/master-name[/db]` and `rediss+sentinel://…` name Sentinels, which know where the
primary is; the credentials before the `@` are the servers', those of the Sentinels are options.
`redis+cluster://[user:password@]host[:port],…` and `rediss+cluster://…` name some servers of a Redis Cluster.

Options follow behind `?`: how long connecting and an answer may take, and the files of TLS. Parsed here so that a mistake is
named before anything connects. No message repeats any part of the URL but the name of an option: the rest may be a password's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote

from gate.core.urls import Host, split_hosts, split_url
from gate.errors import InvalidConfig

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26_379
MAX_UNIX_PATH_BYTES = 107
"""What the kernel's address structure holds on Linux."""
CONNECT_TIMEOUT_MS = 500
"""For a whole connection: TCP, TLS and the greeting take a round trip each."""
TIMEOUT_MS = 1_000
"""For one exchange with the server. A healthy one takes less than a millisecond; this leaves room for a slow disk."""
LEAST_TIMEOUT_MS, MOST_TIMEOUT_MS = 10, 30_000
"""Past half a minute a server that does not answer is not slow."""

_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_OPTIONS = ("db", "connect_timeout_ms", "timeout_ms", *_TLS_FILES, *_SENTINEL_OPTIONS)
_SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
_CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
_SCHEMES = ("redis", "rediss", "unix", *_SENTINEL_SCHEMES, *_CLUSTER_SCHEMES)

_OPTION_NAME = re.compile(r"[a-z_]{1,40}")

_MASTER_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
"""The characters that a Sentinel accepts in the name of what it monitors."""

SENTINEL_FORM = "redis+sentinel://HOST:PORT,HOST:PORT/MASTER-NAME"
CLUSTER_FORM = "redis+cluster://HOST:PORT,HOST:PORT"
_FORMS = f"must read redis://HOST[:PORT][/DB], rediss://…, unix:///PATH, {SENTINEL_FORM}[/DB] or {CLUSTER_FORM}"
_NO_DATABASE = f"the Redis URL has more than hosts: a Redis Cluster has no databases, so write {CLUSTER_FORM}"


class Address(NamedTuple):
    """One server. `path` is a unix socket, and then host and port are unused.

    With `sentinels` host and port are unused as well: these know where the server is that they monitor as `master_name`.
    With `seeds` likewise: these are some servers of a Cluster. `is_clustered` is set for each server of one.
    """

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
    sentinels: tuple[Host, ...] = ()
    master_name: str = ""
    sentinel_username: str = ""
    sentinel_password: str = ""
    connect_timeout_ms: int = CONNECT_TIMEOUT_MS
    timeout_ms: int = TIMEOUT_MS
    seeds: tuple[Host, ...] = ()
    is_clustered: bool = False

    @property
    def shown(self) -> str:
        """The URL again, fit for logs and errors: the password is hidden."""
        credentials = f"{self.username}:***@" if self.password else ""
        database = f"/{self.db}" if self.db else ""
        if self.path:
            return f"unix://{credentials}{self.path}" + (f"?db={self.db}" if self.db else "")
        scheme = "rediss" if self.tls else "redis"
        if self.sentinels:
            hosts = ",".join(_shown_host(host, port or DEFAULT_SENTINEL_PORT) for host, port in self.sentinels)
            return f"{scheme}+sentinel://{credentials}{hosts}/{self.master_name}{database}"
        if self.seeds:
            hosts = ",".join(_shown_host(host, port or DEFAULT_PORT) for host, port in self.seeds)
            return f"{scheme}+cluster://{credentials}{hosts}"
        return f"{scheme}://{credentials}{_shown_host(self.host, self.port)}{database}"

    def at(self, host: str, port: int) -> Address:
        """The server of the same deployment that listens there."""
        is_clustered = bool(self.seeds) or self.is_clustered
        return self._replace(host=host, port=port, sentinels=(), master_name="", seeds=(), is_clustered=is_clustered)

    @property
    def each_seed(self) -> tuple[Address, ...]:
        """The servers of the Cluster that the URL names."""
        return tuple(self.at(host, port or DEFAULT_PORT) for host, port in self.seeds)

    @property
    def each_sentinel(self) -> tuple[Address, ...]:
        """The Sentinels, each as a server with the credentials of Sentinels."""
        return tuple(
            self.at(host, port or DEFAULT_SENTINEL_PORT)._replace(
                username=self.sentinel_username, password=self.sentinel_password, db=0
            )
            for host, port in self.sentinels
        )


def parse_address(url: str) -> Address:
    """Read a URL; `InvalidConfig` says what it must look like, without repeating a password."""
    try:
        # The hosts of a topology are a list; of another URL they stay what they were.
        is_topology = "+" in url.partition("://")[0]
        parts, hosts = split_hosts(url) if is_topology else (split_url(url), [])
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
    elif parts.scheme not in _SCHEMES or not parts.hostname or (not is_topology and "," in parts.hostname):
        raise InvalidConfig([f"the Redis URL {_FORMS}"])
    is_tls = parts.scheme.startswith("rediss")
    has_sentinels = parts.scheme in _SENTINEL_SCHEMES
    _check_options(query, is_tls, has_sentinels)
    path = parts.path.strip("/")
    if parts.scheme in _CLUSTER_SCHEMES and (path or "db" in query):
        raise InvalidConfig([_NO_DATABASE])
    master_name, _, database = path.partition("/") if has_sentinels else ("", "", path)
    if has_sentinels and not _MASTER_NAME.fullmatch(master_name):
        raise InvalidConfig(
            [f"the Redis URL {_FORMS}: the master's name has letters, digits, dots, underscores and hyphens"]
        )
    return Address(
        host="" if is_unix or is_topology else unquote(parts.hostname or ""),
        port=parts.port or DEFAULT_PORT,
        path=unquote(parts.path) if is_unix else "",
        tls=is_tls,
        tls_ca_file=query.get("ssl_ca_certs", ""),
        db=_database(query.get("db") or ("" if is_unix else database)),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        tls_cert_file=query.get("ssl_certfile", ""),
        tls_key_file=query.get("ssl_keyfile", ""),
        sentinels=tuple(hosts) if has_sentinels else (),
        seeds=() if has_sentinels else tuple(hosts),
        master_name=master_name,
        sentinel_username=query.get("sentinel_username", ""),
        sentinel_password=query.get("sentinel_password", ""),
        connect_timeout_ms=_timeout(query, "connect_timeout_ms", CONNECT_TIMEOUT_MS),
        timeout_ms=_timeout(query, "timeout_ms", TIMEOUT_MS),
    )


def _options(query: str) -> dict[str, str]:
    given = parse_qs(query.replace("+", "%2B"), keep_blank_values=True)  # a password is no form: its + is no space
    twice = [name for name, values in given.items() if len(values) > 1 and name in _OPTIONS]
    if twice:
        raise InvalidConfig([f"the Redis URL has {twice[0]} twice: give it once"])
    return {name: values[0] for name, values in given.items()}


def _check_options(query: Mapping[str, str], is_tls: bool, has_sentinels: bool) -> None:
    unknown = [name for name in query if name not in _OPTIONS]
    if unknown:  # `split_url` has refused a URL whose password may reach to here; the shape is looked at all the same
        # Behind a password here that has an & in it, the rest of it looks like an option.
        is_shown = "sentinel_password" not in query and _OPTION_NAME.fullmatch(unknown[0])
        named = f" {unknown[0]}" if is_shown else ""
        raise InvalidConfig([f"the Redis URL has an unknown option{named}: there are {', '.join(_OPTIONS)}"])
    of_sentinels = [name for name in _SENTINEL_OPTIONS if name in query]
    if of_sentinels and not has_sentinels:
        raise InvalidConfig([f"the Redis URL has {of_sentinels[0]}, which is for redis+sentinel:// only"])
    if of_sentinels and not query.get("sentinel_password"):
        raise InvalidConfig(["the Redis URL has no sentinel_password, or an empty one"])
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


def _shown_host(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
