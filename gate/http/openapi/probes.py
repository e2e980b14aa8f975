"""The probes and the two documents themselves, which take no credentials, in the document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gate.http.health import healthz, metrics, readyz
from gate.http.openapi import shapes
from gate.http.openapi.described import Described

DESCRIBED: Mapping[str, tuple[Described, str]] = {
    "/healthz": (Described("Is the process alive?", shapes.Alive), healthz.__doc__ or ""),
    "/readyz": (
        Described("Should this node get traffic?", shapes.Ready),
        readyz.__doc__ or "",
    ),
    "/metrics": (Described("What Prometheus scrapes", "text/plain"), metrics.__doc__ or ""),
    "/openapi.json": (Described("This document", dict[str, Any]), "OpenAPI 3.1, the same on every node of a version."),
    "/docs": (Described("This document as a page", "text/html"), "Needs no other host, and no script."),
}
"""By path: what it is, and the text below. The method is GET."""
