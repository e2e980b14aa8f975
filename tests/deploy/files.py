"""The deployed files, read for the tests: their paths, and their settings and ports."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
REDIS_CONF = DEPLOY / "redis" / "redis.conf"

Settings = dict[str, str]


def load_yaml(name: str) -> Any:
    """One YAML file of the folder."""
    return yaml.safe_load((DEPLOY / name).read_text())


def containerfile_words() -> dict[str, list[str]]:
    """Every instruction of the image's last stage, by name, with what follows it; continued lines are joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    last_stage = text[text.rindex("\nFROM ") :]
    words: dict[str, list[str]] = {}
    for line in last_stage.splitlines():
        if line.strip():
            instruction, _, rest = line.strip().partition(" ")
            words.setdefault(instruction, []).append(rest.strip())
    return words


def assignments(text: str) -> Settings:
    """`A=b C="d e"`, as ENV and Environment= have it."""
    return dict(word.split("=", 1) for word in shlex.split(text) if "=" in word)


def image_settings() -> Settings:
    """What the image sets of Gate."""
    return {
        k: v for line in containerfile_words()["ENV"] for k, v in assignments(line).items() if k.startswith("GATE_")
    }


def compose_settings() -> Settings:
    """What compose sets of Gate, with variables of the caller's shell unset."""
    declared = load_yaml("compose.yaml")["services"]["gate"]["environment"]
    return {name: text for name, text in declared.items() if text is not None}


def manifests() -> list[dict[str, Any]]:
    """Every Kubernetes object that the kustomization applies, and the example of the secret."""
    listed = [*load_yaml("kubernetes/kustomization.yaml")["resources"], "secret.example.yaml"]
    return [one for name in listed for one in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())]


def manifest(kind: str, name: str = "gate") -> dict[str, Any]:
    """The one of that kind and name."""
    [found] = [one for one in manifests() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def kubernetes_settings() -> Settings:
    """What a pod sets of Gate."""
    return dict(manifest("ConfigMap")["data"])


def with_url_file(settings: Settings, file: Path, url: str) -> Settings:
    """The settings with the file of Redis's URL at another path, with this URL in it."""
    file.write_text(url)
    return {name: str(file) if name == "GATE_REDIS_FILE" else value for name, value in settings.items()}


def unit_lines() -> list[tuple[str, str]]:
    """Every `Name=value` of the systemd unit, in order."""
    lines = (line for line in (DEPLOY / "gate.service").read_text().splitlines() if not line.startswith("#"))
    return [(name, value) for name, found, value in (line.partition("=") for line in lines) if found]


def unit_settings() -> Settings:
    """What the unit sets of Gate."""
    settings = [value for name, value in unit_lines() if name == "Environment"]
    return {k: v for value in settings for k, v in assignments(value).items() if k.startswith("GATE_")}


def redis_settings() -> list[tuple[str, str]]:
    """Every directive of redis.conf, in order."""
    lines = [line.strip() for line in REDIS_CONF.read_text().splitlines()]
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(name, value.strip('" ')) for name, _, value in pairs]
