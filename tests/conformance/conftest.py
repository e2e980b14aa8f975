"""One Gate for all of conformance, and on it an App for each module: what an SDK's user has, and no more."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from harness.service import GateService, Services
from tests.conformance.gate import Gate, new_app


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GateService]:
    services = Services(lambda: tmp_path_factory.mktemp("conformance"))
    yield services.start()
    services.end_all()


@pytest.fixture(scope="module")
def gate(service: GateService) -> Gate:
    """An App without a limit of Users."""
    return new_app(service, secrets.token_hex(6), secrets.token_hex(12), "production")


@pytest.fixture
def development(service: GateService) -> Gate:
    """A development App of the test's own, where Users can be deleted."""
    return new_app(service, secrets.token_hex(6), secrets.token_hex(12), "development")
