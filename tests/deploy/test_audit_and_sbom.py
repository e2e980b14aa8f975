"""`make audit` never calls a dependency safe that was not looked up; `make sbom` lists all of them with their hashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts.audit import audited
from tests.deploy.files import REPOSITORY

LOCK = (REPOSITORY / "requirements.lock").read_text()
SAFE = {"name": "aiohttp", "version": "3", "vulns": []}
WRONG = {"name": "redis", "version": "7", "vulns": [{"id": "CVE-1", "fix_versions": ["7.1"]}]}
SKIPPED = {"name": "lmdb", "skip_reason": "Dependency not found on PyPI and could not be audited"}
STAND_IN = """#!{python}
import sys
report = {report!r}
if report is None:
    sys.exit("requests.exceptions.ProxyError: no route to the index")
open(sys.argv[sys.argv.index("--output") + 1], "w").write(report)
print("No known vulnerabilities found")
"""


def audit(folder: Path, *dependencies: dict[str, Any], is_reachable: bool = True) -> tuple[int, str]:
    """With a program that answers as pip-audit does."""
    program = folder / "pip-audit"
    report = json.dumps({"dependencies": dependencies, "fixes": []}) if is_reachable else None
    program.write_text(STAND_IN.format(python=sys.executable, report=report))
    program.chmod(0o755)
    status, lines = audited("requirements.lock", program)
    return status, "\n".join(lines)


def test_an_audit_is_good_only_if_all_was_looked_up(tmp_path: Path) -> None:
    assert audit(tmp_path, SAFE, SAFE) == (0, "requirements.lock: 2 dependencies, no known vulnerability")
    status, text = audit(tmp_path, SAFE, WRONG, SKIPPED)
    assert status == 1 and "redis 7: CVE-1: fixed in 7.1" in text and "NOT AUDITED: 1 of 3" in text
    status, text = audit(tmp_path, SAFE, SKIPPED)
    assert status == 2 and "(lmdb): run it where the package index is reachable" in text
    status, text = audit(tmp_path, is_reachable=False)
    assert status == 2 and "NOT AUDITED" in text and "no route to the index" in text
    assert audit(tmp_path)[0] == 2, "an empty report says nothing"


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `make sbom` writes, by its own command."""
    if not Path(sys.executable).with_name("cyclonedx-py").exists():
        pytest.skip("no cyclonedx-py here: make sbom installs it")
    planned = subprocess.run(
        ["make", "--dry-run", "--always-make", "sbom"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    [command] = [line for line in planned.replace("\\\n", " ").splitlines() if "cyclonedx-py" in line]
    written = tmp_path_factory.mktemp("sbom") / "gate.cdx.json"
    command = command.replace("build/gate.cdx.json", str(written)).replace(
        ".venv/bin", str(Path(sys.executable).parent)
    )
    subprocess.run(command, shell=True, cwd=REPOSITORY, check=True, capture_output=True)
    made: dict[str, Any] = json.loads(written.read_text())
    return made


def test_the_list_names_this_version_and_every_dependency_with_its_hashes(sbom: dict[str, Any]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    about = sbom["metadata"]["component"]
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    assert (about["name"], about["version"]) == (project["name"], project["version"])
    listed = {
        (one["name"], one["version"]): {
            each["content"] for reference in one["externalReferences"] for each in reference.get("hashes", [])
        }
        for one in sbom["components"]
    }
    pinned = re.findall(r"^([a-z0-9.-]+)(?:\[.*\])?==([^ ;]+)((?:.*\\\n)*.*)$", LOCK, re.MULTILINE)
    assert len(pinned) > 20
    expected = {(name, version): set(re.findall(r"sha256:([0-9a-f]{64})", rest)) for name, version, rest in pinned}
    assert {name.lower().replace("_", "-"): hashes for (name, _), hashes in listed.items()} == {
        name: hashes for (name, _), hashes in expected.items()
    }
