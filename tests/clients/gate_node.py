"""The live Gate that the clients meet."""

from __future__ import annotations

from dataclasses import dataclass

from harness.service import GateService, Services
from tests.cli.command import Command


@dataclass(frozen=True, slots=True)
class Node:
    """A Gate on which bob has mallory on the Blacklist, with the credentials of its first App."""

    service: GateService
    key: str
    secret: str


def start_node(services: Services) -> Node:
    service = services.start()
    credentials = service.credentials
    Command(service.data, credentials.app_key)("blacklist", "add", "bob", "mallory")
    return Node(service, credentials.app_key, credentials.app_secret)
