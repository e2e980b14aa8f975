"""What a deployment may choose about HTTP, and the limits that it may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gate.core.operators import OperatorRole
from gate.http.peers import Network
from gate.option_values import OnStale

# Fields of one form or query string.
MAX_FIELDS = 4_096
# The request line, hence the query string: a thousand ids of usual length fit. Longer lists have a body to go in.
MAX_LINE_BYTES = 64 * 1024
# A connection that waits for its next request is closed after this, unless the deployment says otherwise. Longer than common
# clients and proxies keep one (60 to 100 s): who closes first must be the side that sends, or a request meets the end.
DEFAULT_IDLE_S = 120.0
# How often a connection whose client ended its side is looked at, until its answers are written.
HALF_CLOSED_LOOK_S = 0.02
# The head of a request must be complete by then, from the connection's beginning or from the head's first byte.
HEAD_DEADLINE_S = 10.0
# How long a body that is not read is discarded after its refusal, so that the client sees the refusal before the end.
LINGER_S = 2.0
# What one connection may give the parser in one turn of the loop: 4 KiB of chunks of a byte take some 2 ms.
TURN_BYTES = 4 * 1024
# The same of a body whose length is known and that is not in chunks: to take it is to copy it.
BODY_TURN_BYTES = 64 * 1024
# What is read of one WebSocket: past it the rest waits. Two of the longest messages; frames that make no message count too.
MAX_WEBSOCKET_BYTES_A_SECOND = 256 * 1024
# Connections that the kernel completes ahead of us, Linux's own bound: fewer, and a storm's clients wait for TCP to retry.
BACKLOG = 4_096
# Of a WebSocket, and the time for its answer. Shorter than the idle limits of usual proxies, 30 to 60 s.
PING_EVERY_S = 25.0
# How long a check that demands a Revision waits for it.
MIN_WAIT_MS = 100
# How often it looks meanwhile; one look is a read of memory.
MIN_POLL_S = 0.002


@dataclass(frozen=True)
class ProxySignIn:
    """The headers in which a trusted proxy names an operator and the groups of the person, and the roles of groups."""

    header: str
    groups_header: str = ""
    groups: Mapping[str, OperatorRole] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """How this node serves HTTP."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one."""
    admin: tuple[str, int] | None = None
    """Host and port of the paths for operators and monitoring, where these are apart; port 0 as above."""
    reuse_port: bool = False
    """Whether others may hold the port with SO_REUSEPORT, as a supervisor does to keep it over a restart."""
    max_staleness_ms: int = 0
    """Facts older than this are too old for a check; 0 sets no bound."""
    on_stale: OnStale = "serve"
    """What a check does past `max_staleness_ms`: answer all the same, or 503."""
    ack_timeout_ms: int = 1_000
    """How long a write waits to be effective before it answers `pending`."""
    max_websockets: int = 10_000
    """Connections of clients at a time; a process needs a file for each."""
    ping_every_s: float = PING_EVERY_S
    """How often each of them is pinged; a client that has sent nothing since the last ping is disconnected."""
    idle_s: float = DEFAULT_IDLE_S
    """How long a connection may wait for its next request."""
    public_url: str = ""
    """Where clients reach this node, past proxies: scheme, host, and the path that a proxy takes off; "" if as it is."""
    trusted_proxies: tuple[Network, ...] = ()
    """Peers whose `X-Forwarded-For` is believed."""
    sign_in: ProxySignIn | None = None
    """The headers in which a trusted proxy names an operator; None if only passwords are accepted."""
    access_log: bool = True
    """One line a request: method, path without its query, status, time."""
    log_checks: float = 1.0
    """Of the checks that got a Verdict, the share that has such a line too: 0 none, 1 all."""

    @property
    def public_path(self) -> str:
        """What clients see before each path: "" or `/some/prefix`."""
        return urlsplit(self.public_url).path
