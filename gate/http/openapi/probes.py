"""The probes and the two documents, which take no credentials and are no typed endpoints, in the document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from msgspec import UNSET, Struct, UnsetType

from gate.http.health import healthz, metrics, readyz


class Alive(Struct, kw_only=True):
    """The process answers."""

    status: Literal["ok"]


class Ready(Struct, kw_only=True):
    """This node may get traffic."""

    ready: Literal[True]
    stale_ms: int | None
    warnings: list[str] | UnsetType = UNSET


class NotReady(Struct, kw_only=True):
    """What this node waits for."""

    ready: Literal[False]
    missing: list[str]


class Probe(NamedTuple):
    """One path: what it is, what it answers (a type, or the content type of a text), and the text below."""

    summary: str
    answers: Any
    text: str


PROBES: Mapping[str, Probe] = {
    "/healthz": Probe("Is the process alive?", Alive, healthz.__doc__ or ""),
    "/readyz": Probe("Should this node get traffic?", Ready, readyz.__doc__ or ""),
    "/metrics": Probe("What Prometheus scrapes", "text/plain", metrics.__doc__ or ""),
    "/openapi.json": Probe("This document", dict[str, Any], "OpenAPI 3.1, the same on every node of a version."),
    "/docs": Probe("This document as a page", "text/html", "Needs no other host."),
}
"""By path; the method is GET."""
