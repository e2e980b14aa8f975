"""docs/how-to/rongcloud-and-gate.md: of two SDK objects with one key, one calls Gate and the other RongCloud's host.

RongCloud's host is a listener here that notes the requests and answers 200: what it does with them is not Gate's affair.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conformance.gate import Gate
from tests.conformance.sdks import HERE, INSTALLED, skip_unless_installed

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "rongcloud-and-gate.md"
RUN_TIMEOUT_S = 60.0


@pytest.fixture
def cloud() -> Iterator[tuple[str, list[str]]]:
    """A host, and the paths that it was asked for."""
    asked: list[str] = []

    class Noting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "12")
            self.end_headers()
            self.wfile.write(b'{"code":200}')

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Noting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def snippet(heading: str) -> str:
    found = re.search(rf"^### {re.escape(heading)}\n.*?^```\w+\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def python(sdk: str, code: str, host: str) -> list[str]:
    """The command that runs the code with the SDK's hosts changed where it is installed; nothing else of it."""
    changed = f"""
import sys
sys.path.insert(0, {str(INSTALLED / sdk)!r})
{"import rongcloud.rongcloud as one" if "rc-server" in sdk else "import rongcloud.base as one"}
cloud_host = {host!r}
if hasattr(one, "RongCloudBase"):
    one.RongCloudBase.api_host = cloud_host
else:
    one.RongCloud.__init__.__defaults__ = (cloud_host,)
"""
    return [sys.executable, "-W", "ignore", "-c", changed + code]


def node(code: str, host: str) -> list[str]:
    at_home = "const messages = sdk({ appkey: key, secret })"
    assert at_home in code
    return ["node", "-e", code.replace(at_home, f"const messages = sdk({{ appkey: key, secret, api: ['{host}'] }})")]


@pytest.mark.parametrize(
    ("heading", "sdk"),
    [
        ("Python, `rc-server-sdk` 3.2.0", "rc-server-sdk-3.2.0"),
        ("Python, `rongcloud` 2.0.1", "rongcloud-2.0.1"),
        ("Node, `rongcloud-sdk` 3.1.1", "rongcloud-sdk"),
    ],
)
def test_users_go_to_gate_and_messages_to_rongcloud(
    gate: Gate, cloud: tuple[str, list[str]], heading: str, sdk: str
) -> None:
    skip_unless_installed(sdk)
    host, asked = cloud
    code = snippet(heading).replace("http://gate:8080", gate.url).replace("mallory", f"mallory-{sdk}")
    if sdk == "rongcloud-sdk":
        named = f"const key = {gate.key!r}, secret = {gate.secret!r}\n"
        command = node(named + code, host)
    else:
        command = python(sdk, f"key, secret = {gate.key!r}, {gate.secret!r}\n" + code, host)
    ran = subprocess.run(command, cwd=HERE / "node", capture_output=True, text=True, timeout=RUN_TIMEOUT_S)
    assert ran.returncode == 0, ran.stderr
    assert gate.verdict(f"mallory-{sdk}", "bob") == "sender-banned"
    assert asked == ["/message/private/publish.json"]
