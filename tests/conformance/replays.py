"""Requests as each published SDK of RongCloud sends them, byte for byte."""

from __future__ import annotations

import re
import secrets
import time
from hashlib import sha1

from tests.conformance.gate import Answer, Gate, request_bytes

FORM = "application/x-www-form-urlencoded"
REQUEST_ID = "0b9a1f4e-64a7-4b0d-9f64-3c2f6d0c1a7e"
OPERATION = re.compile(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){3}")


def seconds() -> str:
    return str(int(time.time()))


def signed(gate: Gate, nonce: str, timestamp: str, prefix: str = "") -> dict[str, str]:
    signature = sha1((gate.secret + nonce + timestamp).encode()).hexdigest()
    values = {"App-Key": gate.key, "Nonce": nonce, "Timestamp": timestamp, "Signature": signature}
    return {prefix + name: value for name, value in values.items()}


def go(gate: Gate, path: str, body: str) -> Answer:
    """4.0.7: nineteen digits, seconds, a dashed request id."""
    headers = {
        "Host": "gate",
        "User-Agent": "rc-go-sdk/4.0.7",
        "Content-Length": str(len(body)),
        **signed(gate, "5577006791947779410", seconds()),
        "Content-Type": FORM,
        "X-Request-Id": REQUEST_ID,
        "Accept-Encoding": "gzip",
    }
    return gate.replay(request_bytes(path, headers, body.encode()))


def java(gate: Gate, path: str, body: str) -> Answer:
    """4.0.11: a decimal for a nonce, seconds, no dashes in the request id."""
    headers = {
        "App-Key": gate.key,
        **signed(gate, "173552.91186931543", seconds()),
        "X-Request-ID": REQUEST_ID.replace("-", ""),
        "Content-Type": FORM,
        "User-Agent": "rc-java-sdk/4.0.11",
        "Host": "gate",
        "Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        "Connection": "keep-alive",
        "Content-Length": str(len(body)),
    }
    return gate.replay(request_bytes(path, headers, body.encode()))


def php(gate: Gate, path: str, body: str, **more: str) -> Answer:
    """3.4.2, over curl."""
    headers = {
        "Host": "gate",
        "User-Agent": "rc-php-sdk/3.4.2",
        "Accept": "*/*",
        **signed(gate, "1804289383", seconds()),
        "X-Request-ID": secrets.token_hex(16),
        "Content-Type": FORM,
        "Content-Length": str(len(body)),
        **more,
    }
    return gate.replay(request_bytes(path, headers, body.encode()))


def dotnet(gate: Gate, path: str, body: str, version: str = "HTTP/1.1") -> Answer:
    """3.0.0: capitals in the signature, no agent; `HttpWebRequest` waits for `100 Continue`, and one fork speaks HTTP/1.0."""
    headers = signed(gate, "1804289383", seconds())
    headers = {
        "Content-Type": FORM,
        **headers,
        "Signature": headers["Signature"].upper(),
        "Host": "gate",
        "Content-Length": str(len(body)),
        **({"Expect": "100-continue"} if version == "HTTP/1.1" else {}),
        "Connection": "Keep-Alive",
    }
    request = request_bytes(path, headers, body.encode())
    return gate.replay(request.replace(b"HTTP/1.1", version.encode(), 1))


def any_user() -> str:
    return f"u{secrets.token_hex(5)}"


def ok(answer: Answer) -> dict[str, object]:
    assert (answer.status, answer.body["code"]) == (200, 200), answer
    body: dict[str, object] = answer.body
    return body


def refusal(answer: Answer) -> tuple[int, int, str]:
    assert set(answer.body) == {"code", "errorMessage", "url"}
    return answer.status, answer.body["code"], answer.body["errorMessage"]
