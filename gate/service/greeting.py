"""What `gate serve` reports when all of it answers: one line for scripts, at its first start what a newcomer looks for, and
its state for systemd (`Type=notify`).

The ready line comes first on stdout at every start, so that a script need not know which start it is.
"""

from __future__ import annotations

import os
import platform
import socket
from contextlib import suppress

from gate import __version__
from gate.config import OPTIONS, ServeConfig
from gate.core.shown import shown_text
from gate.listening import near
from gate.option_values import Endpoint
from gate.sealing import open_to_others
from gate.service.credentials import Credentials, read_credentials
from gate.service.directory_layout import DirectoryLayout
from gate.service.effective_options import EffectiveOptions
from gate.service.limits import FEW_FILES, most_clients
from gate.service.ports import Ports


def greet(config: ServeConfig, layout: DirectoryLayout, ports: Ports, is_first_start: bool) -> None:
    """Report to scripts, people and systemd that all of it answers."""
    credentials = read_credentials(layout.credentials)
    line = ready_line(ports, credentials)
    print(line, flush=True)
    if is_first_start and config.log_format in ("auto", "text"):  # else a program reads both streams
        http, admin = (held and held.endpoint for held in (ports.http, ports.admin))
        print(first_words(config, layout, http, credentials, admin), flush=True)
    notify_systemd("READY=1", f"STATUS={line}")


# How long the supervisor's loop waits for room in systemd's queue, which holds some ten lines.
NOTIFY_WITHIN_S = 0.1


def notify_systemd(*lines: str) -> None:
    """Send systemd these lines of `sd_notify(3)`; nothing if no manager of services asked for them (`NOTIFY_SOCKET`).

    Own code, because the protocol is one datagram, and the libraries need a C compiler or have no maintainer.
    """
    if path := os.environ.get("NOTIFY_SOCKET", ""):
        address = "\0" + path[1:] if path.startswith("@") else path  # "@": Linux's abstract names
        # A manager that does not listen is no reason to end: its own timeout reports what it missed.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_manager:
            to_manager.settimeout(NOTIFY_WITHIN_S)
            to_manager.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), address)


def systemd_watches() -> bool:
    """Whether systemd expects signs of life from this process (`WatchdogSec=`)."""
    return bool(os.environ.get("WATCHDOG_USEC")) and os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(
        os.getpid()
    )


def ready_line(ports: Ports, credentials: Credentials | None) -> str:
    """Names only what runs here: with `--role` a service may have no HTTP, no RESP port, or no App of its own."""
    http, admin, resp, resp_tls, http_tls = (
        held and held.endpoint for held in (ports.http, ports.admin, ports.resp, ports.resp_tls, ports.http_tls)
    )
    parts = {"http": http, "resp": resp, "app": credentials and credentials.app_key}
    parts |= {"admin": admin, "resp-tls": resp_tls, "http-tls": http_tls}
    return " ".join(["gate ready", *(f"{name}={value}" for name, value in parts.items() if value)])


def begin_log(config: ServeConfig, files: int) -> None:
    """Set up the supervisor's log, and warn of what its options and limits make risky. `files`: how many may be open."""
    from structlog import get_logger

    from gate.logs import configure_logs

    configure_logs(config.log_level, config.log_format, "supervisor")
    if 0 <= files < FEW_FILES:
        get_logger().warning("few files may be open", files=files, clients_a_worker=most_clients(files))
    if config.secret_key_file is not None and open_to_others(config.secret_key_file):
        get_logger().warning("the file of secret keys can be read by others", file=config.secret_key_file)


def log_start(config: ServeConfig, options: EffectiveOptions) -> None:
    """Name the version, the Redis without its password, and the options that are not at their default."""
    from structlog import get_logger  # late, as below

    from gate.store.address import parse_address

    given = (f"{OPTIONS[name].flag}={value}" for name, (value, origin) in options.items() if origin != "default")
    get_logger().info(
        "gate started",
        version=__version__,
        python=platform.python_version(),
        redis=parse_address(config.redis).shown if config.redis else "embedded",
        options=" ".join(given),
    )


def log_stop(event: str, **fields: object) -> None:
    """Report a step of the stop."""
    from structlog import get_logger  # late, as below

    get_logger().info(event, version=__version__, **fields)


def log_checks() -> None:
    """Say whether the compiled core answers checks, and else why not. After the ready line: asking takes some milliseconds."""
    from structlog import get_logger  # late: needed once in a service's life

    from gate.replica.native_core import state

    compiled, why_not = state()
    answered_by = {"by": "the compiled core"} if compiled else {"by": "Python, slower", "compiled_core": why_not}
    get_logger().info("checks are answered", **answered_by)


def first_words(
    config: ServeConfig,
    layout: DirectoryLayout,
    http: Endpoint | None,
    credentials: Credentials | None,
    admin: Endpoint | None = None,
) -> str:
    """Lines for a first start: where the console and the credentials are, and how to stop."""
    from gate.store.address import parse_address  # late: needed once in a service's life

    redis = parse_address(config.redis).shown if config.redis else f"embedded, in {layout.redis}"
    rows = {"version": __version__}
    pages = admin or http
    if pages:
        # `--public-url` is where the other port is reached.
        base = (not admin and config.public_url) or f"http://{Endpoint(near(pages.host), pages.port)}"
        who = f", sign in as {credentials.operator}" if credentials and credentials.operator_password else ""
        rows["console"] = f"{base}/console/{who}"
    if credentials:
        rows["credentials"] = f"{layout.credentials} (the App's key and secret, the operator's password)"
    rows["Redis"] = redis
    rows["stop"] = f"Ctrl-C, or kill {os.getpid()}"
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {shown_text(text)}" for name, text in rows.items())
