"""Schemathesis against a live node: whatever the document allows or forbids, the answers are documented ones, and never a 5xx.

Requests that the document allows are done, those that it forbids are refused. Answers may hold no member that it doesn't tell.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import requests

from gate.core.limits import MAX_RATE
from gate.http.forms import FORM_TYPE
from gate.http.openapi import openapi_document
from harness.seeds import seed
from harness.service import GateService, Services

MAX_EXAMPLES = os.environ.get("GATE_FUZZ_EXAMPLES", "3")
"""Random ones of each endpoint, next to those at each bound."""
SEED = seed(1)
"""The same in every run of the suite: others, and more examples, are for a search by hand."""
MOST_ITEMS = 1_000
"""Arrays at a higher bound take their while to be thought of, and tests of their own endpoint send them anyway."""
TIMEOUT_S = 250 + 10 * int(MAX_EXAMPLES)
REPOSITORY = Path(__file__).parents[2]
FAMILIES = {
    "user": "^/user/",
    "checks": "^/v1/(check|explain)",
    "v1": "^/v1/(?!apps|check|explain)",
    "others": "^/(?!user/|v1/(?!apps))",
}
"""Alike in size, so that the processes of a run share them."""


def as_tested(document: dict[str, Any]) -> dict[str, Any]:
    """The document, its answers closed against members that it doesn't tell, its forms read as what they are: text."""
    tested = deepcopy(document)
    for schema in tested["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
        for member in schema.get("properties", {}).values():
            if member.get("maxItems", 0) > MOST_ITEMS:
                del member["maxItems"]
    for one in [one for methods in tested["paths"].values() for one in methods.values()]:
        for parameter in one.get("parameters", ()):
            if parameter.get("allowEmptyValue"):
                parameter["schema"] = {"anyOf": [parameter["schema"], {"const": ""}]}
        members = (
            one.get("requestBody", {}).get("content", {}).get(FORM_TYPE, {}).get("schema", {}).get("properties", {})
        )
        for field, schema in members.items():
            if schema.get("type") == "array":
                members[field] = {"anyOf": [schema, schema["items"]]}
    return tested


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    """One without limits of end users in the way: thousands of calls come from one of them."""
    service = start_module_service.start()
    limits = f"client-user={MAX_RATE},client-user-asked={MAX_RATE}"
    command = [sys.executable, "-m", "gate", "app", "set", service.credentials.app_key, "--rate-limits", limits]
    subprocess.run([*command, "--data", str(service.data)], cwd=REPOSITORY, check=True)
    return service


@pytest.mark.timeout(TIMEOUT_S + 20)
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_the_documented_ones(family: str, service: GateService, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(as_tested(openapi_document())))
    known = {"http": service.http, **asdict(service.credentials)}
    settings = app_settings(service)
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(REPOSITORY / "tests/http/schemathesis.toml"),
    ]
    command += ["run", str(document), "--url", service.http, "--include-path-regex", FAMILIES[family]]
    ended = subprocess.run(
        [*command, "--max-examples", MAX_EXAMPLES, "--seed", str(SEED), "--no-color"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "SCHEMATHESIS_HOOKS": "tests.http.fuzzing",
            "GATE_FUZZED": json.dumps(known),
            # What Hypothesis computes of Unicode and of the modules: seconds, and the same for each family.
            "HYPOTHESIS_STORAGE_DIRECTORY": str(REPOSITORY / ".hypothesis"),
            # Hypothesis reads it and chooses other examples then: the same ones wherever the suite runs.
            "CI": "true",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    # Else what was refused was refused for other reasons than the document's.
    assert app_settings(service) == settings


def app_settings(service: GateService) -> Any:
    """The App that was called, as an operator sees it."""
    known = service.credentials
    url = f"{service.http}/v1/apps/{known.app_key}"
    reply = requests.get(url, auth=(known.operator, known.operator_password), timeout=10)
    assert reply.status_code == 200, reply.text
    return reply.json()
