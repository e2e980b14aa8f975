"""Makes `docs/images/console.png` again: a real node with a few facts, and its console in Debian's Chromium.

    .venv/bin/python -m scripts.console_image [FILE]

Needs what `make test` installs: playwright in `.venv`, and the package chromium.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright

from harness.ending import exit_on_signals
from harness.service import GateService

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "console.png"
SIZE = ViewportSize(width=1240, height=300)
FACTS = (
    {"kind": "user", "user": "alice", "name": "Alice"},
    {"kind": "user", "user": "bob", "name": "Bob"},
    {"kind": "blacklist", "owner": "bob", "members": ["alice", "mallory", "trent"]},
    {"kind": "ban", "user": "mallory", "until": 4_102_444_800_000},
)
SENDER, RECIPIENT = "alice", "bob"


def main(image: Path) -> int:
    """Start, load, look, stop."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("console_image: no Chromium: scripts/install-test-tools installs Debian's", file=sys.stderr)
        return 1
    exit_on_signals()
    with tempfile.TemporaryDirectory() as folder, GateService.start(Path(folder) / "gate-data") as service:
        _load(service, Path(folder) / "facts.ndjson")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport=SIZE, color_scheme="light")
            _open(page, service)
            image.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=image, full_page=True)
            browser.close()
    print(f"{image}: {image.stat().st_size // 1024} KB")
    return 0


def _load(service: GateService, facts: Path) -> None:
    facts.write_text("".join(json.dumps(fact) + "\n" for fact in FACTS))
    command = [sys.executable, "-m", "gate", "import", str(facts), "--data", str(service.data)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _open(page: Page, service: GateService) -> None:
    known = service.credentials
    page.goto(f"{service.http}/console/{known.app_key}/check?from={SENDER}&to={RECIPIENT}")
    page.get_by_label("Operator").fill(known.operator)
    page.get_by_label("Password").fill(known.operator_password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("blacklisted").first.wait_for()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGE))
