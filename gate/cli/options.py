"""The options that every command shares, and what they resolve to: which data directory, which App, which Redis.

One place, so that `--data`, `--app`, `--redis` and `--json` read and behave alike everywhere. A `Target` resolves
lazily: a check never needs Redis, and `gate app list` needs no App.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from gate.core import ids
from gate.core.file_text import read_text
from gate.core.reasons import MAX_ACTOR_CHARS
from gate.errors import InvalidConfig, InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    from gate.service.running import Running
    from gate.store.durability import Durability

DEFAULT_DATA = Path("gate-data")
DEFAULT_HTTP = "127.0.0.1:8080"
DEFAULT_RESP = "127.0.0.1:6390"
CREDENTIALS_FILE = "credentials.json"
NODE_ID_FILE = "node-id"

DataOption = Annotated[
    # Typer's own check would report an unreadable path as wrong usage.
    Path,
    typer.Option("--data", envvar="GATE_DATA", metavar="DIR", readable=False, help="The service's data directory."),
]
AppOption = Annotated[
    str | None,
    typer.Option("--app", envvar="GATE_APP", metavar="KEY", help="App key; default: the App of credentials.json."),
]
RedisOption = Annotated[
    str | None,
    typer.Option("--redis", envvar="GATE_REDIS", metavar="URL", help="Redis; default: that of the service in DIR."),
]
PresenceRedisOption = Annotated[
    str | None,
    typer.Option(
        "--presence-redis",
        envvar="GATE_PRESENCE_REDIS",
        metavar="URL",
        help="Redis of Presence; default: that of --redis.",
    ),
]
HttpOption = Annotated[
    str | None,
    typer.Option(
        "--http",
        envvar="GATE_HTTP",
        metavar="HOST:PORT",
        help=f"Where HTTP is; default: that of the service in DIR, or {DEFAULT_HTTP}.",
    ),
]
RespOption = Annotated[
    str | None,
    typer.Option(
        "--resp",
        envvar="GATE_RESP",
        metavar="HOST:PORT",
        help=f"Where the RESP port is; default: that of the service in DIR, or {DEFAULT_RESP}.",
    ),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the next operator.")]
ActorOption = Annotated[
    str | None, typer.Option("--actor", metavar="NAME", help="Who decided it; default: your login name.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

T = TypeVar("T")


class _Credentials(msgspec.Struct):
    app_key: str


@dataclass(frozen=True)
class Target:
    """Where a command acts, as the options named it."""

    data: Path
    app: str | None = None
    redis: str | None = None
    presence_redis: str | None = None
    http: str | None = None
    resp: str | None = None

    @cached_property
    def services(self) -> list[Running]:
        """The services that run in the data directory now."""
        from gate.service.running import running_services  # late: `gate check` does not need it

        return running_services(self.data)

    def app_key(self) -> str:
        """The App meant; `InvalidInput` if the option is no App key, `NotFound` if nothing names one."""
        if self.app is not None:
            return ids.app_key(self.app)
        path = self.data / CREDENTIALS_FILE
        try:
            return msgspec.json.decode(read_text(path.read_bytes()), type=_Credentials).app_key
        except FileNotFoundError:
            raise NotFound(f"no App is named: say --app KEY (there is no {path})") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            raise Unavailable(f"{path} is not what `gate serve` writes ({fault}): say --app KEY") from None

    def redis_url(self) -> str:
        """The Redis meant: the option, that of the running service, or the embedded server; `Unavailable` without any."""
        if named := self._named_redis() or self._found("redis"):
            return named
        # Late: `gate check` needs neither Redis nor the code that starts it.
        from gate.service.embedded import socket_path, socket_url

        path = socket_path(self.data.absolute() / "redis")
        if not path.exists():
            raise Unavailable(
                f"no service keeps its Redis in {self.data}: start `gate serve` there, or name its Redis with --redis"
            )
        return socket_url(path)

    def presence_url(self) -> str:
        """The Redis that Presence is kept in: that of the facts, unless another is named."""
        return self._own_presence_redis() or self.redis_url()

    def has_presence_redis(self) -> bool:
        """Whether Presence has a Redis of its own."""
        return self._own_presence_redis() is not None

    def http_address(self) -> str:
        """The address of HTTP: from the option, the running service, or the default."""
        return self.http or self._found_address("http") or DEFAULT_HTTP

    def admin_address(self) -> str | None:
        """Where the running service has the paths for operators; None if they have no port of their own."""
        return self._found_address("admin")

    def resp_address(self) -> str:
        """The address of the RESP port, from the same sources."""
        return self.resp or self._found_address("resp") or DEFAULT_RESP

    def durability(self) -> Durability:
        """What a write is to outlive: `GATE_DURABILITY` and `GATE_DURABILITY_REPLICAS`, or as the running service has it.

        Raises `InvalidConfig` for a variable with another value.
        """
        from gate.config import OPTIONS  # late, as above
        from gate.store.durability import Durability

        found, problems = {}, []
        for name in ("durability", "durability_replicas"):
            option = OPTIONS[name]
            # As the service has it: a write from the command line is to outlive what the service's do.
            running = next((each.options[name][0] for each in self._services_seen() if name in each.options), None)
            text = os.environ.get(option.variable) or running or option.default or ""
            try:
                found[name] = option.read(text)
            except ValueError as fault:
                problems.append(f"{option.variable}: {fault} (got {text[:80]!r})")
        if problems:
            raise InvalidConfig(problems)
        return Durability(found["durability"], found["durability_replicas"])

    def replica_dir(self) -> Path:
        """The directory that this node's Replica is stored in."""
        return self.data / "replica"

    def _named_redis(self) -> str | None:
        return self.redis or _redis_in_file("GATE_REDIS_FILE")

    def _own_presence_redis(self) -> str | None:
        if named := self.presence_redis or _redis_in_file("GATE_PRESENCE_REDIS_FILE"):
            return named
        facts = self._named_redis()
        with suppress(PermissionError):
            if facts is None or facts == self._found("redis"):  # a service knows only its own Redis
                return self._found("presence_redis")
        return None

    def _services_seen(self) -> list[Running]:
        try:
            return self.services
        except PermissionError:  # a service of another user
            return []

    def _found(self, attribute: str) -> str | None:
        return next((found for each in self.services if (found := getattr(each, attribute))), None)

    def _found_address(self, attribute: str) -> str | None:
        from gate.listening import near_address  # late, as above

        with suppress(PermissionError):  # a service of another user
            if address := self._found(attribute):
                return near_address(address)
        return None

    def secret_key_file(self) -> str | None:
        """The file of keys that open App secrets: by the environment, or that of the running service if it can be read."""
        if path := os.environ.get("GATE_SECRET_KEY_FILE"):
            return path
        found = [
            each.options["secret_key_file"][0] for each in self._services_seen() if "secret_key_file" in each.options
        ]
        # A file of the service's user may be closed to this one; then secrets stay sealed.
        return next((path for path in found if path is not None and os.access(path, os.R_OK)), None)

    def node_id(self) -> str | None:
        """The id of the node whose data this is, if a service ever ran here."""
        try:
            return (self.data / NODE_ID_FILE).read_text().strip() or None
        except OSError:
            return None


