"""`gate status` and `gate nodes`: this node, and all others, as each sees itself now.

`status` works with Redis away, from this node's own files; `nodes` needs Redis. Exits 3 where neither a service runs in the
data directory nor Redis answers.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gate.cli.command import Command, takes
from gate.cli.options import Target
from gate.cli.output import counted, print_json, print_table, say, warn
from gate.cli.store_connection import StoreConnection
from gate.cli.time_format import shown_duration
from gate.clock import wall_ms
from gate.errors import AppUnknown, GateError, InvalidConfig, NotFound, Unavailable

if TYPE_CHECKING:
    from gate.core.presence import Counts
    from gate.store.node_reports import NodeReport
    from gate.store.presence import PresenceStore

NODE_COLUMNS = ("node", "name", "host", "version", "Redis", "roles", "state", "lag", "checks/s", "clients")


@takes("app", "redis", "presence_redis")
def status(command: Command) -> None:
    """This node and all others: version, Redis, roles, lag, checks a second, who is online. Exits 3 if nothing answers."""
    try:
        reports, away = command.ask(_asked), None
    except Unavailable as fault:
        # Redis away and nothing here: the caller's status is 3, with Redis's reason.
        if not command.services:
            raise
        reports, away = {}, str(fault)
    # Its own word before what the files say: it knows its lag.
    own = reports.get(command.node_id() or "") or (_from_files(command) if command.services else None)
    others = {node: report for node, report in reports.items() if node != command.node_id()}
    online = None if away else _online(command)
    if command.as_json:
        listed = [node_document(node, report) for node, report in others.items()]
        print_json(
            {
                "node": node_document(own.node, own) | _places(command) if own else None,
                "redis_problem": away,
                "others": listed,
                "online": {"app": online[0], "users": online[1].users, "sessions": online[1].total} if online else None,
            }
        )
        return
    if own:
        _print_own(command, own)
    else:
        say(f"no service runs in {command.data}")
    if online:
        key, counts = online
        say(f"  online    {counted(counts.users, 'User')} with {counted(counts.total, 'Session')}, App {key}")
    if others:
        say(f"{counted(len(others), 'other node')}:")
        print_table(NODE_COLUMNS, (node_row(node, report) for node, report in others.items()))
    if away:
        warn(f"gate: {away}; the other nodes are not known")


@takes("redis")
def nodes(command: Command) -> None:
    """List the nodes that hold a lease, with what each says of itself; one that says nothing is listed all the same."""
    reports = command.ask(_asked)
    if command.as_json:
        print_json({"nodes": [node_document(node, report) for node, report in reports.items()]})
    elif reports:
        print_table(NODE_COLUMNS, (node_row(node, report) for node, report in reports.items()))
    else:
        say("no node holds a lease: start `gate serve` on this Redis")


async def _asked(connection: StoreConnection) -> dict[str, NodeReport | None]:
    from gate.store.node_reports import ask_reports  # late, as in `open_store`

    return await ask_reports(connection.store)


def _from_files(target: Target) -> NodeReport | None:
    """This node's report without its replicator; it takes a second, which the rate is counted over."""
    from gate.service.node_rates import counts_now, rates_between
    from gate.service.node_report import node_report

    before = counts_now(target.data)
    time.sleep(1)
    return node_report(target.data, target.node_id() or "", rates_between(before, counts_now(target.data)))


def _online(command: Command) -> tuple[str, Counts] | None:
    async def work(presence: PresenceStore, app_key: str) -> tuple[str, Counts]:
        return app_key, await presence.counts(app_key)

    try:
        return command.ask_presence(work)
    except (NotFound, AppUnknown):  # no App is named, and status is not about one
        return None
    except GateError as fault:
        warn(f"gate: who is online is not known: {fault}")
        return None


def _places(target: Target) -> dict[str, Any]:
    service = {name: next((found for each in target.services if (found := getattr(each, name))), None)
               for name in ("http", "admin", "resp", "resp_tls", "http_tls", "unix", "health")}  # fmt: skip
    if service["resp_tls"] or service["http_tls"]:
        service["tls_ends_at_ms"] = _certificate_ends_at_ms(target)
    return {"data": str(target.data.absolute()), **service, "pids": [each.pid for each in target.services]}


def _certificate_ends_at_ms(target: Target) -> int | None:
    """By the file, which the service read at its start or the last SIGHUP; None if the file can't be read here."""
    from gate.tls import ends_at_s  # late: few nodes have TLS ports

    files = [found for each in target.services if (found := each.options.get("tls_cert", (None, ""))[0])]
    try:
        return ends_at_s(files[0]) * 1_000 if files else None
    except InvalidConfig:
        return None


def node_document(node: str, report: NodeReport | None) -> dict[str, Any]:
    """One node in JSON."""
    from msgspec.structs import asdict

    if report is None:
        return {"node": node, "answers": False}
    # Samples are an hour of figures, which no command asks for.
    shown = {name: value for name, value in asdict(report).items() if name not in ("node", "samples")}
    return {"node": node, "answers": True, **shown}


def _print_own(target: Target, own: NodeReport) -> None:
    ready = "ready" if own.ready else "not ready"
    since = f", up {shown_duration(max(0, wall_ms() - own.started_at_ms))}" if own.started_at_ms else ""
    say(f"{own.name} ({own.node}) on {own.host}: {ready}, Gate {own.version}{since}")
    places = _places(target)
    rows = {
        "data": places["data"],
        "Redis": own.redis,
        "HTTP": places["http"],
        "admin": places["admin"],
        "RESP": ", ".join(filter(None, (places["resp"], places["unix"]))),
        "TLS": _tls_words(places),
        "roles": ", ".join(own.roles),
        "silent": ", ".join(own.silent),
        "facts": f"{own.state}, {shown_age(own.stale_ms)}, {counted(own.lag, 'Change')} behind",
        "checks/s": _rate(own),
        "clients": f"{counted(own.resp_connections, 'RESP connection')}, {counted(own.websockets, 'WebSocket')}",
    }
    for name, text in rows.items():
        if text:
            say(f"  {name:<9} {text}")


def _tls_words(places: dict[str, Any]) -> str:
    ports = {"HTTP": places["http_tls"], "RESP": places["resp_tls"]}
    words = [f"{name} {port}" for name, port in ports.items() if port]
    end_ms = places.get("tls_ends_at_ms")
    if end_ms is not None:
        from gate.tls import shown_end  # late, as above

        words.append(f"certificate ends {shown_end(end_ms // 1_000)}")
    return ", ".join(words)


def shown_age(stale_ms: int) -> str:
    """How old the facts are."""
    from gate.replica.status_page import NEVER_FRESH_MS

    if not stale_ms:
        return "fresh"
    return "of unknown age" if stale_ms >= NEVER_FRESH_MS else f"{shown_duration(stale_ms)} old"


def _rate(report: NodeReport) -> str:
    return "not counted yet" if report.checks_per_s is None else f"{report.checks_per_s:,.0f}"


def node_row(node: str, report: NodeReport | None) -> tuple[str, ...]:
    """One node in a table of `NODE_COLUMNS`."""
    if report is None:
        return (node, "", "", "", "", "", "no answer", "", "", "")
    state = report.state if not report.silent else f"{report.state}; silent: {', '.join(report.silent)}"
    # Both kinds in one number: a column more would not fit 160 characters.
    clients = f"{report.resp_connections + report.websockets:,}"
    return (node, report.name, report.host, report.version, report.redis, ", ".join(report.roles),
            f"{state}, {shown_age(report.stale_ms)}", f"{report.lag:,}", _rate(report), clients)  # fmt: skip
