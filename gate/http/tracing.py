"""OpenTelemetry traces of HTTP requests, behind `--otel-endpoint`: one span for each request, sent over OTLP/HTTP.

The libraries are an optional extra, and nothing of them is imported without the switch. A span is made when its request has
been answered, so that a request pays one call; a thread of the library's sends them in batches, and drops what it can't send.
No span holds an id, a query or a secret: its path is the route's template, as in the access log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from aiohttp import web

from gate import __version__
from gate.errors import CannotStart

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# How long a process that ends waits for the receiver.
FINISH_WITHIN_MS = 1_000
FAILURES_FROM = 500

Who = Mapping[str, str]


class Tracing:
    """The spans of one HTTP process."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("gate.http", __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._kind, self._failed = SpanKind.SERVER, Status(StatusCode.ERROR)

    def add(self, request: web.Request, path: str, status: int, seconds: float, request_id: str, who: Who) -> None:
        """A span of a request that took so long until now. `path` is the route's template, `who` was authenticated.

        The caller's `traceparent` is its parent, if there is one that can be read.
        """
        now_ns = time.time_ns()
        # The caller's own, so whatever it says is only linked to; the sampler decides.
        carried = {name: text for name in ("traceparent", "tracestate") if (text := request.headers.get(name))}
        span = self._tracer.start_span(
            f"{request.method[:16]} {path}",
            context=self._extract(carried),
            kind=self._kind,
            # It is made when the request is over, so its beginning is computed.
            start_time=now_ns - int(seconds * 1_000_000_000),
            attributes={
                "http.request.method": request.method[:16],
                "http.route": path,
                "http.response.status_code": status,
                "gate.request_id": request_id,
                **{f"gate.{name}": text for name, text in who.items()},
            },
        )
        if status >= FAILURES_FROM:
            span.set_status(self._failed)
        span.end(now_ns)

    def close(self) -> None:
        """Send what is left. It may wait, so not from the loop."""
        self._provider.force_flush(FINISH_WITHIN_MS)
        self._provider.shutdown()


def open_tracing(endpoint: str, node: str) -> Tracing:
    """Spans for the receiver of OTLP/HTTP at `endpoint`, such as http://127.0.0.1:4318. `CannotStart` without the libraries.

    The library's own variables hold, such as `OTEL_TRACES_SAMPLER` and `OTEL_EXPORTER_OTLP_HEADERS`.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise CannotStart("--otel-endpoint needs the extra `otel`: pip install -r requirements-otel.lock") from None
    resource = Resource.create({"service.name": "gate", "service.version": __version__, "service.instance.id": node})
    # The role closes it, within a bound; at exit the library would wait for its receiver as long as that takes.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces")))
    return Tracing(provider)


Trace = Callable[[web.Request, str, int, float, str, Who], None]
"""`Tracing.add`."""