def _redis_in_file(variable: str) -> str | None:
    if variable not in os.environ:
        return None
    from gate.config import redis_in_file  # late: seldom asked for

    return redis_in_file(variable, os.environ)


def login_name() -> str:
    """The login name of the user, also under sudo; empty if the system does not know it."""
    import getpass  # late: only writes name an actor

    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid, as in a container
        return ""
    return name[:MAX_ACTOR_CHARS] if name.isprintable() else ""


def system_user() -> str:
    """The name of the user that this process runs as, by the system's own list; its number if it has none there."""
    import pwd  # late: only writes name an actor

    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class Mistakes:
    """Collects the mistakes of one call, so that all are named at once."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def take(self, read: Callable[[], T], otherwise: T) -> T:
        """What `read` returns, or `otherwise` after noting what was wrong."""
        try:
            return read()
        except InvalidInput as fault:
            self.add(fault)
            return otherwise

    def add(self, fault: InvalidInput) -> None:
        """Note one mistake, or the many that another collector found."""
        self._problems.extend(fault.problems if isinstance(fault, InvalidConfig) else [str(fault)])

    def settle(self) -> None:
        """Raise `InvalidConfig` naming all of them, if there are any."""
        if self._problems:
            raise InvalidConfig(self._problems)


@contextmanager
def all_mistakes() -> Iterator[Mistakes]:
    """Mistakes noted inside are raised together at the end."""
    mistakes = Mistakes()
    yield mistakes
    mistakes.settle()


def given_id(argument: str, parameter: str) -> bytes:
    """The id that a command-line argument spells, byte for byte (bytes that are no UTF-8 arrive as surrogates)."""
    return ids.user_id(os.fsencode(argument), parameter)


def given_ids(arguments: Iterable[str], parameter: str, mistakes: Mistakes) -> list[bytes]:
    """Ids in order, each once; every bad one is noted."""
    read: dict[bytes, None] = {}
    for argument in arguments:
        raw = mistakes.take(lambda argument=argument: given_id(argument, parameter), b"")  # type: ignore[misc]
        read[raw] = None
    return list(read)
