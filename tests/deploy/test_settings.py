"""What the deployed files set must exist in the program: options, ports, deadlines, metrics."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from gate.config import OPTIONS, REDIS_FILES, read_config
from gate.metrics import StatusCollector
from gate.replica.status_page import State, StatusView
from gate.service.heartbeats import BEAT_EVERY_S
from gate.service.node_metrics import NodeCollector
from tests.deploy.files import (
    DEPLOY,
    REPOSITORY,
    Settings,
    assignments,
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


def test_the_labels_of_the_image_are_those_of_the_package() -> None:
    labels = {name: text for line in containerfile_words()["LABEL"] for name, text in assignments(line).items()}
    named = {name.removeprefix("org.opencontainers.image."): text for name, text in labels.items()}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert named["version"] == project["version"] and named["licenses"] == project["license"]
    assert named["description"] == project["description"]
    base = re.search(r"^FROM (\S+)@", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    assert base and named["base.name"] == f"docker.io/library/{base[1]}"
    assert named["revision"] == "${REVISION}" and load_yaml("compose.yaml")["services"]["gate"]["build"]["args"]


def test_systemd_waits_for_what_the_supervisor_reports() -> None:
    unit = dict(unit_lines())
    assert (unit["Type"], unit["NotifyAccess"]) == ("notify", "main")
    # A snapshot of millions of facts may take minutes, and a node that serves from its Replica waits for Redis.
    assert unit["TimeoutStartSec"] == "infinity"
    assert float(unit["WatchdogSec"]) > 10 * BEAT_EVERY_S


def test_the_image_must_be_named() -> None:
    image = load_yaml("compose.yaml")["services"]["gate"]["image"]
    assert image.startswith("${GATE_IMAGE:?") and "build" in load_yaml("compose.yaml")["services"]["gate"]


def test_monitoring_scrapes_the_service_and_shows_the_dashboard() -> None:
    services = load_yaml("monitoring.compose.yaml")["services"]
    alone, composed = (load_yaml(f"prometheus/{name}.yaml") for name in ("prometheus", "compose-prometheus"))
    [target] = composed["scrape_configs"][0]["static_configs"][0]["targets"]
    port = compose_settings()["GATE_HTTP"].rpartition(":")[2]
    assert target == f"gate:{port}"
    alone["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    [[manager]] = [one["targets"] for one in composed.pop("alerting")["alertmanagers"][0]["static_configs"]]
    assert manager.partition(":")[0] in services, "Prometheus sends alerts to the Alertmanager next to it"
    assert alone == composed
    prometheus, grafana = services["prometheus"], services["grafana"]
    assert f"--config.file=/etc/prometheus/{'compose-prometheus.yaml'}" in prometheus["command"]
    assert "edge" in load_yaml("compose.yaml")["services"]["gate"]["networks"] and "edge" in prometheus["networks"]
    [source] = load_yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090" and "monitoring" in prometheus["networks"] + grafana["networks"]
    [provider] = load_yaml("grafana/provisioning/dashboards/gate.yaml")["providers"]
    mounts = dict(mount.removesuffix(":ro").split(":") for mount in grafana["volumes"])
    assert mounts["./grafana/gate.json"] == f"{provider['options']['path']}/gate.json"
    assert mounts["./grafana/gate.json"] == grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    password = grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"]
    assert password == f"/run/secrets/{grafana['secrets'][0]}"


def test_a_crash_leaves_no_core_file() -> None:
    assert dict(unit_lines())["LimitCORE"] == "0"


def exported() -> set[str]:
    """Every name of a sample's family, as a query writes it."""
    of_node = NodeCollector(lambda: {"http": os.getpid()}, REPOSITORY).collect()
    families = [*REGISTRY.collect(), *StatusCollector(lambda: ZEROS, lambda: {"http": True}).collect(), *of_node]
    names = set()
    for family in families:
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names
