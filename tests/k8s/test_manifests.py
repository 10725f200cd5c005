"""The manifests of k8s/: rendered by kubectl, checked against the schemas of Kubernetes, against Pod Security's `restricted`, and
against what tunerd's configuration in them says.
"""

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from tests.k8s.manifests import OVERLAYS, containers, pod_spec, rendered, rendered_with, tunerd_of, workload
from tests.k8s.prometheus_rule import FILE, made
from tests.real_parts import needs_program
from tunerd.config.quantities import parse_duration
from tunerd.loading.config_file import load_text
from tunerd.mapping import compile_sources

VERSIONS: Final = ("1.30", "1.32", "1.35")
CUSTOM: Final = ("PodMonitor", "PrometheusRule")
"""Kinds of the Prometheus Operator, whose schemas are not Kubernetes' own."""
EXTRAS: Final = ("monitoring", "network-policy")

pytestmark = [needs_program("kubectl", "it renders the manifests (a kubectl with kustomize 5, so 1.27 or newer)")]


@cache
def objects_of(overlay: str) -> list[dict[str, Any]]:
    return rendered(overlay)


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return objects_of(request.param)


def config_of(objects: list[dict[str, Any]]) -> Any:
    [config_map] = [one for one in objects if one["kind"] == "ConfigMap"]
    return load_text(config_map["data"]["config.yaml"], "/etc/tunerd/config.yaml", {})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_knows_every_field(tmp_path: Path, overlay: str, version: str) -> None:
    """The schemas of three versions, strictly: no unknown field, no wrong type."""
    objects = rendered_with(tmp_path, overlay, EXTRAS)
    assert {one["kind"] for one in objects} >= {"ConfigMap", "ServiceAccount", "NetworkPolicy", *CUSTOM}
    for one in objects:
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, version, strict=True)


