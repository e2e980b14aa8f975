"""What the Kubernetes manifests promise each other and the program: names, ports, probes, deadlines, confinement.

That each is a manifest at all is `make lint`'s: it holds them to Kubernetes's own schemas.
"""

from __future__ import annotations

from typing import Any

from gate.http.app import PROBES
from tests.deploy.files import (
    DEPLOY,
    containerfile_words,
    image_settings,
    kubernetes_settings,
    load_yaml,
    manifest,
    manifests,
)

FOLDER = DEPLOY / "kubernetes"


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifest("StatefulSet")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    [only] = pod()["containers"]
    return dict(only)


def test_every_manifest_is_applied_but_the_example() -> None:
    listed = {*load_yaml("kubernetes/kustomization.yaml")["resources"], "kustomization.yaml", "secret.example.yaml"}
    assert listed == {path.name for path in FOLDER.glob("*")}


def test_everything_lies_in_one_namespace() -> None:
    [namespace] = [one["metadata"]["name"] for one in manifests() if one["kind"] == "Namespace"]
    assert load_yaml("kubernetes/kustomization.yaml")["namespace"] == namespace
    assert {one["metadata"]["namespace"] for one in manifests() if one["kind"] != "Namespace"} == {namespace}


def test_selectors_meet_the_pods() -> None:
    labels = manifest("StatefulSet")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [one["spec"]["selector"] for one in manifests() if one["kind"] == "Service"]
    selectors += [manifest(kind)["spec"]["selector"]["matchLabels"] for kind in ("StatefulSet", "PodDisruptionBudget")]
    selectors += [one["labelSelector"]["matchLabels"] for one in pod()["topologySpreadConstraints"]]
    selectors.append(manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    assert len(selectors) == 8
    assert all(selector and selector.items() <= labels for selector in selectors)


def test_ports_are_those_of_the_image_and_the_settings() -> None:
    named = {port["name"]: port["containerPort"] for port in container()["ports"]}
    exposed = [int(port) for port in containerfile_words()["EXPOSE"][0].split()]
    assert [named["http"], named["resp"]] == exposed
    assert named["health"] == int(kubernetes_settings()["GATE_HEALTH"].rpartition(":")[2])
    settings = kubernetes_settings()
    assert [int(settings[name].rpartition(":")[2]) for name in ("GATE_HTTP", "GATE_RESP")] == exposed
    for service in (one for one in manifests() if one["kind"] == "Service"):
        assert all(named[port["targetPort"]] == port["port"] for port in service["spec"]["ports"])
    allowed = [port["port"] for rule in manifest("NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]]
    assert sorted(allowed) == sorted(named)
    annotations = manifest("StatefulSet")["spec"]["template"]["metadata"]["annotations"]
    assert int(annotations["prometheus.io/port"]) == named["health"]


def test_probes_ask_what_each_is_for() -> None:
    probes = {name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert all(probe["path"] in PROBES for probe in probes.values())
    assert [probes[name]["port"] for name in probes] == ["health", "health", "health"]
    assert [probes[name]["path"] for name in probes] == ["/healthz", "/healthz", "/readyz"]


def test_a_stop_is_given_the_time_that_it_takes() -> None:
    [sleep, seconds] = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    drain_s = float(kubernetes_settings()["GATE_DRAIN_TIMEOUT"])
    assert pod()["terminationGracePeriodSeconds"] > int(seconds) + drain_s


def test_data_lies_on_the_volume_and_nothing_else_is_written() -> None:
    mounts = {one["name"]: one["mountPath"] for one in container()["volumeMounts"]}
    [claim] = manifest("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert kubernetes_settings()["GATE_DATA"].startswith(mounts[claim["metadata"]["name"]] + "/")
    assert mounts[claim["metadata"]["name"]] == image_settings()["GATE_DATA"]
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert {volume["name"] for volume in pod()["volumes"]} == mounts.keys() - {claim["metadata"]["name"]}
    writable = {one["mountPath"] for one in container()["volumeMounts"] if not one.get("readOnly")}
    assert writable == {mounts[claim["metadata"]["name"]], "/tmp"}


def test_pods_are_confined_as_their_namespace_demands() -> None:
    assert manifest("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    context = pod()["securityContext"]
    assert context["runAsNonRoot"] is True and context["seccompProfile"]["type"] == "RuntimeDefault"
    # The owner of what the image holds, and of what the volume is given to.
    assert [str(context[name]) for name in ("runAsUser", "runAsGroup", "fsGroup")] == containerfile_words()["USER"] * 3
    own = container()["securityContext"]
    assert own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}
    assert pod()["automountServiceAccountToken"] is False


def test_secrets_are_files_and_redis_must_be_named() -> None:
    held = manifest("Secret")["stringData"]
    [mount] = [one["mountPath"] for one in container()["volumeMounts"] if one["name"] == "secrets"]
    [volume] = [one["secret"] for one in pod()["volumes"] if one["name"] == "secrets"]
    assert volume["secretName"] == manifest("Secret")["metadata"]["name"]
    assert not volume["defaultMode"] & 0o007 and not volume.get("optional")
    # An embedded server in each of several pods would be several truths.
    assert kubernetes_settings()["GATE_REDIS_FILE"] == f"{mount}/redis-url"
    assert set(held) == {"redis-url", "presence-redis-url"}
    assert "env" not in container() and "secretRef" not in str(container()["envFrom"])
    assert not any("redis://" in value or "rediss://" in value for value in manifest("ConfigMap")["data"].values())


def test_redis_can_be_reached() -> None:
    egress = [port["port"] for rule in manifest("NetworkPolicy")["spec"]["egress"] for port in rule["ports"]]
    assert {int(url.rsplit(":", 1)[1].split("/")[0]) for url in manifest("Secret")["stringData"].values()} <= set(
        egress
    )


def test_one_node_at_a_time_is_taken_away() -> None:
    assert manifest("StatefulSet")["spec"]["replicas"] > manifest("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert manifest("StatefulSet")["spec"]["serviceName"] in [
        one["metadata"]["name"]
        for one in manifests()
        if one["kind"] == "Service" and one["spec"].get("clusterIP") == "None"
    ]


# What a cluster may add: deploy/kubernetes-edge


def edge(kind: str) -> dict[str, Any]:
    """The object of that kind in the folder of additions."""
    listed = load_yaml("kubernetes-edge/kustomization.yaml")["resources"]
    folder = DEPLOY / "kubernetes-edge"
    assert {*listed, "kustomization.yaml"} == {path.name for path in folder.iterdir()}
    [found] = [one for name in listed if (one := load_yaml(f"kubernetes-edge/{name}"))["kind"] == kind]
    assert found["metadata"]["namespace"] == "gate"
    return dict(found)


def service(name: str) -> dict[str, Any]:
    return manifest("Service", name)


def test_the_ingress_opens_public_paths_of_a_service_that_is_there() -> None:
    [rule] = edge("Ingress")["spec"]["rules"]
    assert [host for one in edge("Ingress")["spec"]["tls"] for host in one["hosts"]] == [rule["host"]]
    for path in rule["http"]["paths"]:
        assert path["pathType"] == "Prefix"
        backend = path["backend"]["service"]
        assert backend["port"]["name"] in [port["name"] for port in service(backend["name"])["spec"]["ports"]]
    # A prefix of whole segments: /v1 would open the operators' paths below it, and / everything.
    assert {path["path"] for path in rule["http"]["paths"]} == {"/client", "/user"}


def test_the_autoscaler_keeps_as_many_nodes_as_are_needed() -> None:
    spec, nodes = edge("HorizontalPodAutoscaler")["spec"], manifest("StatefulSet")
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": nodes["metadata"]["name"]}
    assert manifest("PodDisruptionBudget")["spec"]["maxUnavailable"] < nodes["spec"]["replicas"] == spec["minReplicas"]
    [metric] = spec["metrics"]
    # A share of what is requested: without a request nothing is known.
    assert metric["resource"]["name"] in container()["resources"]["requests"]
    assert [policy["value"] for policy in spec["behavior"]["scaleDown"]["policies"]] == [1]


def test_the_service_monitor_finds_each_pod_once() -> None:
    monitor = edge("ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    services = [one for one in manifests() if one["kind"] == "Service"]
    [scraped] = [one for one in services if wanted <= one["metadata"]["labels"].items()]
    assert scraped["spec"]["publishNotReadyAddresses"] is True
    [endpoint] = monitor["endpoints"]
    assert endpoint["port"] in [port["name"] for port in scraped["spec"]["ports"]]
    # Alerts ask for the job by its name.
    assert scraped["metadata"]["labels"][monitor["jobLabel"]] == "gate"
    assert endpoint["interval"] == load_yaml("prometheus/prometheus.yaml")["global"]["scrape_interval"]
