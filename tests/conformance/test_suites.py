"""The suites that RongCloud's Node SDKs were published with, against Gate: they say what their authors count on."""

from __future__ import annotations

import re

import pytest

from harness.service import GateService
from tests.conformance.gate import Gate, new_app
from tests.conformance.sdks import NODE, run_suite, skip_unless_installed

NOT_GATES = {f"User Tag.{call} Success" for call in ("set", "remove", "batchSet", "batchRemove", "getList")}
"""Push tags."""


def test_the_suite_of_3_1_1_passes_but_for_push_tags(service: GateService) -> None:
    gate = _its_app(service, "rongcloud-sdk", "spec/helpers/data.js")
    results = run_suite("rongcloud-sdk", gate.url)
    assert (len(results["passed"]), set(results["failed"])) == (36, NOT_GATES), results["failed"]


def test_the_suite_of_1_0_3_passes(service: GateService) -> None:
    gate = _its_app(service, "rongcloud-sdk-1", "test/config.js")
    results = run_suite("rongcloud-sdk-1", gate.url)
    assert (len(results["passed"]), results["failed"]) == (10, {})


def _its_app(service: GateService, sdk: str, file: str) -> Gate:
    """The App whose key and secret are written into the suite."""
    skip_unless_installed(sdk)
    source = (NODE / "node_modules" / sdk / file).read_text()
    key, secret = (re.search(rf"{name}\s*[:=]\s*'(\w+)'", source, re.IGNORECASE) for name in ("appkey", r"\w*secret"))
    if key is None or secret is None:
        pytest.fail(f"{file} of {sdk} names no key and secret")
    return new_app(service, key[1], secret[1], "development")
