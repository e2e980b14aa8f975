"""The compose and Kubernetes overlays with Sentinels and with Redis Cluster: what their files promise each other."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gate.config import OPTIONS, REDIS_FILES, read_config
from gate.store.address import parse_address
from tests.deploy.files import DEPLOY, load_yaml, with_url_file

KINDS = ("sentinel", "cluster")
CONF = DEPLOY / "redis"
SECRETS = {"redis-password", "redis-admin-password"}
OF_GRAFANA = "grafana-password"
POD = re.compile(r"(?P<set>[a-z]+)-(?P<number>\d)\.(?P<service>[a-z]+)(\.gate\.svc\.cluster\.local)?")


def merged(base: Any, over: Any) -> Any:
    """As compose and kustomize put an overlay on a base; lists of the overlay take the place of the base's."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {name: merged(base.get(name), value) for name, value in over.items()}


def composed(kind: str) -> dict[str, Any]:
    whole = merged(load_yaml("compose.yaml"), load_yaml(f"{kind}.compose.yaml"))
    assert isinstance(whole, dict)
    return whole


def objects(kind: str, names: list[str] | None = None) -> list[dict[str, Any]]:
    folder = DEPLOY / f"kubernetes-{kind}"
    listed = load_yaml(f"kubernetes-{kind}/kustomization.yaml")["resources"]
    files = names or [name for name in listed if name.endswith(".yaml")]
    return [one for name in files for one in yaml.safe_load_all((folder / name).read_text())]


def sets(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects(kind) if one["kind"] == "StatefulSet"}


def pods(kind: str) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in objects(kind) if one["kind"] in ("StatefulSet", "Job")]


def hosts_of(url: str) -> list[tuple[str, int]]:
    """Host and port of each server that a URL of Gate names."""
    listed = url.partition("://")[2].rpartition("@")[2].partition("/")[0].partition("?")[0]
    default = 26_379 if "sentinel" in url.partition("://")[0] else 6379
    each = (host.partition(":") for host in listed.split(","))
    return [(host, int(port or default)) for host, _, port in each]


# Compose


def made_secrets(kind: str, folder: Path) -> dict[str, str]:
    """What `make-secrets` writes, by file."""
    environment = {**os.environ, "FOLDER": str(folder / "secrets")}
    subprocess.run([DEPLOY / "make-secrets", kind], env=environment, check=True, capture_output=True)
    return {file.name: file.read_text().strip() for file in (folder / "secrets").iterdir()}


