"""The address in a URL: `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, `unix:///path[?db=n]`.

`redis+sentinel://[user:password@]host[:port],…/master-name[/db]` and `rediss+sentinel://…` name Sentinels, which know the
primary. The credentials before the `@` are those of the servers; those of the Sentinels are options.
`redis+cluster://[user:password@]host[:port],…` and `rediss+cluster://…` name some servers of a Redis Cluster.

Options after `?` set the timeouts of connecting and of an answer, and the files of TLS. Parsing here reports a mistake before
anything connects. No message repeats any part of the URL except the name of an option: the rest may be part of a password.
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
# Capacity of the kernel's address structure on Linux.
MAX_UNIX_PATH_BYTES = 107
# For the whole connection: TCP, TLS and the greeting take a round trip each.
CONNECT_TIMEOUT_MS = 500
# For one exchange with the server. A healthy server takes less than a millisecond; this leaves room for a slow disk.
TIMEOUT_MS = 1_000
# A server that does not answer within half a minute is not merely slow.
LEAST_TIMEOUT_MS, MOST_TIMEOUT_MS = 10, 30_000

_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_OPTIONS = ("db", "connect_timeout_ms", "timeout_ms", *_TLS_FILES, *_SENTINEL_OPTIONS)
_SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
_CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
_SCHEMES = ("redis", "rediss", "unix", *_SENTINEL_SCHEMES, *_CLUSTER_SCHEMES)

_OPTION_NAME = re.compile(r"[a-z_]{1,40}")

# The characters that a Sentinel accepts in the name of a monitored primary.
_MASTER_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")

SENTINEL_FORM = "redis+sentinel://HOST:PORT,HOST:PORT/MASTER-NAME"
CLUSTER_FORM = "redis+cluster://HOST:PORT,HOST:PORT"
_FORMS = f"must read redis://HOST[:PORT][/DB], rediss://…, unix:///PATH, {SENTINEL_FORM}[/DB] or {CLUSTER_FORM}"
_NO_DATABASE = f"the Redis URL has more than hosts: a Redis Cluster has no databases, so write {CLUSTER_FORM}"


class Address(NamedTuple):
    """One server. `path` is a unix socket; host and port are then unused.

    With `sentinels` host and port are unused as well: the Sentinels know the server that they monitor as `master_name`.
    Likewise with `seeds`, which are some servers of a Cluster. `is_clustered` is set for each server of a Cluster.
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
        """The URL for logs and errors, with the password hidden."""
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
        """Return the server of the same deployment at this host and port."""
        # Also true for an address that `at` made from one with seeds.
        is_clustered = bool(self.seeds) or self.is_clustered
        return self._replace(host=host, port=port, sentinels=(), master_name="", seeds=(), is_clustered=is_clustered)

    @property
    def each_seed(self) -> tuple[Address, ...]:
        """The servers of the Cluster named by the URL."""
        return tuple(self.at(host, port or DEFAULT_PORT) for host, port in self.seeds)

    @property
    def each_sentinel(self) -> tuple[Address, ...]:
        """The Sentinels, as servers with the Sentinels' credentials."""
        return tuple(
            self.at(host, port or DEFAULT_SENTINEL_PORT)._replace(
                username=self.sentinel_username, password=self.sentinel_password, db=0
            )
            for host, port in self.sentinels
        )


def parse_address(url: str) -> Address:
    """Parse a URL. Raises `InvalidConfig`, which shows the expected form without repeating a password."""
    try:
        # Only a topology's URL is a list of hosts; a comma in another URL is not a separator.
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
        # The hosts of a topology are in `sentinels` or `seeds`.
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
    given = parse_qs(query.replace("+", "%2B"), keep_blank_values=True)  # this is no HTML form: + is not a space
    twice = [name for name, values in given.items() if len(values) > 1 and name in _OPTIONS]
    if twice:
        raise InvalidConfig([f"the Redis URL has {twice[0]} twice: give it once"])
    return {name: values[0] for name, values in given.items()}


def _check_options(query: Mapping[str, str], is_tls: bool, has_sentinels: bool) -> None:
    unknown = [name for name in query if name not in _OPTIONS]
    if unknown:  # `split_url` refused a URL whose password may reach to here; the form is checked nevertheless
        # If a password before this one contains "&", its rest looks like an option.
        is_shown = "sentinel_password" not in query and _OPTION_NAME.fullmatch(unknown[0])
        named = f" {unknown[0]}" if is_shown else ""
        raise InvalidConfig([f"the Redis URL has an unknown option{named}: the options are {', '.join(_OPTIONS)}"])
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
        # Bounded before int(), as everywhere for untrusted numbers.
        or len(text) > 6
        or not LEAST_TIMEOUT_MS <= int(text) <= MOST_TIMEOUT_MS
    ):
        raise InvalidConfig(
            [f"{name} in the Redis URL must be a whole number from {LEAST_TIMEOUT_MS} to {MOST_TIMEOUT_MS:,}"]
        )
    return int(text)


def _shown_host(host: str, port: int) -> str:
    # IPv6 addresses need brackets in front of a port.
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_addresses(urls: Mapping[str, str | None]) -> None:
    """Parse URLs by the options that set them. Raises `InvalidConfig`, which names the option."""
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
