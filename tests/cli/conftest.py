"""One service for the run, and for each test an App of its own on it.

A module whose tests change the deployment (its operators, its first App, its nodes) has a `service` of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from harness.service import GateService, SharedService
from tests.cli.command import Command


@pytest.fixture(scope="module")
def service(shared_service: SharedService) -> GateService:
    return shared_service.whole()


@pytest.fixture
def gate(service: GateService, shared_service: SharedService) -> Iterator[Command]:
    """The command, for an App that no other test uses."""
    key = secrets.token_hex(4)
    Command(service.data)("app", "create", "Test", "--key", key)
    yield Command(service.data, key)
    shared_service.expect_whole()


@pytest.fixture(scope="module")
def anyone(service: GateService) -> Command:
    """The command, for the first App: where nothing is written, none need be made."""
    return Command(service.data, service.credentials.app_key)
