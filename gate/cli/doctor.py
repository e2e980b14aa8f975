"""`gate doctor`: what is wrong on this machine, line by line, each with what to do about it.

Every check is a function that returns a `Finding`; none of them changes anything, and none is skipped because
another failed. Exits 1 if one fails; warnings alone exit 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from gate.cli import doctor_apps, doctor_local, doctor_redis
from gate.cli.command import Command, takes
from gate.cli.findings import Finding
from gate.cli.options import Target
from gate.cli.output import console, print_json
from gate.core.shown import shown_text

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@takes("http", "resp", "redis", "presence_redis")
def doctor(
    command: Command,
    allow_eviction: Annotated[
        bool,
        typer.Option("--allow-eviction", envvar="GATE_ALLOW_EVICTION", help="A Redis that may evict is a warning."),
    ] = False,
) -> None:
    """Look for what is wrong here, and say what to do."""
    # All of them before the first line: the exit status and the JSON need the whole.
    findings = list(_findings(command, allow_eviction))
    failed = any(finding.level == "fail" for finding in findings)
    if command.as_json:
        print_json({"ok": not failed, "findings": [finding._asdict() for finding in findings]})
    else:
        _print(findings)
    raise typer.Exit(1 if failed else 0)


def _findings(target: Target, allow_eviction: bool) -> Iterator[Finding]:
    # From what needs nothing to what needs the service: the first failure is often the cause of the others.
    yield doctor_local.directory(target.data)
    yield doctor_local.disk_space(target.data)
    yield doctor_local.credentials(target.data)
    yield doctor_local.file_limit()
    yield doctor_local.processors()
    yield doctor_local.compiled_core()
    yield from doctor_redis.findings(target, allow_eviction)
    yield from doctor_redis.presence_findings(target, allow_eviction)
    yield from doctor_apps.findings(target)
    yield doctor_local.replica_state(target.data)
    yield doctor_local.http_port(target.http_address())
    if admin := target.admin_address():
        yield doctor_local.http_port(admin, "--admin-http")
    yield doctor_local.resp_port(target.resp_address())
    # A data directory may have several, one for each set of roles.
    for service in target.services:
        if service.resp_tls or service.http_tls:
            yield from doctor_local.tls_ports(service)


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    out = console()
    for finding in findings:
        line = Text()
        line.append(f"{finding.level:<5}", style=_STYLES[finding.level])
        line.append(shown_text(f"{finding.subject}: {finding.found}"))
        if finding.advice:
            line.append(f"\n     {shown_text(finding.advice)}", style="dim")
        # A finding is one line for grep; rich would break it at the terminal's width.
        out.print(line, soft_wrap=True)
