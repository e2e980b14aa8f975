"""One service for the module, and for each test an App of its own on it."""

from __future__ import annotations

import secrets

import pytest

from harness.service import GateService, Services
from tests.cli.command import Command


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    return start_module_service.start()


@pytest.fixture
def gate(service: GateService) -> Command:
    """The command, for an App that no other test uses."""
    key = secrets.token_hex(4)
    Command(service.data)("app", "create", "Test", "--key", key)
    return Command(service.data, key)


@pytest.fixture(scope="module")
def anyone(service: GateService) -> Command:
    """The command, for the first App: where nothing is written, none need be made."""
    return Command(service.data, service.credentials.app_key)
