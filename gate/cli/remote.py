"""`gate --url https://gate.example --operator NAME COMMAND`: a command from elsewhere, over a deployment's `/v1`.

Each command of `gate.cli` that works from elsewhere has a function next to the one that asks Redis: it is given a `Remote`, and
returns the same values, so tables and `--json` documents have one place. What a node refuses is raised as the error that the
same command raises on a node. So the exit status 1 of `gate check` means "denied": a wrong password, a role that does not
suffice and an untrusted certificate are `Unavailable`, status 3.

The password is never an argument, since any user of the machine can list those. It is sent over TLS with a certificate that is
verified, or to this machine, unless `--insecure-http` allows more; a redirect is not followed, so that it reaches one server.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from gate.core.urls import host_of
from gate.errors import GateError, InvalidConfig, InvalidInput, NotFound, Refused, Stale, Unavailable

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

    from gate.cli.store_connection import Settled

PASSWORD, PASSWORD_FILE = "GATE_OPERATOR_PASSWORD", "GATE_OPERATOR_PASSWORD_FILE"
MAX_PASSWORD_FILE_BYTES = 4_096
# Of a connect, and of an answer: a write is answered within a second or two, a batch of checks in milliseconds.
TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 64 << 20
# The longest page that all listings of `/v1` give.
PAGE_ROWS = 1_000

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# By the word of a refusal; mistakes of a call are `InvalidConfig`, and anything else is `Unavailable`.
_FAULTS: Mapping[str, type[GateError]] = {
    "not-found": NotFound, "refused": Refused, "list-full": Refused, "user-limit": Refused, "stale": Stale,
}  # fmt: skip
_MISTAKES = {"invalid", "too-long", "body-encoded"}


class Elsewhere(NamedTuple):
    """What the options before the command say."""

    url: str
    operator: str | None
    app: str | None = None
    ca: Path | None = None
    insecure_http: bool = False

    def checked(self) -> Elsewhere:
        """The same; raises `InvalidConfig` with all its mistakes."""
        problems = _url_problems(self.url, self.insecure_http)
        if self.operator is None or ":" in self.operator:
            problems.append("--operator: say whose name and password are to be sent")
        if problems:
            raise InvalidConfig(problems)
        return self


# Where the command of this process acts; None: here.
ELSEWHERE: ContextVar[Elsewhere | None] = ContextVar("elsewhere", default=None)


def node_only() -> InvalidInput:
    """The error of a command that has no form over HTTP."""
    return InvalidInput("--url", "this command works on a node only: run it there, without --url and GATE_URL")


def _url_problems(text: str, insecure_http: bool) -> list[str]:
    try:
        url = urlsplit(text)
        host, _ = host_of(url.hostname or ""), url.port
    except ValueError as fault:
        return [f"--url: {fault}"]
    if url.scheme not in ("http", "https") or not host:
        return [f"--url: write https://HOST[:PORT], got {text[:80]!r}"]
    if url.username is not None or url.password is not None:
        return [f"--url: holds no name and no password: give --operator NAME, and {PASSWORD}"]
    if url.query or url.fragment:
        return ["--url: holds no query and no fragment"]
    if url.scheme == "http" and host not in _LOOPBACK and not insecure_http:
        return ["--url: would send the password unencrypted: write https://, or allow it with --insecure-http"]
    return []


class Remote:
    """One deployment, for one command; `app_key` is the App whose Users it is about, "" without one."""

    def __init__(self, there: Elsewhere, app_key: str = "") -> None:
        self._there = there
        self._app = {"Gate-App": app_key} if app_key else {}
        self.app_key = app_key

    def get(self, path: str, **query: bytes | str | int | None) -> Any:
        """The answer to a GET; members that are None are left out."""
        # Bytes are percent-encoded as they are: ids need not be UTF-8.
        given = urlencode({name: value for name, value in query.items() if value is not None})
        return self.send("GET", f"{path}?{given}" if given else path)

    def pages(
        self, path: str, rows: str, limit: int, token: str = "token", **query: bytes | str | int | None
    ) -> list[Any]:
        """The `rows` of one page after the other, until none follows or there are more than the limit."""
        found: list[Any] = []
        following = None
        while len(found) <= limit:
            page = self.get(path, count=min(PAGE_ROWS, limit + 1 - len(found)), **{token: following}, **query)
            found += page[rows]
            following = page.get("next")
            if not following:
                break
        return found

    def write(self, method: str, path: str, body: Mapping[str, Any]) -> Settled:
        """A call that writes: how far it got. Members that are None are left out."""
        return settled_of(self.send(method, path, {name: one for name, one in body.items() if one is not None}))

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to one call, decoded. Raises what the module's docstring says."""
        import orjson  # late, as all that a local command does without

        response, raw = self._exchange(method, path, None if body is None else orjson.dumps(body))
        # Not followed: the password would go to an address that the caller did not give.
        if 300 <= response.status < 400:
            raise self._away(f"leads to {response.getheader('Location', 'elsewhere')}: give that address with --url")
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise self._away(f"answered {response.status} without JSON: is it Gate?")
        if response.status != 200:
            raise _refusal(answer, self._there)
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[HTTPResponse, bytes]:
        from http.client import HTTPException
        from ssl import SSLCertVerificationError

        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        connection, is_sent = self._connection, False
        try:
            if connection.sock is None:
                connection.connect()
            # From here on it is unknown whether a write was done; a read can simply be repeated.
            is_sent = method != "GET"
            connection.request(method, self._url.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            return response, response.read(MAX_ANSWER_BYTES)
        except SSLCertVerificationError as fault:
            raise self._away(f"has a certificate that is not trusted ({fault.verify_message}): say --ca FILE") from None
        except (OSError, HTTPException) as fault:
            why = (fault.strerror if isinstance(fault, OSError) else "") or str(fault) or type(fault).__name__
            late = " (whether it was done is unknown)" if is_sent else ""
            raise self._away(f"can't be reached: {why}{late}") from None

    @property
    def _url(self) -> SplitResult:
        return urlsplit(self._there.url)

    def _away(self, problem: str) -> Unavailable:
        return Unavailable(f"{self._url.scheme}://{self._url.netloc} {problem}")

    @cached_property
    def _headers(self) -> dict[str, str]:
        pair = f"{self._there.operator}:{_password(self._there.operator or '')}".encode("utf-8", "surrogateescape")
        return {"Authorization": "Basic " + base64.b64encode(pair).decode(), **self._app}

    @cached_property
    def _connection(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection
        from ssl import SSLError, create_default_context

        host = self._url.hostname or ""
        if self._url.scheme == "http":
            return HTTPConnection(host, self._url.port or 80, timeout=TIMEOUT_S)
        try:
            trusted = create_default_context(cafile=self._there.ca)
        except (OSError, SSLError) as fault:
            raise InvalidInput("--ca", f"{self._there.ca} holds no certificate that can be read ({fault})") from None
        return HTTPSConnection(host, self._url.port or 443, timeout=TIMEOUT_S, context=trusted)


def _refusal(answer: Mapping[str, Any], there: Elsewhere) -> GateError:
    word, message = str(answer.get("error")), str(answer.get("message"))
    if word in _MISTAKES:
        return InvalidConfig([message])
    if answer.get("outcome") == "unknown":
        message += " (whether it was done is unknown)"
    kind = _FAULTS.get(word)
    return Unavailable(f"{there.operator} at {there.url}: {message}") if kind is None else kind(message)


def _password(operator: str) -> str:
    """From the environment, a file that it names, or the terminal. Raises `InvalidInput` without any."""
    given, path = os.environ.get(PASSWORD), os.environ.get(PASSWORD_FILE)
    if given and path:
        raise InvalidConfig([f"{PASSWORD} and {PASSWORD_FILE}: give one of them"])
    if given:
        return given
    if path:
        try:
            with open(path, "rb") as file:
                return os.fsdecode(file.read(MAX_PASSWORD_FILE_BYTES)).rstrip("\r\n")
        except OSError as fault:
            raise InvalidInput(PASSWORD_FILE, f"{path} can't be read: {fault.strerror}") from None
    if not sys.stdin.isatty():
        raise InvalidInput(PASSWORD, f"is not set, nor is {PASSWORD_FILE}, and there is no terminal to ask at")
    from getpass import getpass  # late: a script has no use for it

    return getpass(f"password of {operator}: ")


# What commands send and read


def raw_id(shown: Any) -> bytes:
    """The bytes of an id in an answer: the inverse of `output.json_id`."""
    return shown.encode() if isinstance(shown, str) else base64.b64decode(shown["b64"])


def path_id(raw: bytes) -> str:
    """An id as a part of a path."""
    return quote(raw, safe="")


def read_moment(shown: int | None) -> int:
    """The moment, ms, of an answer in which null is without end."""
    from gate.core.model import FOREVER_MS  # late, as above

    return FOREVER_MS if shown is None else shown


def known_user(remote: Remote, user: bytes) -> Any:
    """What is known of a User; None if nothing is."""
    try:
        return remote.get(f"/v1/users/{path_id(user)}")
    except NotFound:
        # An App that is unknown or out of reach is a 404 as well: this finds it, and raises again.
        remote.get("/v1/bans", count=1)
        return None


# How far a write got, the furthest first.
APPLIED = ("all", "node", "pending")


def settled_of(answer: Mapping[str, Any]) -> Settled:
    """How far a write got. A node answered, so at least one is live."""
    from gate.cli.store_connection import Settled  # late: as in `gate.cli.command`

    return Settled(answer["revision"], answer["applied"], 1, answer.get("pending_reason", ""))


def remote_of(app_key: str = "") -> Remote | None:
    """The deployment that the options before the command name; None without any."""
    there = ELSEWHERE.get()
    return None if there is None else Remote(there, app_key)
