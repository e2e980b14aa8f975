"""The package as `make client` builds it, and a node for its clients."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.service import GateService, Services

ROOT = Path(__file__).parents[2]


class Built(NamedTuple):
    """The folder of the package, and what npm packed."""

    folder: Path
    tarball: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    if shutil.which("npm") is None:
        pytest.skip("no npm: scripts/install-test-tools installs Debian's")
    out = tmp_path_factory.mktemp("client")
    run = subprocess.run([ROOT / "scripts/make-client", out], capture_output=True, text=True, timeout=300)
    if run.returncode == 1 and not (ROOT / "client/node_modules/.bin/tsc").exists():
        pytest.skip(run.stderr.strip() or "TypeScript can't be installed here")
    assert run.returncode == 0, run.stdout + run.stderr
    return Built(out / "client", Path(run.stdout.strip()))


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> Iterator[GateService]:
    service = start_module_service.start()
    yield service
    service.stop()
