"""`--otel-endpoint`: a span of each HTTP request reaches a receiver of OTLP, without ids; else nothing of it is loaded."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gate.errors import CannotStart
from gate.http.tracing import open_tracing
from harness.ports import LOOPBACK, free_port
from harness.service import Services
from harness.waiting import wait_until
from tests.faults.calls import Http

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
"""Of the library: how long spans wait to be sent together, in ms."""


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[Any]]]:
    """An address, and the spans that came there."""
    spans: list[Any] = []

    class Receiving(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in of_resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Receiving)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{LOOPBACK}:{server.server_port}", spans
    server.shutdown()
    server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_each_request_has_a_span_without_ids(start_service: Services, receiver: tuple[str, list[Any]]) -> None:
    address, spans = receiver
    service = start_service.start("--otel-endpoint", address, env=SOON)
    http = Http(service, {"traceparent": PARENT})
    assert http.ban("mallory-the-secret").status == 200
    assert http.check(("alice-the-secret", "bob"))["allowed"]
    assert http.call("GET", "/v1/users/eve-the-secret").status == 404
    wanted = {"POST /v1/bans", "GET /v1/check", "GET /v1/users/{user}"}
    wait_until(lambda: wanted <= {span.name for span in spans}, 20, "the spans")
    http.close()
    service.stop()
    own = {span.name: span for span in spans if span.name in wanted}
    for name, span in own.items():
        known = attributes(span)
        assert known["http.route"] == name.partition(" ")[2] and known["gate.request_id"]
        assert known["gate.app"] == service.app_key or name == "GET /v1/check"
        assert span.trace_id.hex() == PARENT.split("-")[1] and span.parent_span_id.hex() == PARENT.split("-")[2]
        assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 10_000_000_000
    assert {name: attributes(span)["http.response.status_code"] for name, span in own.items()} == {
        "POST /v1/bans": 200,
        "GET /v1/check": 200,
        "GET /v1/users/{user}": 404,
    }
    assert not any("the-secret" in str(span) for span in spans)


def test_a_receiver_that_is_away_costs_no_request_anything(start_service: Services) -> None:
    service = start_service.start("--otel-endpoint", f"http://{LOOPBACK}:{free_port()}", env=SOON)
    http = Http(service)
    assert all(http.check(("alice", "bob"))["allowed"] for _ in range(100))
    http.close()
    assert service.stop() == 0


def test_without_the_switch_nothing_of_it_is_loaded() -> None:
    asked = (
        "import sys, gate.service.roles.http; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_without_the_libraries_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(CannotStart, match=r"requirements-otel\.lock"):
        open_tracing(f"http://{LOOPBACK}:4318", "node")