def test_the_schemas_find_a_typo() -> None:
    """The check is strict: a field with a typing error fails it."""
    wrong = yaml.safe_load(yaml.safe_dump(workload(objects_of("native-sidecar"))))
    tunerd_of(wrong["spec"]["template"]["spec"])["securityContext"]["readOnlyRootFileSystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRootFileSystem"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_pod_security_restricted(objects: list[dict[str, Any]]) -> None:
    """A namespace that enforces `restricted` admits the pod: every control of that standard, for the agent's container, too."""
    spec = pod_spec(objects)
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    assert all(volume.keys() - {"name"} <= allowed for volume in spec["volumes"])
    for container in containers(spec):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["runAsNonRoot"] is True
        assert context.get("runAsUser", 1) != 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"privileged", "procMount", "seLinuxOptions"} & context.keys()
        assert not any("hostPort" in port for port in container.get("ports", ()))
    assert tunerd_of(spec)["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["automountServiceAccountToken"] is False


def test_the_configuration_fits_the_pod(objects: list[dict[str, Any]]) -> None:
    """It loads and its rules compile; ledger, sources and key are on mounted volumes, and the agent writes where tunerd reads."""
    spec, config = pod_spec(objects), config_of(objects)
    assert compile_sources(config, {})
    mounted = {mount["mountPath"]: mount["name"] for mount in tunerd_of(spec)["volumeMounts"]}
    templates = {one["metadata"]["name"] for one in workload(objects)["spec"].get("volumeClaimTemplates", ())}
    assert set(mounted.values()) == {volume["name"] for volume in spec["volumes"]} | templates
    files = [config.destinations[0].api_key_file, config.ledger.path, config.ledger.password_file]
    for path in (*(source.path for source in config.sources), *(str(Path(file).parent) for file in files if file is not None)):
        assert path in mounted, path
    [agent] = [one for one in spec["containers"] if one["name"] == "agent"]
    assert {mount["mountPath"]: mount["name"] for mount in agent["volumeMounts"]} == {"/calls": mounted["/calls"]}
    assert tunerd_of(spec)["args"] == ["run", "--watch-config"]
    assert config.http.listen == ":9464"
    assert tunerd_of(spec)["ports"] == [{"name": "tunerd", "containerPort": 9464}]


def test_a_ledger_that_ends_with_its_pod_is_emptied(objects: list[dict[str, Any]]) -> None:
    """`on_stop: empty` on an emptyDir, `finish` on a volume and in PostgreSQL; and the grace period covers the drain with time for the
    agent to end."""
    spec, config = pod_spec(objects), config_of(objects)
    survives = workload(objects)["kind"] == "StatefulSet" or config.ledger.server is not None
    assert config.delivery.on_stop == ("finish" if survives else "empty")
    assert spec["terminationGracePeriodSeconds"] > config.delivery.drain_s + 15
    for source in config.sources:
        assert source.after_sent == "delete"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_ledger_fits_its_volume(overlay: str) -> None:
    """tunerd stops reading before the ledger outgrows its volume: of an emptyDir, the kubelet would evict the pod, and everything in it
    is lost. Open and failed calls need up to 1.25 times what counts (docs/sizing.md). Of a ledger in PostgreSQL only audio is there."""
    objects = objects_of(overlay)
    ledger = config_of(objects).ledger
    wanted = 1.25 * (ledger.max_pending_bytes + ledger.max_failed_bytes) if ledger.server is None else ledger.max_spool_bytes
    assert wanted * 1.2 < _size_of("ledger", objects)


def _size_of(volume: str, objects: list[dict[str, Any]]) -> float:
    """How large a volume of the pod may get, in bytes."""
    claims = {one["metadata"]["name"]: one["spec"] for one in workload(objects)["spec"].get("volumeClaimTemplates", ())}
    if volume in claims:
        size = claims[volume]["resources"]["requests"]["storage"]
    else:
        [size] = [one["emptyDir"]["sizeLimit"] for one in pod_spec(objects)["volumes"] if one["name"] == volume]
    number, unit = re.fullmatch(r"(\d+)([MG]i)", size).groups()  # type: ignore[union-attr]
    return float(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


def test_who_gets_its_signal_when() -> None:
    """A native sidecar is an init container that restarts, and gets SIGTERM after the agent; a plain one waits in a hook that leaves
    room for the drain."""
    for overlay in ("native-sidecar", "statefulset"):
        spec = pod_spec(objects_of(overlay))
        assert [one["name"] for one in spec["initContainers"]] == ["tunerd"]
        assert tunerd_of(spec)["restartPolicy"] == "Always"
    spec, config = pod_spec(objects_of("plain-sidecar")), config_of(objects_of("plain-sidecar"))
    hook = tunerd_of(spec)["lifecycle"]["preStop"]["exec"]["command"]
    assert hook[:3] == ["tunerd", "drain", "--deadline"]
    assert spec["terminationGracePeriodSeconds"] >= parse_duration(hook[3]) + config.delivery.drain_s + 15


def test_both_sidecars_are_the_same_container() -> None:
    """They differ only in how they start and stop."""
    native, plain = (tunerd_of(pod_spec(objects_of(name))) for name in ("native-sidecar", "plain-sidecar"))
    assert native.keys() ^ plain.keys() == {"restartPolicy", "lifecycle"}
    assert all(native[key] == plain[key] for key in native.keys() & plain.keys())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_prometheus_and_the_policy_find_the_pod(tmp_path: Path, overlay: str) -> None:
    """PodMonitor, NetworkPolicy and Service select the pod's labels and the container's port (the latter two by number: not
    every version of Kubernetes and its networks finds the named port of a native sidecar)."""
    objects = rendered_with(tmp_path, overlay, EXTRAS)
    labels = workload(objects)["spec"]["template"]["metadata"]["labels"]
    named = {one["kind"]: one["spec"] for one in objects if one["kind"] in ("PodMonitor", "NetworkPolicy", "Service")}
    assert named["PodMonitor"]["selector"]["matchLabels"].items() <= labels.items()
    assert named["PodMonitor"]["podMetricsEndpoints"][0]["port"] == "tunerd"
    assert named["NetworkPolicy"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert named["NetworkPolicy"]["ingress"][0]["ports"][0]["port"] == 9464
    assert {"name": "tunerd", "containerPort": 9464} in tunerd_of(pod_spec(objects))["ports"]
    if overlay == "statefulset":
        assert named["Service"]["selector"].items() <= labels.items()
        assert named["Service"]["ports"][0]["targetPort"] == 9464
        assert workload(objects)["spec"]["serviceName"] == "agent"


def test_the_key_is_not_in_the_repository() -> None:
    """The manifests name the Secret, and contain none."""
    for overlay in OVERLAYS:
        assert "Secret" not in {one["kind"] for one in objects_of(overlay)}


@needs_program("promtool", "it checks the alert rules (Debian: prometheus)")
def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    """The PrometheusRule holds the groups of monitoring/, and Prometheus itself understands them."""
    [rule] = [one for one in rendered_with(tmp_path, "native-sidecar", EXTRAS) if one["kind"] == "PrometheusRule"]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"SUCCESS: \d\d+ rules found", done.stdout), done.stdout


def test_the_alert_rules_are_those_of_monitoring() -> None:
    """The PrometheusRule is made from the files that a plain Prometheus reads."""
    assert FILE.read_text() == made(), "say make docs"


def test_the_database_is_reached_over_tls() -> None:
    """The server's name and certificate are checked with the authority of the Secret, and the password is not in the ConfigMap."""
    objects = objects_of("postgresql")
    server = config_of(objects).ledger.server
    assert server is not None
    assert "sslmode=verify-full&sslrootcert=/etc/tunerd-database/ca.crt" in server.reveal()
    assert ":" not in server.reveal().partition("://")[2].partition("@")[0], "no password in the URL"
    mounted = {mount["mountPath"] for mount in tunerd_of(pod_spec(objects))["volumeMounts"]}
    assert "/etc/tunerd-database" in mounted
