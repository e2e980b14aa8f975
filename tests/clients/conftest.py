"""One Gate for all clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.service import Services
from tests.clients.gate_node import Node, start_node


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    services = Services(lambda: tmp_path_factory.mktemp("clients"))
    yield start_node(services)
    services.end_all()
