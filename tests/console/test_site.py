"""What the console costs a node that serves none of its pages."""

from __future__ import annotations

import subprocess
import sys


def test_nothing_of_the_console_is_loaded_before_it_is_asked_for() -> None:
    listing = "import gate.service.roles.http, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout.split()
    assert {one for one in loaded if one.startswith("gate.console")} == {"gate.console", "gate.console.site"}
    assert "jinja2" not in loaded
