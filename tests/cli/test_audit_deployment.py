"""`gate audit --deployment`: each command that changes an App or an operator writes its actor and reason there."""

from __future__ import annotations

import json
import secrets
import urllib.request
from typing import Any

import pytest

from harness.service import GateService, Services
from tests.cli.command import Command
from tests.cli.test_operators import status_of

WHY = ("--reason", "as agreed", "--actor", "ann")


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    """Entries of the deployment are counted."""
    return start_module_service.start()


def of(gate: Command, about: str) -> list[tuple[str, str, str]]:
    entries = gate.json("audit", "--deployment", "--limit", "1000")["entries"]
    return [(one["what"], one["actor"], one["reason"]) for one in reversed(entries) if one["about"] == about]


def test_an_app_has_entries_from_its_creation_to_its_removal(service: GateService) -> None:
    gate, key = Command(service.data), secrets.token_hex(4)
    gate("app", "create", "Shop", "--key", key, *WHY)
    gate("app", "set", key, "--name", "Shop 2", *WHY)
    gate("app", "rotate-secret", key, *WHY)
    gate("app", "remove", key, "--yes", *WHY)
    assert of(gate, key) == [
        (kind, "ann", "as agreed") for kind in ("app-created", "app-changed", "app-changed", "app-removed")
    ]
    assert "app-removed" in gate("audit", "--deployment").out


def test_an_operator_has_entries_and_a_user_is_refused(service: GateService) -> None:
    gate = Command(service.data)
    gate("operator", "add", "eve", "--role", "viewer", *WHY)
    gate("operator", "role", "eve", "operator", *WHY)
    gate("operator", "passwd", "eve", *WHY)
    gate("operator", "remove", "eve", *WHY)
    kinds = ("operator-added", "operator-changed", "operator-changed", "operator-removed")
    assert of(gate, "eve") == [(kind, "ann", "as agreed") for kind in kinds]
    assert "--deployment" in gate("audit", "--deployment", "--user", "bob", status=2).err


def test_http_has_the_same_and_takes_an_operator(service: GateService) -> None:
    credentials = service.credentials
    assert status_of(service, credentials.operator, "wrong", "/v1/deployment-audit") == 401
    pages: list[dict[str, Any]] = []
    cursor: str | None = ""
    password = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    password.add_password(None, service.http, credentials.operator, credentials.operator_password)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(password))
    while cursor is not None:
        with opener.open(f"{service.http}/v1/deployment-audit?count=3&cursor={cursor}", timeout=10) as response:
            page = json.load(response)
        pages += page["entries"]
        cursor = page["next"]
    assert pages == Command(service.data).json("audit", "--deployment", "--limit", "1000")["entries"]
