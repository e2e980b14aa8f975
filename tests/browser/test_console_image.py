"""The picture of the console in the README can be made again, and is small enough for a first page."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.conftest import CHROMIUM

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "images" / "console.png"
MOST_BYTES = 200_000
PNG = b"\x89PNG\r\n\x1a\n"


def size_of(image: Path) -> tuple[int, int]:
    """Width and height in pixels, after checking what it is and how large."""
    content = image.read_bytes()
    assert content.startswith(PNG) and len(content) < MOST_BYTES
    width, height = struct.unpack(">II", content[16:24])
    return width, height


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: scripts/install-test-tools installs Debian's")
def test_the_picture_is_made_again_at_its_size(tmp_path: Path) -> None:
    made = tmp_path / "console.png"
    subprocess.run([sys.executable, "-m", "scripts.console_image", str(made)], cwd=ROOT, check=True, timeout=100)
    width, height = size_of(made)
    # Another font may wrap a line more; a page that failed to load would be far shorter.
    assert width == size_of(PUBLISHED)[0]
    assert abs(height - size_of(PUBLISHED)[1]) < 150