def test_secrets_are_random_kept_and_closed_to_other_users(tmp_path: Path) -> None:
    made = made_secrets("single", tmp_path)
    assert set(made) == {*SECRETS, OF_GRAFANA, "redis-url"}
    assert len({made[name] for name in (*SECRETS, OF_GRAFANA)}) == 3 and all(len(made[name]) == 48 for name in SECRETS)
    assert made["redis-url"] == f"redis://:{made['redis-password']}@redis:6379/0"
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    again = made_secrets("cluster", tmp_path)
    assert {name: again[name] for name in SECRETS} == {name: made[name] for name in SECRETS}
    wrong = subprocess.run([DEPLOY / "make-secrets", "all"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr) == (2, "usage: make-secrets single|sentinel|cluster\n")


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_compose_has_no_password_in_arguments_or_environment(kind: str | None) -> None:
    whole = load_yaml("compose.yaml") if kind is None else composed(kind)
    for service in whole["services"].values():
        assert "requirepass" not in str(service.get("command", ""))
        assert not {name for name in service.get("environment") or {} if "PASSWORD" in name or "AUTH" in name}
        assert "PASSWORD" not in str(service.get("environment"))


@pytest.mark.parametrize("kind", KINDS)
def test_compose_gives_gate_a_url_of_services_that_are_there(kind: str, tmp_path: Path) -> None:
    services = composed(kind)["services"]
    given = {name: text for name, text in services["gate"]["environment"].items() if text}
    assert given["GATE_DURABILITY"] == "replica"
    assert set(given) <= {*REDIS_FILES, *(option.variable for option in OPTIONS.values())}
    password, url = (made_secrets(kind, tmp_path)[name] for name in ("redis-password", "redis-url"))
    read_config({}, with_url_file(given, tmp_path / "url", url))
    assert url.startswith(f"redis+{kind}://gate:{password}@")
    parse_address(url)
    for host, port in hosts_of(url):
        assert host in services
        assert str(port) == str(services[host].get("environment", {}).get("PORT", "6379"))


@pytest.mark.parametrize("kind", KINDS)
def test_compose_starts_as_many_servers_as_a_failover_needs(kind: str) -> None:
    whole = composed(kind)
    by_verb: dict[str, list[str]] = {}
    for name, service in whole["services"].items():
        if name != "gate":
            by_verb.setdefault(service["command"][-1], []).append(name)
            assert service["command"][:2] == ["sh", "/etc/gate-redis/run"]
            assert set(service["secrets"]) == SECRETS
            assert "./redis:/etc/gate-redis:ro" in service["volumes"]
    expected = {"sentinel": {"server": 3, "sentinel": 3}, "cluster": {"cluster": 6, "form": 1}}[kind]
    assert {verb: len(names) for verb, names in by_verb.items()} == expected
    kept = [volume for verb, names in by_verb.items() if verb != "form" for volume in volumes_of(whole, names)]
    assert len(kept) == len(set(kept)) == sum(expected.values()) - expected.get("form", 0)
    assert set(kept) <= set(whole["volumes"])
    assert {name: each["file"] for name, each in whole["secrets"].items()} == {
        name: f"./secrets/{name}" for name in (*SECRETS, "redis-url")
    }


def volumes_of(whole: dict[str, Any], names: list[str]) -> list[str]:
    mounts = [mount.split(":") for name in names for mount in whole["services"][name]["volumes"]]
    return [name for name, path, *_ in mounts if path == "/data"]


@pytest.mark.parametrize("kind", KINDS)
def test_compose_names_only_services_that_are_there(kind: str) -> None:
    services = composed(kind)["services"]
    for name, service in services.items():
        variables = service.get("environment", {})
        assert service.get("environment", {}).get("NAME", name) == name
        named = [*variables.get("SENTINELS", "").split(), *variables.get("NODES", "").split()]
        named += [variables["FIRST"].replace(" ", ":")] if "FIRST" in variables else []
        assert {host.partition(":")[0] for host in named} <= set(services)
        assert set(service.get("depends_on", {})) <= set(services)
    if kind == "cluster":
        servers = [name for name, service in services.items() if service.get("command", [""])[-1] == "cluster"]
        assert services["form"]["environment"]["NODES"].split() == [f"{name}:6379" for name in servers]


# Kubernetes


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_the_folder_is_applied_but_the_example(kind: str) -> None:
    kustomization = load_yaml(f"kubernetes-{kind}/kustomization.yaml")
    patches = [patch["path"] for patch in kustomization["patches"]]
    folders = [name for name in kustomization["resources"] if not name.endswith(".yaml")]
    files = [name for name in kustomization["resources"] if name.endswith(".yaml")]
    folder = DEPLOY / f"kubernetes-{kind}"
    assert {*files, *patches, "kustomization.yaml", "secret.example.yaml"} == {path.name for path in folder.iterdir()}
    assert [(folder / name).resolve().name for name in folders] == ["kubernetes", "redis"]
    assert kustomization["namespace"] == "gate"
    assert {one["metadata"]["namespace"] for one in objects(kind)} == {"gate"}


def test_the_map_of_files_holds_all_of_them_under_the_name_that_pods_mount() -> None:
    kustomization = load_yaml("redis/kustomization.yaml")
    [generated] = kustomization["configMapGenerator"]
    assert {*generated["files"], "kustomization.yaml"} == {path.name for path in CONF.iterdir()}
    assert kustomization["generatorOptions"] == {"disableNameSuffixHash": True}
    for kind in KINDS:
        for pod in pods(kind):
            by_name = {volume["name"]: volume for volume in pod["volumes"]}
            assert by_name["conf"]["configMap"]["name"] == generated["name"]
            [container] = pod["containers"]
            paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert (paths["conf"], paths["passwords"]) == ("/etc/gate-redis", "/run/secrets")


@pytest.mark.parametrize("kind", KINDS)
def test_the_patch_of_the_settings_is_one_of_gate(kind: str, tmp_path: Path) -> None:
    base = load_yaml("kubernetes/settings.yaml")
    patch = load_yaml(f"kubernetes-{kind}/settings.yaml")
    assert (patch["kind"], patch["metadata"]) == (base["kind"], {"name": "gate", "namespace": "gate"})
    assert patch["data"] == {"GATE_DURABILITY": "replica"}
    url = objects(kind, ["secret.example.yaml"])[1]["stringData"]["redis-url"]
    read_config({}, with_url_file(base["data"] | patch["data"], tmp_path / "redis-url", url))


@pytest.mark.parametrize("kind", KINDS)
def test_secrets_hold_what_pods_read_and_a_url_of_pods_that_are_there(kind: str) -> None:
    by_name = {one["metadata"]["name"]: one["stringData"] for one in objects(kind, ["secret.example.yaml"])}
    assert set(by_name["redis"]) == SECRETS
    assert all(pod["volumes"][-1]["secret"]["secretName"] == "redis" for pod in pods(kind))
    url = by_name["gate"]["redis-url"]
    assert url.startswith(f"redis+{kind}://gate:PASSWORD@")
    parse_address(url)
    assert_pods(kind, hosts_of(url))
    egress = load_yaml("kubernetes/network-policy.yaml")["spec"]["egress"]
    assert {port for _, port in hosts_of(url)} <= {port["port"] for rule in egress for port in rule["ports"]}


def assert_pods(kind: str, hosts: list[tuple[str, int]]) -> None:
    for host, port in hosts:
        found = POD.fullmatch(host)
        assert found, host
        stateful = sets(kind)[found["set"]]
        assert found["service"] == stateful["spec"]["serviceName"]
        assert int(found["number"]) < stateful["spec"]["replicas"]
        [container] = stateful["spec"]["template"]["spec"]["containers"]
        assert port in [each["containerPort"] for each in container["ports"]]


@pytest.mark.parametrize("kind", KINDS)
def test_variables_name_pods_that_are_there(kind: str) -> None:
    for pod in pods(kind):
        variables = {one["name"]: one.get("value", "") for one in pod["containers"][0].get("env", [])}
        named = [*variables.get("SENTINELS", "").split(), *variables.get("NODES", "").split()]
        named += [variables["FIRST"].replace(" ", ":")] if "FIRST" in variables else []
        assert_pods(kind, [(each.partition(":")[0], int(each.partition(":")[2])) for each in named])
    if kind == "cluster":
        [job] = [one for one in objects(kind) if one["kind"] == "Job"]
        nodes = job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].split()
        assert len(nodes) == len(set(nodes)) == sets(kind)["redis"]["spec"]["replicas"] == 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_machine_or_a_drain_leaves_a_majority(kind: str) -> None:
    budgets = {one["metadata"]["name"]: one["spec"] for one in objects(kind) if one["kind"] == "PodDisruptionBudget"}
    assert set(budgets) == set(sets(kind))
    for name, stateful in sets(kind).items():
        labels = {"app.kubernetes.io/name": name}
        assert budgets[name]["maxUnavailable"] == 1 and budgets[name]["selector"]["matchLabels"] == labels
        pod = stateful["spec"]["template"]["spec"]
        [rule] = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert (rule["topologyKey"], rule["labelSelector"]["matchLabels"]) == ("kubernetes.io/hostname", labels)
        assert stateful["spec"]["template"]["metadata"]["labels"].items() >= labels.items()
        assert stateful["spec"]["selector"]["matchLabels"] == labels


@pytest.mark.parametrize("kind", KINDS)
def test_pods_of_redis_keep_their_data_and_are_confined(kind: str) -> None:
    for stateful in sets(kind).values():
        assert stateful["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Retain"
        [claim] = stateful["spec"]["volumeClaimTemplates"]
        [container] = stateful["spec"]["template"]["spec"]["containers"]
        assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}[
            claim["metadata"]["name"]
        ] == "/data"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["exec"]["command"] == ["sh", "/etc/gate-redis/run", "ping"]
    for pod in pods(kind):
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False
        own = pod["containers"][0]["securityContext"]
        assert own["readOnlyRootFilesystem"] is True and own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("kind", KINDS)
def test_gate_and_the_servers_themselves_may_reach_the_servers(kind: str) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in objects(kind) if one["kind"] == "NetworkPolicy"}
    assert set(policies) == set(sets(kind))
    for name, policy in policies.items():
        [rule] = policy["ingress"]
        allowed = {each["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for each in rule["from"]}
        assert allowed == {"gate", *sets(kind)}
        [container] = sets(kind)[name]["spec"]["template"]["spec"]["containers"]
        assert [each["port"] for each in rule["ports"]] == [each["containerPort"] for each in container["ports"]]
