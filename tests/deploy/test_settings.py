"""What the deployed files set must exist in the program: options, ports, deadlines, metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from gate.config import OPTIONS, REDIS_FILES, read_config
from gate.metrics import StatusCollector
from gate.replica.status_page import State, StatusView
from tests.deploy.files import (
    DEPLOY,
    REPOSITORY,
    Settings,
    compose_settings,
    containerfile_words,
    image_settings,
    kubernetes_settings,
    load_yaml,
    unit_lines,
    unit_settings,
    with_url_file,
)

SETTINGS: dict[str, Callable[[], Settings]] = {
    "Containerfile": image_settings,
    "compose.yaml": compose_settings,
    "gate.service": unit_settings,
    "kubernetes": kubernetes_settings,
}
ZEROS = StatusView(State.CURRENT, True, 0, 0, 0, 0, 0, 0)
DRAIN_S = float(OPTIONS["drain_timeout"].default or 0)


@pytest.mark.parametrize("file", SETTINGS)
def test_every_setting_is_an_option_with_a_value_that_it_takes(file: str, tmp_path: Path) -> None:
    settings = SETTINGS[file]()
    assert settings
    assert set(settings) <= {*REDIS_FILES, *(option.variable for option in OPTIONS.values())}
    read_config({}, with_url_file(settings, tmp_path / "redis-url", "redis://:s3cret@redis:6379/0"))


def test_the_image_and_compose_agree_on_ports() -> None:
    ports = [image_settings()[name].rpartition(":")[2] for name in ("GATE_HTTP", "GATE_RESP")]
    service = load_yaml("compose.yaml")["services"]["gate"]
    assert containerfile_words()["EXPOSE"] == [" ".join(ports)]
    assert [compose_settings()[name].rpartition(":")[2] for name in ("GATE_HTTP", "GATE_RESP")] == ports
    assert [published.rpartition(":")[2] for published in service["ports"]] == ports
    assert f"127.0.0.1:{ports[0]}/readyz" in service["healthcheck"]["test"][-1]
    assert f"{image_settings()['GATE_HEALTH']}/healthz" in (DEPLOY / "Containerfile").read_text()
    assert load_yaml("prometheus/prometheus.yaml")["scrape_configs"][0]["static_configs"][0]["targets"] == [
        f"127.0.0.1:{ports[0]}"
    ]


def test_data_lies_on_the_volume() -> None:
    [volume] = containerfile_words()["VOLUME"]
    assert image_settings()["GATE_DATA"] == volume
    assert f"gate:{volume}" in load_yaml("compose.yaml")["services"]["gate"]["volumes"]
    state = dict(unit_lines())["StateDirectory"]
    assert unit_settings()["GATE_DATA"] == f"/var/lib/{state}"


def test_everyone_waits_longer_than_a_drain_takes() -> None:
    graces = [service["stop_grace_period"] for service in load_yaml("compose.yaml")["services"].values()]
    assert all(float(grace.removesuffix("s")) > DRAIN_S for grace in graces)
    unit = dict(unit_lines())
    assert float(unit["TimeoutStopSec"]) > DRAIN_S
    # A signal to every process at once would stop the embedded server first.
    assert unit["KillMode"] == "mixed"


def test_the_image_is_built_from_what_its_context_holds() -> None:
    held = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {
        "gate",
        "pyproject.toml",
        "requirements.in",
        "requirements.lock",
        "LICENSE",
        "README.md",
        "setup.py",
    } == held
    assert all((REPOSITORY / name).exists() for name in held)


def test_a_crash_leaves_no_core_file() -> None:
    assert dict(unit_lines())["LimitCORE"] == "0"


def exported() -> set[str]:
    """Every name of a sample's family, as a query writes it."""
    families = [*REGISTRY.collect(), *StatusCollector(lambda: ZEROS, lambda: {"http": True}).collect()]
    names = set()
    for family in families:
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names
