"""`gate serve`: reads options and environment, then hands over to the supervisor.

Every option is taken as text, so that one call is told all its mistakes at once rather than the first.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from gate.cli.exit_status import CANNOT_GROW, reason_of
from gate.config import OPTIONS, read_config
from gate.errors import CannotStart

_Text = str | None


def _option(name: str, flag: str | None = None) -> typer.models.OptionInfo:
    option = OPTIONS[name]
    told = f"{option.summary} [{option.variable}; default: {option.shown_default}]"
    made: typer.models.OptionInfo = typer.Option(flag or option.flag, metavar=option.metavar or None, help=told)
    return made


def serve(
    data: Annotated[_Text, _option("data")] = None,
    node_name: Annotated[_Text, _option("node_name")] = None,
    redis: Annotated[_Text, _option("redis")] = None,
    http: Annotated[_Text, _option("http")] = None,
    resp: Annotated[_Text, _option("resp")] = None,
    unix: Annotated[_Text, _option("unix")] = None,
    workers: Annotated[_Text, _option("workers")] = None,
    http_workers: Annotated[_Text, _option("http_workers")] = None,
    role: Annotated[_Text, _option("role")] = None,
    redis_server: Annotated[_Text, _option("redis_server")] = None,
    presence_redis: Annotated[_Text, _option("presence_redis")] = None,
    lease_ttl_ms: Annotated[_Text, _option("lease_ttl_ms")] = None,
    partitions: Annotated[_Text, _option("partitions")] = None,
    allow_eviction: Annotated[bool, _option("allow_eviction")] = False,
    max_staleness_ms: Annotated[_Text, _option("max_staleness_ms")] = None,
    on_stale: Annotated[_Text, _option("on_stale")] = None,
    ack_timeout_ms: Annotated[_Text, _option("ack_timeout_ms")] = None,
    durability: Annotated[_Text, _option("durability")] = None,
    durability_replicas: Annotated[_Text, _option("durability_replicas")] = None,
    drain_timeout: Annotated[_Text, _option("drain_timeout")] = None,
    health: Annotated[_Text, _option("health")] = None,
    http_idle_timeout: Annotated[_Text, _option("http_idle_timeout")] = None,
    public_url: Annotated[_Text, _option("public_url")] = None,
    trusted_proxies: Annotated[_Text, _option("trusted_proxies")] = None,
    log_level: Annotated[_Text, _option("log_level")] = None,
    log_format: Annotated[_Text, _option("log_format")] = None,
    log_checks: Annotated[_Text, _option("log_checks")] = None,
) -> None:
    """Run the service until SIGTERM or SIGINT. Prints one line, `gate ready ...`, when all of it answers."""
    given: dict[str, str] = {name: value for name, value in locals().items() if isinstance(value, str)}
    if allow_eviction:
        given["allow_eviction"] = "1"
    try:
        config = read_config(given, os.environ)
        # Imported late: a wrong option is reported without waiting for the rest of the program.
        from gate.service.effective_options import effective_options
        from gate.service.supervisor import run
        from gate.store.address import check_addresses

        check_addresses({"--redis": config.redis, "--presence-redis": config.presence_redis})
        raise typer.Exit(run(config, effective_options(config, given, os.environ)))
    except OSError as fault:
        where = f"{fault.filename}: " if isinstance(fault.filename, str) else ""
        advice = "; make room there, or choose another directory with --data" if fault.errno in CANNOT_GROW else ""
        raise CannotStart(f"{where}{reason_of(fault)}{advice}") from fault
